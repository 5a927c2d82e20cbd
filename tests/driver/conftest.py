"""A small data set, its jobs, and a console whose output can be read."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.driver.features import build_features
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, by_training
from asdbench.engine.local import run_local
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny

SMALL = {"epochs": 1, "hidden": 8, "n_mels": 16, "frames": 2}


class Output(Console):
    """A console that is no terminal and remembers what it prints."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        super().__init__(file=self.stream, width=300)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def output() -> Output:
    return Output()


@pytest.fixture
def tiny_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """Two machine types, fan and valve."""
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ASDBENCH_STORAGE", raising=False)
    recordings = write_tiny(tmp_path / "recordings", test_clips_per_cell=4)
    return catalog.add(Workspace.from_environment(), "tiny", recordings)


@pytest.fixture
def store(tiny_data: DataSet) -> JobStore:
    return JobStore.from_workspace(tiny_data.workspace)


@pytest.fixture
def small_jobs(tiny_data: DataSet) -> Callable[..., list[ResolvedJob]]:
    """Jobs of a small autoencoder, one for each machine type."""

    def jobs(system: str = "baseline-mse", **settings: object) -> list[ResolvedJob]:
        configured = registry.configure(system, {**SMALL, **settings})  # type: ignore[dict-item]
        return [
            ResolvedJob.from_configured(configured, tiny_data, machine_type, seed=0)
            for machine_type in tiny_data.machine_types
        ]

    return jobs


@pytest.fixture
def scored_jobs(
    small_jobs: Callable[..., list[ResolvedJob]], store: JobStore, output: Output
) -> list[ResolvedJob]:
    """The scored jobs of two systems that share their trainings."""
    jobs = [*small_jobs(), *small_jobs("baseline-maha")]
    build_features(jobs, console=output)
    assert run_local(by_training(jobs), store, checkpoint_epochs=1, on_event=lambda _: None) == []
    return jobs
