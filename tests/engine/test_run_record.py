"""The record of a run under way, and what it says of the storage."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from asdbench.engine.run_record import (
    STALE_S,
    UNHEARD_S,
    NodeStatus,
    Retry,
    RunningTask,
    RunStatus,
    SearchStatus,
    check_storage,
    exists,
    load_runs,
    name_of,
    remove_run,
    remove_stale_runs,
    save_run,
)
from asdbench.errors import InfrastructureError
from asdbench.io.storage import Storage

RUN = replace(
    RunStatus.from_command("asdbench run mine --data tiny"),
    waiting=3,
    done=2,
    failed=1,
    features=4,
    running=(RunningTask("fan mine seed 0", "gpu1", "n1", 10.0, 5, 50),),
    nodes=(NodeStatus("n1", "gpu1", 1, 2), NodeStatus("n2", "gpu2", 0, 0, 11.0, "disk full")),
    retries=(Retry("fan mine seed 0", "gpu2", "disk full", 11.0),),
    searches=(SearchStatus("mine", 2, 8, 1, 0.7, None, 1.0, 0),),
    left_s=60.0,
    notes=("one clip is silent",),
)


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage.from_location(tmp_path / "jobs")


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_comes_back_as_it_was_written(root: Storage) -> None:
    save_run(root, RUN)
    assert load_runs(root) == ([RUN], [])
    assert exists(root, RUN.run_id)
    remove_run(root, RUN.run_id)
    assert load_runs(root) == ([], [])
    assert not exists(root, RUN.run_id)


def test_a_run_is_of_this_process() -> None:
    run = RunStatus.from_command("asdbench run mine --data tiny")
    assert (run.host, run.pid) == (socket.gethostname(), os.getpid())
    assert run.run_id != RUN.run_id


def test_runs_are_listed_by_their_start_and_bad_files_are_named(root: Storage) -> None:
    runs = [
        replace(RUN, run_id=name, began_unix_s=began) for name, began in (("a", 3.0), ("b", 1.0), ("c", 2.0))
    ]
    for run in runs:
        save_run(root, run)
    root.write(name_of("d"), b"{")
    listed, unreadable = load_runs(root)
    assert [run.run_id for run in listed] == ["b", "c", "a"]
    (message,) = unreadable
    assert f"{root}/runs/d.json cannot be read" in message
    assert "it may be removed unless its run is under way" in message


def test_another_storage_than_the_drivers_is_named_with_host_and_cure(root: Storage, tmp_path: Path) -> None:
    save_run(root, RUN)
    check_storage(root, RUN.run_id)
    other = Storage.from_location(tmp_path / "not mounted")
    with pytest.raises(InfrastructureError) as raised:
        check_storage(other, RUN.run_id)
    for part in (str(other), f"on host {socket.gethostname()}", name_of(RUN.run_id), "with --storage one"):
        assert part in str(raised.value)


def test_a_bucket_holds_runs_too(s3: Storage) -> None:
    with pytest.raises(InfrastructureError, match="not the driver's") as raised:
        check_storage(s3, RUN.run_id)
    assert "hidden" not in str(raised.value)
    save_run(s3, RUN)
    check_storage(s3, RUN.run_id)
    assert load_runs(s3) == ([RUN], [])


def test_a_silent_run_is_told_from_one_that_writes_its_heartbeats() -> None:
    assert RUN.unheard_s(RUN.heartbeat_unix_s + UNHEARD_S) is None
    assert RUN.unheard_s(RUN.heartbeat_unix_s + UNHEARD_S + 1) == pytest.approx(UNHEARD_S + 1)
    assert RUN.unheard_s(RUN.heartbeat_unix_s - 3) is None  # clocks differ between hosts


@pytest.mark.parametrize(
    ("age_s", "host", "is_alive", "is_kept"),
    [
        (UNHEARD_S + 5, "here", False, False),
        (UNHEARD_S + 5, "here", True, True),
        (UNHEARD_S + 5, "elsewhere", False, True),
        (5.0, "here", False, True),  # in a container of this host
        (STALE_S + 5, "elsewhere", False, False),
    ],
)
def test_files_of_dead_runs_are_removed(
    root: Storage, dead_pid: int, age_s: float, host: str, is_alive: bool, is_kept: bool
) -> None:
    run = replace(
        RUN,
        heartbeat_unix_s=time.time() - age_s,
        host=socket.gethostname() if host == "here" else host,
        pid=os.getpid() if is_alive else dead_pid,
    )
    save_run(root, run)
    remove_stale_runs(root)
    assert exists(root, run.run_id) == is_kept


def test_the_scheduler_can_import_it_without_torch() -> None:
    heavy = "{'torch', 'ray', 'polars', 'pyarrow', 'numpy'} & set(sys.modules)"
    program = f"import sys, asdbench.engine.run_record; assert not {heavy}, {heavy}"
    subprocess.run([sys.executable, "-c", program], check=True)
