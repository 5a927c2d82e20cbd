import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asdbench.io.workspace import Workspace
from asdbench.tracking import outbox, recorder
from asdbench.tracking.address import Address
from asdbench.tracking.logged_models import Export, NotExported
from asdbench.tracking.mlflow_runs import ENVIRONMENT, NotWritten
from asdbench.tracking.outbox import Outbox
from asdbench.tracking.recorder import Recorder, Undelivered, deliver
from asdbench.tracking.records import Entry, ModelEntry, RowEntry, to_bytes
from asdbench.tracking.searches import SearchRecord, TrialRecord
from tests.tracking.boards import client, model_entry, recorded, row_entry, seed_results


def row(number: int = 0, **changed: Any) -> RowEntry:
    """Return one of several rows."""
    return row_entry(key=str(number), **changed)


def search(trials: int = 2) -> SearchRecord:
    return SearchRecord("5ea7c4", "multitask-mel", "demo", "dev", "dev", None, {}, (0,), trials)


def trial(number: int) -> TrialRecord:
    return TrialRecord(number, {"depth": number}, "complete", [(1, 0.5)], {}, {}, 1000.0, 1010.0)


def waiting(home: Path) -> list[Path]:
    return sorted((home / "outbox").glob("*.entry"))


class FakeStore:
    """Stands for MLflow where only what is written matters."""

    def __init__(self, address: Address, workspace: Workspace) -> None:
        self.experiments: dict[str, str] = {}

    written: list[str] = []  # noqa: RUF012

    def write(self, entries: Sequence[Entry]) -> None:
        self.written.extend(entry.row.name for entry in entries if isinstance(entry, RowEntry))

    def write_model(self, entry: ModelEntry, export: Export) -> None:
        export(entry, Path("model"))
        self.written.append(f"model {entry.system}")


class UnavailableStore:
    """Stands for an MLflow store that is down."""

    def __init__(self, address: Address, workspace: Workspace) -> None:
        raise NotWritten("the store is down", transient=True, of_store=True)


@pytest.fixture
def fake_store(monkeypatch: pytest.MonkeyPatch) -> type[FakeStore]:
    monkeypatch.setattr(FakeStore, "written", [])
    monkeypatch.setattr(recorder, "Store", FakeStore)
    return FakeStore


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server that lets clients in and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        server.settimeout(60)
        yield server


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port without a server, and a URI with a password."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hush@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@contextmanager
def server(port: int, database: Path, *, answers: int | None = None) -> Iterator[None]:
    """MLflow's own server in a thread; after so many ``answers`` it says that it is unavailable."""
    from mlflow.server import app, handlers
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: Any, **__: Any) -> None:
            pass

    asked = 0

    def limited(environ: Any, start_response: Any) -> Any:
        nonlocal asked
        asked += 1
        if answers is not None and asked > answers:
            start_response("503 Service Unavailable", [])
            return [b""]
        return app(environ, start_response)

    with pytest.MonkeyPatch.context() as patch:
        artifacts = (database.parent / "artifacts").as_uri()
        patch.setattr(handlers, "_tracking_store", SqlAlchemyStore(f"sqlite:///{database}", artifacts))
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", artifacts)
        http = make_server("127.0.0.1", port, limited, threaded=True, request_handler=Quiet)
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield
        finally:
            http.shutdown()
            thread.join()
            http.server_close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_runs_and_trials_are_recorded_and_the_outbox_is_empty_then(home: Path) -> None:
    active = Recorder(Workspace.from_environment())
    active.put(row())
    active.put(row(experiment="demo/eval"))
    active.put_trial(search(), trial(0))
    active.put_trial(search(), trial(1))
    assert active.close() == Undelivered()
    assert set(active.experiments) == {"demo", "demo/eval", "demo/searches"}
    assert [len(recorded(name)[0]) for name in active.experiments] == [1, 1, 1]
    [found], _ = recorded("demo/searches")
    assert (found.info.status, found.data.metrics["trials_complete"]) == ("FINISHED", 2)
    assert found.info.experiment_id == active.experiments["demo/searches"]
    assert list((home / "outbox").iterdir()) == []


