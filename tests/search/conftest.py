"""A small data set, and a data home with members of an ensemble that have run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny
from asdbench.testing.conformance import run_job
from tests.search.problems import MEMBERS, SEEDS, SMALL


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data home with a data set of two machine types, in which the members have run with two seeds."""
    folder = tmp_path_factory.mktemp("fusion")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASDBENCH_HOME", str(folder / "home"))
        patch.delenv("ASDBENCH_STORAGE", raising=False)
        recordings = write_tiny(folder / "recordings", test_clips_per_cell=6, durations_s=(0.5, 0.7))
        data = catalog.add(Workspace.from_environment(), "tiny", recordings)
        for seed in SEEDS:
            for machine_type in data.machine_types:
                run_job(
                    Job("ensemble", MEMBERS | SMALL, "tiny", machine_type, seed),
                    Workspace.from_environment(),
                    JobStore.from_workspace(Workspace.from_environment()),
                )
        yield folder


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ASDBENCH_STORAGE", raising=False)
    types = ("fan", "pump", "valve")
    return catalog.add(
        Workspace.from_environment(),
        "tiny",
        write_tiny(tmp_path / "recordings", machine_types=types, source_clips=6, target_clips=1),
    )
