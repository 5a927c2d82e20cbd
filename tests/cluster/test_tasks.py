"""Runs that are killed, interrupted and spread: the same command resumes them and the scores are the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import psutil
import pytest

from asdbench.cluster import tasks
from asdbench.errors import InfrastructureError
from asdbench.testing.tiny import write_tiny

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(800)]

EPOCHS = 120
ONE_TYPE = ("--machines", "fan")
WORKERS = ("ray::train_task", "RayTrainWorker")  # of one process a type, and of several


def command(*more: str, epochs: int = EPOCHS) -> list[str]:
    return [
        *(sys.executable, "-m", "asdbench", "run", "baseline-mse", "baseline-maha", "--data", "tiny"),
        *("--checkpoint-epochs", "2", "--set", f"epochs={epochs}", "batch_size=64", "hidden=16", *more),
    ]


class Home:
    """A data home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "ASDBENCH_HOME": str(folder), "OMP_NUM_THREADS": "1"}

    def start(self, *more: str, epochs: int = EPOCHS) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command(*more, epochs=epochs),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, *more: str, epochs: int = EPOCHS) -> str:
        process = self.start(*more, epochs=epochs)
        output, _ = process.communicate(timeout=500)
        assert process.returncode == 0, output
        return output

    def records(self) -> dict[tuple[str, str], Any]:
        found = {}
        for file in (self.folder / "jobs" / "trainings").glob("*/training.json"):
            record = json.loads(file.read_text())
            found[record["description"]["system"], record["description"]["machine_type"]] = record
        return found

    def scores(self) -> dict[tuple[str, str], pl.DataFrame]:
        found = {}
        for file in (self.folder / "jobs" / "results").glob("*.json"):
            record = json.loads(file.read_text())
            table = self.folder / "jobs" / "scores" / record["keys"]["scoring"] / "components.parquet"
            found[record["system"], record["machine_type"]] = pl.read_parquet(table)
        return found

    def wait_for_checkpoint(self, process: "subprocess.Popen[str]") -> None:
        """Wait until a training is under way and has made a checkpoint but is not finished."""
        began, deadline = time.time(), time.monotonic() + 300
        while time.monotonic() < deadline:
            if any(file.stat().st_mtime > began for file in self.checkpoints()):
                assert len(self.records()) < 2, "the trainings are too short to be interrupted"
                return
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        raise AssertionError("no checkpoint within five minutes")

    def checkpoints(self) -> list[Path]:
        return list((self.folder / "jobs" / "trainings").glob("*/checkpoint.pt"))

    def workers(self) -> list[psutil.Process]:
        """Return Ray's processes that train for this home, whoever their parent is by now."""
        return [
            process
            for process in psutil.process_iter(["cmdline", "environ"])
            if (process.info["environ"] or {}).get("ASDBENCH_HOME") == str(self.folder)
            and any(title in " ".join(process.info["cmdline"] or []) for title in WORKERS)
        ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose jobs one process has done without interruption."""
    found = Home(tmp_path_factory.mktemp("undisturbed"))
    recordings = write_tiny(tmp_path_factory.mktemp("recordings"))
    add = [sys.executable, "-m", "asdbench", "data", "add", "tiny", str(recordings)]
    subprocess.run(add, env=found.environment, check=True)
    found.finish("--local")
    return found


@pytest.fixture
def home(tmp_path: Path, undisturbed: Home) -> Home:
    """A home with the same data set and features, and no jobs."""
    results = shutil.ignore_patterns("jobs", "ml*")
    shutil.copytree(undisturbed.folder, tmp_path, ignore=results, dirs_exist_ok=True)
    return Home(tmp_path)


def assert_equal_scores(one: Home, other: Home, *, within: float = 0.0) -> None:
    ours, theirs = one.scores(), other.scores()
    assert ours.keys() == theirs.keys()
    assert len(ours) == 4
    for key, table in ours.items():
        for name in table.columns:
            if name in ("clip_id", "use"):
                assert table[name].equals(theirs[key][name])
            else:
                difference = (table[name] / theirs[key][name] - 1).abs().max()
                assert isinstance(difference, float)
                assert difference <= within, (key, name, difference)


def test_what_is_stored_is_not_done_again(undisturbed: Home) -> None:
    before = undisturbed.records()
    output = " ".join(undisturbed.finish("--workers", "2").split())
    assert "4 jobs, 2 trainings (2 already stored)" in output
    assert undisturbed.records() == before


def test_two_processes_sharing_a_type_train_what_one_trains(home: Home, undisturbed: Home) -> None:
    """Rounding differs, and Adam makes it grow: see docs/decisions/0006."""
    home.finish("--workers", "2", "--workers-per-type", "2", *ONE_TYPE, epochs=20)
    (record,) = home.records().values()
    assert record["processes"] == 2
    wanted = undisturbed.records()["baseline-mse", "fan"]
    ours, theirs = (
        [row["losses"]["reconstruction"] for row in found["curve"][:20]] for found in (record, wanted)
    )
    assert ours[0] == pytest.approx(theirs[0], rel=1e-4)
    assert ours == pytest.approx(theirs, rel=0.05)
    assert home.scores().keys() == {("baseline-mse", "fan"), ("baseline-maha", "fan")}


def test_an_interrupted_run_and_then_a_killed_worker_cost_nothing_but_time(
    home: Home, undisturbed: Home
) -> None:
    """The same command resumes after the first, the run by itself after the second; to the bit."""
    interrupt(home, "--workers", "2")
    process = home.start("--workers", "2")
    home.wait_for_checkpoint(process)
    victims = home.workers()
    assert len(victims) == 2
    victims[0].kill()
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    assert_equal_scores(home, undisturbed)


def test_an_interrupted_local_run_resumes_with_the_same_command(home: Home, undisturbed: Home) -> None:
    interrupt(home, "--local")
    home.finish("--local")
    assert_equal_scores(home, undisturbed)


def interrupt(home: Home, *mode: str) -> None:
    """Type a command and, while it trains, Ctrl-C."""
    process = home.start(*mode)
    home.wait_for_checkpoint(process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 130, output
    assert "4 jobs, 2 trainings (0 already stored)" in " ".join(output.split())
    assert "run the same command again to resume" in output
    assert "Traceback" not in output
    until(lambda: not home.workers())
    assert home.checkpoints()
    assert not list((home.folder / "jobs").rglob("*.part"))


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_a_node_that_cannot_report_to_the_scheduler_is_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def remote(self, event: object) -> None:
            raise TypeError("too many positional arguments")

    monkeypatch.setattr(tasks, "_node", lambda: "n1")
    with pytest.raises(InfrastructureError, match=r"cannot report from .* too many positional arguments"):
        tasks.Reporter("key", "fan mine seed 0", SimpleNamespace(report=Refusing())).start()
