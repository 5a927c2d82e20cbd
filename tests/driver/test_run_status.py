"""The state of a run, as its driver collects, estimates and writes it."""

import logging
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import ValidationError
from msgspec.structs import replace

from asdbench.driver import run_status
from asdbench.driver.run_status import (
    N_KEPT,
    LocalTasks,
    RunMonitor,
    StatusWriter,
    search_left_s,
    status_from,
    tasks_left_s,
    typed_command,
)
from asdbench.engine.run_record import (
    RunningTask,
    RunStatus,
    SchedulerStatus,
    SearchStatus,
    exists,
    load_runs,
    name_of,
    save_run,
)
from asdbench.errors import InfrastructureError
from asdbench.io.storage import Storage, StorageError

RUN = RunStatus.from_command("asdbench run mine --data tiny")
NOW_S = RUN.began_unix_s + 100


def scheduler(**changes: Any) -> SchedulerStatus:
    status: dict[str, Any] = {
        "waiting": 4,
        "running": [
            {
                "label": "fan mine seed 0",
                "host": "gpu1",
                "node": "n1",
                "since_unix_s": NOW_S - 30,
                "step": None,
                "steps": None,
            }
        ],
        "done": 2,
        "failed": 1,
        "features": 3,
        "nodes": [
            {
                "node": "n2",
                "host": "gpu2",
                "running": 0,
                "done": 0,
                "quarantined_unix_s": NOW_S,
                "reason": "disk full",
            }
        ],
        "retries": [{"label": "fan mine seed 0", "host": "gpu2", "reason": "disk full", "unix_s": NOW_S}],
        "done_s": 200.0,
    }
    return {**status, **changes}  # type: ignore[typeddict-item,return-value]


def running(since_s: float, step: int | None = None, steps: int | None = None) -> RunningTask:
    return RunningTask("fan", "gpu1", "n1", NOW_S - since_s, step, steps)


def wait_until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage.from_location(tmp_path / "jobs")


@pytest.fixture(autouse=True)
def frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_status, "_PERIOD_S", 0.02)
    monkeypatch.setattr(run_status, "_CLEANING_PERIOD_S", 0.1)


def test_the_scheduler_and_the_searches_make_the_status() -> None:
    search = SearchStatus("mine", 5, 10, 1, 0.7, 0.6, NOW_S - 60, 2)
    status = status_from(scheduler(), [search], run=RUN, notes=["a note"], now_unix_s=NOW_S)
    assert (status.waiting, status.done, status.failed, status.features) == (4, 2, 1, 3)
    assert status.running == (RunningTask("fan mine seed 0", "gpu1", "n1", NOW_S - 30),)
    assert status.nodes[0].reason == "disk full"
    assert status.retries[0].host == "gpu2"
    assert status.searches == (search,)
    assert status.notes == ("a note",)
    assert status.heartbeat_unix_s == NOW_S
    assert (status.run_id, status.command) == (RUN.run_id, RUN.command)
    assert status.left_s == pytest.approx(
        470
    )  # 70 s of the running task and 4 of 100 s; the search takes 100 s


def test_the_search_decides_if_it_takes_longer_than_the_tasks() -> None:
    search = SearchStatus("mine", 3, 103, 1, None, None, NOW_S - 60, 2)
    assert status_from(scheduler(), [search], run=RUN, now_unix_s=NOW_S).left_s == pytest.approx(6000)


def test_an_unknown_part_leaves_the_time_unknown() -> None:
    search = SearchStatus("mine", 2, 10, 1, None, None, NOW_S - 60, 2)
    assert status_from(scheduler(), [search], run=RUN, now_unix_s=NOW_S).left_s is None
    unknown = scheduler()
    del unknown["done_s"]
    assert status_from(unknown, run=RUN, now_unix_s=NOW_S).left_s is None


def test_a_task_without_a_process_waits() -> None:
    (started,) = scheduler()["running"]
    submitted = {**started, "host": "", "node": "", "since_unix_s": 0.0}
    status = status_from(scheduler(running=[started, submitted]), run=RUN, now_unix_s=NOW_S)
    assert [task.host for task in status.running] == ["gpu1"]
    assert status.waiting == 5
    assert status.left_s == pytest.approx(570)


