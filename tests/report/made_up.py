"""A data home with made-up results: quick to write, and with as many types and seeds as a test needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.search_record import StoredTrial, StudyRecord, save_search
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
    separation: float = 3.0,
    **options: Any,
) -> tuple[DataSet, JobStore]:
    """Register the data set ``tiny`` in ``folder`` and store made-up results of systems on it."""
    workspace = Workspace.from_home(folder / "home")
    recordings = write_tiny(
        folder / "recordings", machine_types=machine_types, test_clips_per_cell=5, durations_s=(0.5, 0.7)
    )
    data, store = catalog.add(workspace, "tiny", recordings), JobStore.from_workspace(workspace)
    for place, name in enumerate(systems):
        score(name, data, store, seeds, machine_types, separation=separation - 1.5 * place, **options)
    return data, store


def score(
    name: str,
    data: DataSet,
    store: JobStore,
    seeds: Sequence[int],
    machine_types: Sequence[str],
    **options: Any,
) -> None:
    """Store made-up results of a system on some machine types."""
    configured = registry.configure(name)
    jobs = [
        ResolvedJob.from_configured(configured, data, machine_type, seed=seed)
        for seed in seeds
        for machine_type in machine_types
    ]
    write_scores(jobs, store, **options)


def leaderboard_rows(data: DataSet, store: JobStore) -> list[Row]:
    """Return the rows of the leaderboard."""
    return rows(current_results(data, store).records, machine_types=data.machine_types)


def save_study(data: DataSet, store: JobStore, *, n_trials: int = 6, system: str = "baseline-mse") -> None:
    """Store the record of a search whose score rises with the learning rate; its last trial is pruned."""
    trials = tuple(
        StoredTrial(
            number,
            {"learning_rate": 0.001 * 1.3**number, "hidden": 128},
            "complete" if number + 1 < n_trials else "pruned",
            (0.5, 0.5 + 0.02 * number),
            {},
            0.0,
            1.0,
            None,
        )
        for number in range(n_trials)
    )
    record = StudyRecord(
        system=system,
        data=data.name,
        subset="dev",
        protocol="dev",
        held_out=None,
        pseudo_anomaly_data=None,
        start=dict(registry.configure(system).values()),
        seeds=(0,),
        description={},
        trials_done=n_trials,
        best=None,
        trials=trials,
    )
    save_search(store, "abc", record)
