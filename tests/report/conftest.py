"""A data home with stored scores, shared by the tests of reports."""

import shutil
from pathlib import Path

import pytest

from asdbench.cli.main import main
from asdbench.data.sets import catalog
from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.result_record import SearchProvenance
from asdbench.io.workspace import Workspace
from asdbench.report.stored_runs import StoredRunOptions, scored_jobs
from asdbench.testing import write_tiny

QUICK = ("--set", "epochs=2", "hidden=8", "batch_size=64")
SETTINGS = StoredRunOptions(values={"epochs": 2, "hidden": 8, "batch_size": 64})


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data home with a data set on which both baselines have run with two seeds."""
    with pytest.MonkeyPatch.context() as patched:
        home = tmp_path_factory.mktemp("home")
        patched.setenv("ASDBENCH_HOME", str(home))
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        catalog.add(
            Workspace.from_environment(), "tiny", write_tiny(home / "recordings", test_clips_per_cell=4)
        )
        run = ("run", "baseline-mse", "baseline-maha", "--data", "tiny", "--local", "--seeds", "0", "1")
        with pytest.raises(SystemExit) as stop:
            main([*run, *QUICK])
        assert stop.value.code == 0
    return home


@pytest.fixture
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def searched(home: Path, at_home: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchProvenance:
    """A copy of the data home in which a search has chosen the settings of baseline-mse."""
    shutil.copytree(home, tmp_path / "home", ignore=shutil.ignore_patterns("recordings"))
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    data, tuned = catalog.load(Workspace.from_environment(), "tiny"), SearchProvenance("abc", 20)
    jobs = scored_jobs(
        ["baseline-mse"],
        data,
        JobStore.from_workspace(Workspace.from_environment()),
        seeds=[0, 1],
        machine_types=["fan", "valve"],
        settings=SETTINGS,
    )
    for of_seed in jobs["baseline-mse"].values():
        for resolved in of_seed.values():
            evaluate(resolved, JobStore.from_workspace(Workspace.from_environment()), tuned=tuned)
    return tuned
