"""Searches on a cluster of this machine: disturbed ones end as undisturbed ones, nothing is done twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from asdbench.testing.tiny import write_tiny

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(800)]

SMALL = ("batch_size=64", "hidden=16", "n_mels=32")
TUNE = ("-m", "asdbench", "tune", "baseline-mse", "--data", "tiny", "--workers", "2")
TRIALS, EPOCHS = 3, 50  # of the search that is disturbed


class Home:
    """A data home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "ASDBENCH_HOME": str(folder),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        self.environment.pop("MLFLOW_TRACKING_URI", None)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def python(self, *arguments: str) -> str:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=2400)
        assert process.returncode == 0, output
        return output

    def leaderboard(self) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-m", "asdbench", "leaderboard", "--data", "tiny", "--format", "json"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        timed = ("training_seconds", "scoring_seconds", "clips_per_second")
        return [{k: v for k, v in row.items() if k not in timed} for row in json.loads(done.stdout)]

    def trainings(self) -> dict[str, Any]:
        found = (self.folder / "jobs" / "trainings").glob("*/training.json")
        return {file.parent.name: json.loads(file.read_text()) for file in found}

    def searches(self) -> list[dict[str, Any]]:
        found = sorted((self.folder / "jobs" / "searches").glob("*.json"))
        return [json.loads(file.read_text()) for file in found]


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which the tiny data set is registered."""
    folder = tmp_path_factory.mktemp("recordings")
    recordings = write_tiny(folder, machine_types=("fan", "pump", "valve"), test_clips_per_cell=4)
    home = Home(tmp_path_factory.mktemp("registered"))
    home.python("-m", "asdbench", "data", "add", "tiny", str(recordings))
    return home


@pytest.fixture
def home(tmp_path: Path, registered: Home) -> Home:
    """A home with that data set only."""
    return copied(registered, tmp_path / "home")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory, registered: Home) -> Home:
    """A home in which a search ran undisturbed."""
    home = copied(registered, tmp_path_factory.mktemp("quiet"))
    home.python(*tune(TRIALS, EPOCHS))
    return home


def copied(home: Home, folder: Path) -> Home:
    shutil.copytree(home.folder, folder, dirs_exist_ok=True)
    return Home(folder)


def until(condition: Callable[[], bool], process: "subprocess.Popen[str]", seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def course(search: dict[str, Any]) -> list[Any]:
    """Return what a search has done, without times."""
    told = ("number", "parameters", "state", "rungs")
    return [[trial[name] for name in told] for trial in search["trials"]]


def tune(trials: int, epochs: int, *more: str) -> Sequence[str]:
    return (*TUNE, "--trials", str(trials), "--fresh-seeds", "0", *more, "--set", f"epochs={epochs}", *SMALL)


def test_a_search_survives_a_worker_and_then_its_driver(home: Home, quiet: Home) -> None:
    command = tune(TRIALS, EPOCHS)
    process = home.start(*command)
    until(lambda: len(home.trainings()) >= 1, process)
    mine = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in mine if "ray::train_task" in " ".join(child.cmdline())]
    assert workers
    workers[0].kill()
    until(lambda: len(home.trainings()) >= 4, process)
    assert len(home.trainings()) < 3 * TRIALS, "the trainings are too short for a search to be interrupted"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=240)
    before = home.trainings()
    home.python(*command)
    assert {key: home.trainings()[key] for key in before} == before
    assert home.trainings().keys() == quiet.trainings().keys()
    (ours,), (theirs,) = home.searches(), quiet.searches()
    assert course(ours) == course(theirs)
    board = home.leaderboard()
    assert board == quiet.leaderboard()
    rows = {row["tuned"] is not None: row for row in board}
    assert rows.keys() == {True, False}
    assert rows[True]["tuned"]["trials"] == TRIALS
    assert rows[True]["official_score"] >= rows[False]["official_score"]
    again = home.python(*command)
    assert "Ray" not in again
    assert home.trainings().keys() == quiet.trainings().keys()


def test_a_sweep_tunes_fuses_and_records_all(home: Home) -> None:
    members = "members=baseline-mse,baseline-maha"
    output = home.python(
        *("sweeps/all_types.py", "--data", "tiny", "--workers", "2", "--trials", "2"),
        *("--fresh-seeds", "0"),
        *("--systems", "baseline-mse", "baseline-maha", "ensemble"),
        *("--set", "epochs=2", members, *SMALL),
    )
    rows = home.leaderboard()
    both = [(row["system"], row["tuned"] is not None) for row in rows]
    names = ("baseline-maha", "baseline-mse", "ensemble")
    assert sorted(both) == [(name, tuned) for name in names for tuned in (False, True)]
    score = dict(zip(both, (row["official_score"] for row in rows), strict=True))
    assert all(score[name, True] >= score[name, False] for name in names[:2])
    assert "Weights of ensemble" in output
    assert "There is no estimate for an unseen machine type" in " ".join(output.split())
    assert "dev-tuned, 2 trials" in output
    runs, searches = experiments(home)
    marks = sorted(run["tags.asdbench.tuned"].partition(",")[0] for run in runs if run["outer"])
    assert marks == ["dev-tuned"] * 3 + ["no"] * 3
    outer = [run for run in searches if run["outer"]]
    assert len(outer) == 2
    for run in outer:
        trials = [trial for trial in searches if trial["tags.mlflow.parentRunId"] == run["run_id"]]
        assert [trial["status"] for trial in trials] == ["FINISHED", "FINISHED"]
        assert run["metrics.best_score"] == max(trial["metrics.score"] for trial in trials)


def test_leaving_a_type_out_judges_it_with_settings_found_without_it(home: Home) -> None:
    output = home.python(*tune(2, 2, "--protocol", "leave-one-type-out"))
    assert "leave-one-type-out, 2 trials each" in output
    searches = home.searches()
    assert sorted(search["held_out"] for search in searches) == ["fan", "pump", "valve"]
    for search in searches:
        assert len(search["trials"][0]["types"]) == 2
        assert search["held_out"] not in search["trials"][0]["types"]
    assert [row["tuned"] for row in home.leaderboard()] == [None]  # no settings are those of all types


def experiments(home: Home) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the runs and the searches that MLflow holds."""
    program = (
        "import mlflow\n"
        "from asdbench.io.workspace import Workspace\n"
        "from asdbench.tracking.address import Address\n"
        "mlflow.set_tracking_uri(Address.from_workspace(Workspace.from_environment()).uri)\n"
        "for name in ('asdbench/tiny', 'asdbench/tiny/searches'):\n"
        "    runs = mlflow.search_runs(experiment_names=[name])\n"
        "    runs['outer'] = runs.get('tags.mlflow.parentRunId', None).isna()\n"
        "    print(runs.to_json(orient='records'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=home.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return found[0], found[1]


def test_scores_do_not_depend_on_who_did_the_work(tmp_path: Path, quiet: Home) -> None:
    """A trial's jobs are those of a plain run with the same settings, in the same store."""
    home = copied(quiet, tmp_path / "home")
    (search,) = home.searches()
    before = home.trainings()
    drawn = {**search["trials"][1]["parameters"], "epochs": EPOCHS}
    drawn |= {"batch_size": 64, "hidden": 16, "n_mels": 32}
    settings = [f"{name}={value}" for name, value in drawn.items()]
    home.python("-m", "asdbench", "run", "baseline-mse", "--data", "tiny", "--local", "--set", *settings)
    assert home.trainings() == before
    assert pl.DataFrame(home.leaderboard()).height >= 2
