"""A job store with scored jobs."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from asdbench.data.sets import catalog
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny
from asdbench.testing.conformance import run_job


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a job store with three settings scored on one machine type, in a data home."""
    with pytest.MonkeyPatch.context() as patched:
        home = tmp_path_factory.mktemp("home")
        patched.setenv("ASDBENCH_HOME", str(home))
        catalog.add(
            Workspace.from_environment(), "tiny", write_tiny(home / "recordings", machine_types=("fan",))
        )
        for hidden in (8, 6, 10):
            settings = {"epochs": 1, "hidden": hidden, "frames": 2, "n_mels": 16}
            run_job(
                Job("baseline-mse", settings, "tiny", "fan", 0),
                Workspace.from_environment(),
                JobStore(Storage.from_location(home / "jobs")),
            )
        yield home / "jobs"


@pytest.fixture
def folder(scored: Path, tmp_path: Path) -> Path:
    return shutil.copytree(scored, tmp_path / "jobs")


@pytest.fixture
def store(folder: Path) -> JobStore:
    return JobStore(Storage.from_location(folder))