def test_tasks_in_this_process_are_counted_with_their_times(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = NOW_S
    monkeypatch.setattr("time.time", lambda: now_s)
    tasks = LocalTasks(5)
    assert tasks.status()["waiting"] == 5
    now_s += 40
    tasks.note_end(is_failed=False)
    tasks.note_end(is_failed=True)
    now_s += 10
    tasks.note_progress("valve mine seed 0", 5, 50)
    status = status_from(tasks.status(), run=RUN, now_unix_s=now_s)
    assert (status.waiting, status.done, status.failed) == (2, 1, 1)
    assert status.running == (RunningTask("valve mine seed 0", RUN.host, "", NOW_S + 40, 5, 50),)
    assert status.left_s == pytest.approx(170)  # 90 s of the running task and 2 of 40 s


def test_only_the_newest_retries_and_notes_are_kept() -> None:
    retries = [{"label": str(n), "host": "gpu2", "reason": "", "unix_s": 0.0} for n in range(30)]
    status = status_from(
        scheduler(retries=retries), run=RUN, notes=[str(n) for n in range(30)], now_unix_s=NOW_S
    )
    assert [retry.label for retry in status.retries] == [str(n) for n in range(30 - N_KEPT, 30)]
    assert status.notes == tuple(str(n) for n in range(30 - N_KEPT, 30))


def test_other_fields_than_agreed_are_refused() -> None:
    with pytest.raises(ValidationError, match="hostname"):
        status_from(scheduler(nodes=[{"hostname": "gpu1"}]), run=RUN, now_unix_s=NOW_S)


@pytest.mark.parametrize(
    ("tasks", "n_waiting", "mean_s", "left_s"),
    [
        ([], 0, None, 0.0),
        ([], 3, 100.0, None),  # nothing runs yet
        ([running(10)], 3, None, None),  # nothing says how long a task takes
        ([running(10)], 0, 100.0, 90.0),
        ([running(150)], 1, 100.0, 100.0),  # it should have ended
        ([running(10, 5, 50)], 0, 500.0, 90.0),  # its steps are better than the mean of others
        ([running(10, 5, 50)], 2, None, 290.0),
        ([running(10, 0, 50)], 0, None, None),  # before its first step
        ([running(10), running(10)], 4, 100.0, 290.0),  # two at a time
        ([running(10, 1, 50), running(10)], 0, 100.0, 490.0),  # the longest decides
    ],
)
def test_the_time_left_of_tasks(
    tasks: list[RunningTask], n_waiting: int, mean_s: float | None, left_s: float | None
) -> None:
    estimate_s = tasks_left_s(tasks, n_waiting=n_waiting, mean_s=mean_s, now_unix_s=NOW_S)
    assert estimate_s == (None if left_s is None else pytest.approx(left_s))


@pytest.mark.parametrize(
    ("done", "done_before", "left_s"), [(10, 0, 0.0), (10, 10, 0.0), (4, 4, None), (4, 2, 180.0)]
)
def test_the_time_left_of_a_search(done: int, done_before: int, left_s: float | None) -> None:
    search = SearchStatus("mine", done, 10, 1, None, None, NOW_S - 60, done_before)
    assert search_left_s(search, NOW_S) == left_s


def test_a_monitor_remembers_what_a_search_began_with() -> None:
    monitor = RunMonitor(RUN)
    for done in (3, 4, 6):
        monitor.update_search("mine", done=done, trials=10, running=1, best=0.1 * done, untuned=0.3)
    monitor.add_note("a note")
    status = monitor.status(scheduler())
    (search,) = status.searches
    assert (search.done, search.done_before, search.best) == (6, 3, pytest.approx(0.6))
    assert time.time() - search.began_unix_s < 20
    (note,) = status.notes
    assert re.fullmatch(r"\d\d:\d\d:\d\d a note", note)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["/bin/asdbench", "run", "mine", "--data", "my data"], "asdbench run mine --data 'my data'"),
        (["/somewhere/__main__.py", "run", "mine"], "asdbench run mine"),
        (["sweeps/all_types.py", "--trials", "2"], "python sweeps/all_types.py --trials 2"),
        (
            ["asdbench", "run", "--storage", "s3://user:hidden@bucket/x"],
            "asdbench run --storage s3://bucket/x",
        ),
        (["asdbench", "run", "--storage=s3://user:hidden@bucket/x"], "asdbench run --storage=s3://bucket/x"),
        (["asdbench", "run", "--set", "epochs=3"], "asdbench run --set epochs=3"),
    ],
)
def test_the_command_is_as_typed_without_passwords(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], command: str
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    assert typed_command() == command


