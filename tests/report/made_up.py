"""A data home with made-up results: quick to write, and with as many types and seeds as a test needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.stored_results import current_results
from asdbench.io.workspace import Workspace
from asdbench.report.leaderboard import rows
from asdbench.report.rendering import Row
from asdbench.testing import write_tiny
from asdbench.testing.scores import write_scores


def made_up(
    folder: Path,
    systems: Sequence[str] = ("baseline-mse", "baseline-maha"),
    *,
    seeds: Sequence[int] = (0, 1),
    machine_types: Sequence[str] = ("fan", "valve"),
    **options: Any,
) -> tuple[DataSet, JobStore]:
    """Register the data set ``tiny`` in ``folder`` and store made-up results of systems on it."""
    workspace = Workspace.from_home(folder / "home")
    recordings = write_tiny(folder / "recordings", machine_types=machine_types, test_clips_per_cell=5)
    data, store = catalog.add(workspace, "tiny", recordings), JobStore.from_workspace(workspace)
    for place, name in enumerate(systems):
        configured = registry.configure(name)
        jobs = [
            ResolvedJob.from_configured(configured, data, machine_type, seed=seed)
            for seed in seeds
            for machine_type in machine_types
        ]
        write_scores(jobs, store, separation=2.0 - 0.4 * place, **options)
    return data, store


def leaderboard_rows(data: DataSet, store: JobStore) -> list[Row]:
    """Return the rows of the leaderboard."""
    return rows(current_results(data, store).records, machine_types=data.machine_types)
