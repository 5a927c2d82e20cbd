"""Runs that are killed, interrupted and spread: the same command goes on and ends with the same scores."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from asdbench.testing.tiny import write_tiny

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

EPOCHS = 200


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_tiny(folder)
    return folder


def command(*more: str, epochs: int = EPOCHS) -> list[str]:
    return [
        *(sys.executable, "-m", "asdbench", "run", "baseline-mse", "baseline-maha", "--data", "tiny"),
        *("--checkpoint-epochs", "2", "--set", f"epochs={epochs}", "batch_size=64", "hidden=16", *more),
    ]


class Home:
    """A data home of its own with the tiny data set registered."""

    def __init__(self, folder: Path, recordings: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "ASDBENCH_HOME": str(folder), "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [sys.executable, "-m", "asdbench", "data", "add", "tiny", str(recordings)],
            env=self.environment,
            check=True,
        )

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
        output, _ = process.communicate(timeout=200)
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
        """Wait until a training is under way and has a checkpoint but is not finished."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if list((self.folder / "jobs" / "trainings").glob("*/checkpoint.pt")):
                time.sleep(0.5)
                assert len(self.records()) < 2, "the trainings are too short to be interrupted"
                return
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        raise AssertionError("no checkpoint within two minutes")


@pytest.fixture
def home(tmp_path: Path, recordings: Path) -> Home:
    return Home(tmp_path, recordings)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> Home:
    found = Home(tmp_path_factory.mktemp("undisturbed"), recordings)
    found.finish("--local")
    return found


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


def workers() -> list[psutil.Process]:
    return [
        p for p in psutil.process_iter(["cmdline"]) if "RayTrainWorker" in " ".join(p.info["cmdline"] or [])
    ]


def test_two_workers_give_the_scores_of_one_process_to_the_bit(home: Home, undisturbed: Home) -> None:
    output = home.finish("--workers", "2")
    assert "4 jobs over 2 trainings, of which 0 are stored" in " ".join(output.split())
    assert_equal_scores(home, undisturbed)
    before = home.records()
    again = home.finish("--workers", "2")
    assert "of which 2 are stored" in " ".join(again.split())
    assert home.records() == before


def test_two_processes_sharing_each_type_train_what_one_trains(home: Home, recordings: Path) -> None:
    """Rounding differs, and Adam makes it grow: see docs/decisions/0006."""
    home.finish("--workers", "2", "--workers-per-type", "2", epochs=20)
    alone = Home(home.folder / "alone", recordings)
    alone.finish("--local", epochs=20)
    ours, theirs = home.records(), alone.records()
    assert {record["processes"] for record in ours.values()} == {2}
    for key, record in ours.items():
        losses = [[row["reconstruction"] for row in found["curve"]] for found in (record, theirs[key])]
        assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-4)
        assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert home.scores().keys() == alone.scores().keys()


def kill_worker(process: "subprocess.Popen[str]") -> None:
    mine = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
    victims = [worker for worker in workers() if worker.pid in mine]
    assert victims
    victims[0].kill()


def test_a_killed_worker_is_replaced_and_the_run_goes_on_by_itself(home: Home, undisturbed: Home) -> None:
    process = home.start("--workers", "2")
    home.wait_for_checkpoint(process)
    kill_worker(process)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert_equal_scores(home, undisturbed)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("mode", [("--workers", "2"), ("--local",)], ids=["ray", "local"])
def test_a_killed_or_interrupted_run_goes_on_with_the_same_command(
    home: Home, undisturbed: Home, how: signal.Signals, mode: tuple[str, ...]
) -> None:
    process = home.start(*mode)
    home.wait_for_checkpoint(process)
    process.send_signal(how)
    output, _ = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130, output
        assert "the same command goes on" in output
        assert "Traceback" not in output
    until(lambda: not workers())
    checkpoints = list((home.folder / "jobs" / "trainings").glob("*/checkpoint.pt"))
    assert checkpoints
    assert not list((home.folder / "jobs").rglob("*.part")) or how == signal.SIGKILL
    home.finish(*mode)
    assert_equal_scores(home, undisturbed)


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