def test_the_file_is_there_on_entering_kept_up_to_date_and_removed(root: Storage) -> None:
    counts = iter(range(10**9))
    with StatusWriter(root, RUN, lambda: replace(RUN, done=next(counts))) as writer:
        assert exists(root, RUN.run_id)
        wait_until(lambda: load_runs(root)[0][0].done > 3)
        assert load_runs(root)[0][0].heartbeat_unix_s > RUN.heartbeat_unix_s
        writer.check()
    assert not exists(root, RUN.run_id)


def test_it_is_removed_after_an_error_too(root: Storage) -> None:
    with pytest.raises(KeyboardInterrupt), StatusWriter(root, RUN, lambda: RUN):
        raise KeyboardInterrupt
    assert not exists(root, RUN.run_id)


def test_a_status_that_cannot_be_had_leaves_the_heartbeat(
    root: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    def status() -> RunStatus:
        raise ConnectionError("the scheduler does not answer")

    with StatusWriter(root, RUN, status):
        wait_until(lambda: load_runs(root)[0][0].heartbeat_unix_s > RUN.heartbeat_unix_s + 0.2)
    messages = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert messages == ["cannot update what 'asdbench status' shows: the scheduler does not answer"]


def test_a_fault_of_the_storage_ends_nothing(
    root: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    n_failed = 0
    with StatusWriter(root, RUN, lambda: replace(RUN, done=n_failed)) as writer:

        def failing(*_: object) -> None:
            nonlocal n_failed
            n_failed += 1
            raise StorageError("no space left", transient=True)

        with monkeypatch.context() as patched:
            patched.setattr(run_status, "save_run", failing)
            wait_until(lambda: n_failed > 2)
        wait_until(lambda: load_runs(root)[0][0].done > 2)
        writer.check()
    assert caplog.text.count("no space left") == 1


def test_a_full_storage_is_waited_for_at_the_start(root: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asdbench.io.retry._RETRY_S", 0.01)
    errors = [StorageError("no space left", transient=True)] * 2

    def full_at_first(root: Storage, status: RunStatus) -> None:
        if errors:
            raise errors.pop()
        save_run(root, status)

    monkeypatch.setattr(run_status, "save_run", full_at_first)
    with StatusWriter(root, RUN, lambda: RUN):
        assert exists(root, RUN.run_id)


def test_a_storage_that_cannot_be_used_stops_a_run_at_its_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="choose another storage"),
        StatusWriter(Storage.from_location(tmp_path / "file" / "jobs"), RUN, lambda: RUN),
    ):
        pass


def test_a_storage_that_vanishes_is_not_made_again_and_is_named(root: Storage) -> None:
    n_calls = 0

    def status() -> RunStatus:
        nonlocal n_calls
        n_calls += 1
        return RUN

    def is_noticed() -> bool:
        root.delete(name_of(RUN.run_id))  # again, if it comes between a look and a write
        try:
            writer.check()
        except InfrastructureError:
            return True
        return False

    with StatusWriter(root, RUN, status) as writer:
        wait_until(is_noticed)
        start = n_calls
        wait_until(lambda: n_calls > start + 3)
        assert not exists(root, RUN.run_id)  # so that workers notice, too
        with pytest.raises(InfrastructureError, match="the storage was removed or replaced") as raised:
            writer.check()
    assert f"{root}/{name_of(RUN.run_id)}" in str(raised.value)


def test_files_of_dead_runs_are_removed_at_the_start_and_during_a_run(root: Storage) -> None:
    dead = [replace(RUN, run_id=name, host="elsewhere", heartbeat_unix_s=0.0) for name in ("a", "b")]
    save_run(root, dead[0])
    with StatusWriter(root, RUN, lambda: RUN):
        assert not exists(root, "a")
        save_run(root, dead[1])
        wait_until(lambda: not exists(root, "b"))
        assert exists(root, RUN.run_id)


def test_a_storage_that_hangs_does_not_keep_a_run_from_ending(
    root: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_status, "_CLOSING_PATIENCE_S", 0.1)
    hanging, released = threading.Event(), threading.Event()

    def status() -> RunStatus:
        hanging.set()
        released.wait(60)
        return RUN

    start_s = time.monotonic()
    with StatusWriter(root, RUN, status):
        assert hanging.wait(20)
        start_s = time.monotonic()
    assert time.monotonic() - start_s < 10
    released.set()