def test_what_is_put_is_on_the_disk_at_once_and_delivered_in_order(
    home: Path, fake_store: type[FakeStore], refusing: None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder, "Store", UnavailableStore)
        active = Recorder(Workspace.from_environment())
        for seed in (3, 1, 2):
            active.put(row(seed))
            assert len(waiting(home)) == (3, 1, 2).index(seed) + 1
        assert active.close(patience_s=0.1).entries == 3
    active = Recorder(Workspace.from_environment())
    active.put(row(0))
    assert active.close() == Undelivered()
    assert fake_store.written == [f"baseline-mse {seed}" for seed in (3, 1, 2, 0)]


def test_a_server_that_never_answers_holds_nobody_up(home: Path, silent: socket.socket) -> None:
    active = Recorder(Workspace.from_environment())
    active.put(row())
    with silent.accept()[0]:  # the request is under way, and takes 30 s until it is given up
        began = time.monotonic()
        active.put(row(1))
        left = active.close(patience_s=0.3)
        assert time.monotonic() - began < 10
    assert left.entries == len(waiting(home)) == 2
    assert "has not accepted them yet" in left.why


def test_a_server_that_never_answers_is_given_up_after_a_time(
    home: Path, silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    Outbox(home / "outbox").put(row())
    delivered, left = deliver(Workspace.from_environment())
    assert (delivered, left.entries) == (0, 1)
    assert "timed out" in left.why


def test_a_server_that_refuses_is_told_in_one_sentence_and_without_its_password(
    home: Path, refusing: None
) -> None:
    Outbox(home / "outbox").put(row())
    delivered, left = deliver(Workspace.from_environment())
    assert (delivered, left.entries) == (0, 1)
    assert left.why.startswith("1 record is not in MLflow because the MLflow store http://***@127.0.0.1:9 ")
    assert "refused" in left.why
    assert left.why.endswith(f"'asdbench record' delivers them from {str(home / 'outbox')!r}")
    assert "hush" not in left.why
    assert "hush" not in waiting(home)[0].read_bytes().decode(errors="replace")


def test_a_server_that_comes_back_gets_it_while_the_recorder_lasts(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="asdbench.tracking")
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    active = Recorder(Workspace.from_environment(), first_pause_s=0.1)
    active.put(row())
    active.put_trial(search(), trial(0))
    gives_up_s = time.monotonic() + 60
    while "refused" not in caplog.text and time.monotonic() < gives_up_s:
        time.sleep(0.05)
    assert "could not deliver" in caplog.text
    assert len(waiting(home)) == 2
    with server(port, tmp_path / "mlflow.db"):
        assert active.close(patience_s=120) == Undelivered()
        assert [len(recorded(name)[0]) for name in ("demo", "demo/searches")] == [1, 1]


def test_a_server_that_fails_half_way_gets_the_rest_later_and_no_run_twice(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    Outbox(home / "outbox").put(row())
    with server(port, tmp_path / "mlflow.db", answers=5):
        delivered, left = deliver(Workspace.from_environment())
        assert (delivered, left.entries, len(waiting(home))) == (0, 1, 1)
        assert "503" in left.why
    with server(port, tmp_path / "mlflow.db"):
        assert [of.info.status for of in recorded()[0]] == ["RUNNING"]
        assert deliver(Workspace.from_environment()) == (1, Undelivered())
        assert [of.info.status for of in recorded()[0]] == ["FINISHED"]


def test_the_next_recorder_delivers_what_is_left_to_where_mlflow_is_then(home: Path, refusing: None) -> None:
    active = Recorder(Workspace.from_environment())
    active.put(row())
    assert active.close(patience_s=0).entries == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI")
        assert Recorder(Workspace.from_environment()).close() == Undelivered()
        assert len(recorded()[0]) == 1
        assert waiting(home) == []


def test_deliver_tries_once_and_tells_its_progress(home: Path, refusing: None) -> None:
    for seed in (0, 1):
        Outbox(home / "outbox").put(row(seed))
    delivered, left = deliver(Workspace.from_environment())
    assert (delivered, left.entries) == (0, 2)
    assert left.why.startswith("2 records are not in MLflow because")
    seen: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI")
        assert deliver(Workspace.from_environment(), progress=lambda done, of: seen.append((done, of))) == (
            2,
            Undelivered(),
        )
        assert deliver(Workspace.from_environment()) == (0, Undelivered())
    assert seen == [(1, 2), (2, 2)]


def test_a_row_that_is_put_again_stays_one_and_is_updated() -> None:
    active = Recorder(Workspace.from_environment())
    for again in (row(), row(), row_entry(seed_results(finished="13"), key="0")):
        active.put(again)
        active.close()
        active = Recorder(Workspace.from_environment())
    active.close()
    [_], [seed] = recorded()
    assert seed.data.tags["asdbench.results"] == seed_results(finished="13").results


def test_two_that_deliver_at_once_deliver_each_entry_once(home: Path) -> None:
    box = Outbox(home / "outbox")
    for seed in range(4):
        box.put(row(seed))
        box.put(row(seed))  # as of two drivers with the same results
    delivered = []
    together = threading.Barrier(2)

    def work() -> None:
        together.wait()
        delivered.append(deliver(Workspace.from_environment())[0])

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(delivered) + deliver(Workspace.from_environment())[0] == 8
    assert [of.info.run_name for of in recorded()[0]] == [f"baseline-mse {seed}" for seed in range(4)]
    assert list((home / "outbox").iterdir()) == []


def test_an_entry_that_another_process_has_hold_of_is_left_to_it(home: Path) -> None:
    box = Outbox(home / "outbox")
    box.put(row())
    with box.lock_group(row().group) as is_locked:
        assert is_locked
        delivered, left = deliver(Workspace.from_environment())
        assert (delivered, left.entries) == (0, 1)
        assert "another process is recording them" in left.why
    assert deliver(Workspace.from_environment()) == (1, Undelivered())


def test_an_entry_that_another_process_adds_at_the_end_is_left_to_it(home: Path) -> None:
    outbox = Outbox(home / "outbox")
    outbox.put(row())
    delivered, left = deliver(
        Workspace.from_environment(), progress=lambda done, of: outbox.put(row(done)), export=None
    )
    assert (delivered, left.entries) == (1, 1)
    assert "because another process has just added them and is recording them; " in left.why


def test_a_driver_killed_while_it_records_leaves_the_entry_and_no_lock(home: Path) -> None:
    Outbox(home / "outbox").put(row())
    code = """
import os, signal, threading
from asdbench.tracking import recorder
from asdbench.io.workspace import Workspace

class Killed:
    def __init__(self, address, workspace):
        pass

    def write(self, entries):
        os.kill(os.getpid(), signal.SIGKILL)

recorder.Store = Killed
recorder.Recorder(Workspace.from_environment())
threading.Event().wait()
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(waiting(home)) == 1
    assert deliver(Workspace.from_environment()) == (1, Undelivered())
    assert [of.info.run_name for of in recorded()[0]] == ["baseline-mse 0"]


def test_what_does_not_pass_is_not_waited_for_and_holds_nothing_else_up(home: Path) -> None:
    active = Recorder(Workspace.from_environment())
    active.put(row(experiment="gone"))
    active.close()
    experiment = active.experiments["gone"]
    client().delete_experiment(experiment)
    began = time.monotonic()
    active = Recorder(Workspace.from_environment())
    active.put(row(1, experiment="gone"))
    active.put(row())
    left = active.close(patience_s=300)
    assert time.monotonic() - began < 100
    assert left.entries == len(waiting(home)) == 1
    assert f"mlflow experiments restore --experiment-id {experiment}" in left.why
    assert len(recorded()[0]) == 1
    client().restore_experiment(experiment)
    assert deliver(Workspace.from_environment()) == (1, Undelivered())


def test_a_damaged_entry_is_named_and_holds_nothing_else_up(home: Path, fake_store: type[FakeStore]) -> None:
    box = Outbox(home / "outbox")
    for _ in range(2):
        box.put(row())
    damaged = waiting(home)[0]
    damaged.write_bytes(b"words")
    delivered, left = deliver(Workspace.from_environment())
    assert (delivered, left.entries) == (1, 1)
    assert f"{str(damaged)!r} is damaged" in left.why
    assert fake_store.written == ["baseline-mse 0"]
    assert waiting(home) == [damaged]


def test_a_full_disk_is_waited_for(
    home: Path, fake_store: type[FakeStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "replacing", full)
        active = Recorder(Workspace.from_environment(), first_pause_s=0.1)
        active.put(row())
        lost = Recorder(Workspace.from_environment())
        lost.put(row(1))
        left = lost.close(patience_s=0.2)
        assert left.entries == 1
        assert f"{str(home / 'outbox')!r} cannot be written either, so repeat the command" in left.why
    assert active.close() == Undelivered()
    assert fake_store.written == ["baseline-mse 0"]


def test_nothing_to_record_makes_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "new"))
    assert Recorder(Workspace.from_environment()).close() == Undelivered()
    assert deliver(Workspace.from_environment()) == (0, Undelivered())
    assert not (tmp_path / "new").exists()


def test_no_secret_of_the_environment_is_stored(
    home: Path, refusing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASDBENCH_STORAGE", "s3://me:hush-4711@bucket/results")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-4711-key")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "hush-4711-token")
    monkeypatch.setattr(sys, "argv", ["asdbench", "--storage", "s3://me:hush-4711@bucket/results"])
    active = Recorder(Workspace.from_environment())
    active.put(row(files={"a.txt": b"a"}))
    active.put_trial(search(), trial(0))
    active.close(patience_s=0)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    active = Recorder(Workspace.from_environment())
    active.put(row(1))
    active.put_trial(search(), trial(1))
    files = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert active.close() == Undelivered()
    files |= {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert {path.suffix for path in files} >= {".db", ".entry", ".txt"}
    assert b"multitask-mel" in files[home / "mlflow.db"]
    assert not [path for path, content in files.items() if b"hush-4711" in content]


def test_recording_is_silent_and_a_server_that_hangs_leaves_the_exit_code_alone(
    home: Path, silent: socket.socket
) -> None:
    (home / "mlflow.db").unlink()
    code = f"""
import os, sys
from asdbench.io.workspace import Workspace
from asdbench.tracking.records import from_bytes
from asdbench.tracking.recorder import Recorder
print("mlflow" in sys.modules, "torch" in sys.modules, "ray" in sys.modules)
hanging = os.environ.pop("MLFLOW_TRACKING_URI")
active = Recorder(Workspace.from_environment())
active.put(from_bytes({to_bytes(row(0))!r}))
print(active.close(patience_s=240))
os.environ["MLFLOW_TRACKING_URI"] = hanging
active = Recorder(Workspace.from_environment())
active.put(from_bytes({to_bytes(row(1))!r}))
print(active.close(patience_s=0.5).entries)
print(os.listdir())
"""
    folder = home / "elsewhere"
    folder.mkdir()
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    imported, undelivered, *rest = ran.stdout.splitlines()
    assert (imported, rest) == ("False False False", ["1", "[]"])
    assert undelivered.startswith("Undelivered(entries=0, why=''")
    assert (ran.stderr, ran.returncode) == ("", 0)


def test_models_come_when_the_recorder_is_closed_after_all_rows(
    home: Path, fake_store: type[FakeStore]
) -> None:
    active = Recorder(Workspace.from_environment(), export=lambda *_: None)
    active.put(model_entry())
    active.put(row())
    time.sleep(0.3)
    assert fake_store.written == [row().row.name]
    active.put(row(1))
    assert active.close() == Undelivered()
    assert fake_store.written == [row().row.name, row(1).row.name, "model baseline-mse"]


def test_models_stay_where_nothing_exports_them(home: Path, fake_store: type[FakeStore]) -> None:
    active = Recorder(Workspace.from_environment())
    active.put(model_entry())
    assert active.close().entries == 1
    assert fake_store.written == []


def test_a_model_that_cannot_be_exported_is_said_and_does_not_wait(
    home: Path, fake_store: type[FakeStore]
) -> None:
    def export(entry: ModelEntry, _: Path) -> None:
        if entry.system != "mine":
            raise NotExported("its plugin is gone")

    active = Recorder(Workspace.from_environment(), export=export)
    for system in ("first", "second", "mine"):
        active.put(model_entry(system))
    left = active.close()
    assert (left.entries, waiting(home)) == (0, [])
    assert left.not_exported == (
        "the model first of data set 'demo', and 1 more, cannot be exported to MLflow because its plugin is "
        "gone; 'asdbench record' tries again"
    )
    assert fake_store.written == ["model mine"]


def test_the_environment_is_set_before_the_thread_starts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that adds variables while code in C reads one crashed runs."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    known: list[set[str]] = []
    start = threading.Thread.start

    def watched(thread: threading.Thread) -> None:
        known.append(set(os.environ))
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", watched)
    Recorder(Workspace.from_environment()).close(patience_s=1)
    assert known
    assert ENVIRONMENT.keys() <= known[0]
