"""Faults of nodes, of the storage and of files, as users meet them: at the command line, on several hosts.

Each was a way to lose or to falsify results. The hosts are played (`played_hosts`), and their faults are
real: a cache that cannot be written, a process that ends, older code, a folder that is gone.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from asdbench.cluster import experiment
from asdbench.data import feature_store
from asdbench.data.sets import catalog
from asdbench.io.workspace import Workspace
from asdbench.testing.tiny import write_tiny
from tests.cluster.played_hosts import Hosts
from tests.commands import asdbench, leaderboard

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(800)]

MACHINE_TYPES = ("bearing", "fan", "gearbox", "pump", "slider", "valve")
TWO_TYPES = ("--machines", "fan", "valve")
RUN = ("run", "probe", "--data", "tiny")
LOCAL = ("run", "baseline-mse", "--data", "tiny", "--local", "--set", "epochs=2", "hidden=8", "n_mels=32")
TUNE = ("tune", "probe", "--data", "tiny", "--fresh-seeds", "0", *TWO_TYPES)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """A cluster, without hosts for tasks at first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        folder = Path(tempfile.mkdtemp(prefix="hosts"))  # not in pytest's: sockets need a short path
        played = Hosts(folder)
        yield played
        ray.shutdown()  # a test that was interrupted may have left a connection
        played.shutdown()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    return write_tiny(folder, machine_types=MACHINE_TYPES, source_clips=10, durations_s=(0.6, 0.9))


@pytest.fixture
def home(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data home with the data set ``tiny``."""
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    catalog.add(Workspace.from_environment(), "tiny", recordings)
    return tmp_path / "home"


@pytest.fixture
def cluster_home(hosts: Hosts, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That home, with the system ``probe``, for a driver in this process that is to use the cluster."""
    monkeypatch.syspath_prepend(str(hosts.plugin))
    monkeypatch.setenv("RAY_ADDRESS", hosts.address)
    hosts.count_trainings()
    return home


def trainings(storage: Path) -> list[Path]:
    """Return the records of finished trainings."""
    return list(storage.glob("jobs/trainings/*/training.json"))


def trials(home: Path) -> list[dict[str, Any]]:
    """Return the trials of the only search."""
    (file,) = home.glob("jobs/searches/*.json")
    found: list[dict[str, Any]] = json.loads(file.read_bytes())["trials"]
    return found


class Driver:
    """A command in a process of its own."""

    def __init__(self, hosts: Hosts, folder: Path, *arguments: str) -> None:
        self._output = Path(tempfile.mkdtemp(dir=folder)) / "output"
        command = [sys.executable, "-m", "asdbench", *arguments]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=hosts.driver_environment, stdout=output, stderr=subprocess.STDOUT
            )

    def said(self) -> str:
        return self._output.read_text()

    def end(self) -> int:
        """Wait for its end and return its exit code."""
        return self._process.wait(1000)

    def kill(self) -> None:
        """End it if it has not ended."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def drive(hosts: Hosts, tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """Begin a command in another process."""
    begun: list[Driver] = []

    def begin(*arguments: str) -> Driver:
        begun.append(Driver(hosts, tmp_path, *arguments))
        return begun[-1]

    yield begin
    for driver in begun:
        driver.kill()


def until(condition: Callable[[], Any], *, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds:g} s"
        time.sleep(0.05)


def test_drivers_at_once_wait_for_a_host_do_nothing_twice_and_lose_nothing(
    hosts: Hosts, cluster_home: Path, drive: Callable[..., Driver]
) -> None:
    """They begin on a head without CPUs, say what they wait for, and start when a host joins.

    One search waits for the other.
    """
    hosts.only()
    searches = [drive(*TUNE, "--trials", "2") for _ in range(2)]
    run = drive(*RUN, *TWO_TYPES, "--workers", "64")  # the trainings of the first trial
    drivers = (*searches, run)
    waits = "the cluster has no node with a CPU or a GPU now"
    until(lambda: waits in run.said() and any(waits in search.said() for search in searches))
    assert not trainings(cluster_home)
    hosts.only("a")
    codes = [driver.end() for driver in drivers]
    said = "\n".join(driver.said() for driver in drivers)
    assert codes == [0, 0, 0], said
    assert hosts.count_trainings() == len(trainings(cluster_home)) >= 4, said
    assert [trial["state"] for trial in trials(cluster_home)] == ["complete"] * 2
    assert "Traceback" not in said


def test_hosts_that_fail_in_three_ways_cost_no_task_and_are_named(
    hosts: Hosts, cluster_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts.only("a", "full", "dying", "older")
    hosts.spoil("full", "cache")
    hosts.spoil("dying", "torch")
    hosts.spoil("older", "code")
    code = asdbench(*RUN, "--seeds", "0", "1", "2", "--set", "pause_s=0.5")
    said, complained = capsys.readouterr()
    assert code == 0, said + complained
    assert len(trainings(cluster_home)) == 18
    for host, why in (("full", "cannot keep copies"), ("older", "is not what it was")):
        # again, if a task that failed on three hosts has brought them back meanwhile
        lines = [line for line in said.splitlines() if f"{host} gets no more tasks" in line]
        assert lines
        assert all(why in line for line in lines)
    assert 1 <= said.count("it failed on dying: The worker died unexpectedly") <= 9  # six build features


def test_a_search_on_bad_hosts_alone_fails_and_the_same_command_resumes_it(
    hosts: Hosts, cluster_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time one host is sound; the searched ``n_mels`` needs features, which hosts build."""
    hosts.only("a", "full")
    for host in ("a", "full"):
        hosts.spoil(host, "cache")
    monkeypatch.setattr(experiment, "_RESTARTS", 1)  # each takes a process
    assert asdbench(*TUNE, "--trials", "2", "--only-settings", "n_mels") == 1
    said = capsys.readouterr().out
    assert "no node is left to run it" in said
    assert {trial["state"] for trial in trials(cluster_home)} <= {"running"}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the driver builds features")

    hosts.heal("a")
    monkeypatch.setattr(feature_store, "build", refuse)
    assert asdbench(*TUNE, "--trials", "6", "--only-settings", "n_mels") == 0
    found = trials(cluster_home)
    assert len(found) == 6
    assert {trial["state"] for trial in found} <= {"complete", "pruned"}
    assert all(trial["rungs"] and trial["rungs"][-1] > 0 for trial in found)
    assert "full gets no more tasks" in capsys.readouterr().out
    built = [file.stat().st_mtime for file in cluster_home.glob("store/*.arrow")]
    began = [json.loads(file.read_bytes())["began_unix_s"] for file in trainings(cluster_home)]
    assert min(began) < max(built)  # who has its features trains


def test_what_a_storage_that_vanishes_takes_along_is_a_failure(
    hosts: Hosts, cluster_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts.only("a")
    storage, gone = tmp_path / "storage", tmp_path / "gone"
    storage.mkdir()

    def unmount() -> None:
        until(lambda: len(trainings(storage)) >= 4)
        storage.rename(gone)
        storage.mkdir()

    thread = threading.Thread(target=unmount)
    thread.start()
    code = asdbench(*RUN, "--seeds", "0", "1", "--storage", str(storage))
    thread.join()
    out, err = capsys.readouterr()
    assert code == 1, out
    assert "done 12/12" not in out
    assert len(trainings(gone)) >= 4
    assert str(storage) in err  # what is lost, and what to do
    assert "run the same command again" in err


def test_an_exception_in_a_system_is_the_users_and_strikes_no_host(
    hosts: Hosts, cluster_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts.only("a")
    assert asdbench(*RUN, "--set", "fails=true") in (1, 2)
    said = capsys.readouterr().out
    assert said.count("an exception in the system") >= len(MACHINE_TYPES)
    assert "gets no more tasks" not in said
    assert hosts.count_trainings() == len(MACHINE_TYPES)  # none was tried again


def test_one_stale_handle_in_the_driver_is_waited_out(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a mounted folder, when the driver looks what is stored."""
    scandir, stale = os.scandir, iter([True])

    def flaky(path: Any = ".") -> Any:
        if "jobs" in str(path) and next(stale, False):
            raise OSError(116, "Stale file handle", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", flaky)
    assert asdbench(*LOCAL, *TWO_TYPES) == 0
    assert next(stale, None) is None
    assert len(trainings(home)) == 2


def test_cut_files_are_made_again_by_the_same_command(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = (*LOCAL, "--machines", "fan")
    assert asdbench(*command) == 0
    wanted = leaderboard(capsys, "--by", "type")
    for name in ("scores/*/components.parquet", "trainings/*/model.pt"):
        (file,) = home.glob(f"jobs/{name}")
        file.write_bytes(file.read_bytes()[:100])
        assert asdbench(*command) == 0
    (training,) = home.glob("jobs/trainings/*")
    (training / "training.json").unlink()
    (training / "checkpoint.pt").write_bytes(b"PK" + bytes(100))
    assert asdbench(*command) == 0
    assert leaderboard(capsys, "--by", "type") == wanted


def test_zeros_in_stored_features_do_not_change_a_score(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (*LOCAL, "--machines", "fan")
    assert asdbench(*command) == 0
    wanted = leaderboard(capsys, "--by", "type")
    shutil.rmtree(home / "jobs")
    for arrow in home.glob("store/*.arrow"):
        with arrow.open("r+b") as file:
            file.seek(arrow.stat().st_size // 3)
            file.write(bytes(arrow.stat().st_size // 3))
    assert asdbench(*command) == 0
    assert leaderboard(capsys, "--by", "type") == wanted
