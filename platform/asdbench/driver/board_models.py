"""The models of a leaderboard: which MLflow gets, and their export when it does."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from asdbench.data.sets import catalog
from asdbench.driver.export import export_model
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.report.leaderboard import display_metrics, settings_text
from asdbench.report.rendering import Row

if TYPE_CHECKING:
    from asdbench.driver.board import Board
    from asdbench.tracking.logged_models import Export
    from asdbench.tracking.records import ModelEntry


def best_rows(board: "Board") -> dict[str, Row]:
    """Return the best row of each system that is complete and that no search has chosen, the best first."""
    best: dict[str, Row] = {}
    for row in board.rows:
        if row["complete"] and not row["tuned"]:
            best.setdefault(row["system"], row)
    return best


def model_entries(board: "Board", systems: Collection[str]) -> "Iterator[ModelEntry]":
    """Yield the entries of the models of some systems, and of the best one.

    On the evaluation subset there are none: its rows have the same models.
    """
    if board.subset == "dev":
        for place, (system, row) in enumerate(best_rows(board).items()):
            if place == 0 or system in systems:
                yield _entry(board, row, leads=place == 0)


def outdated_models(board: "Board", recorded: Mapping[str, str]) -> "Iterator[ModelEntry]":
    """Yield the entries of the models that are not logged as they are; ``recorded`` has states by system."""
    for entry in model_entries(board, best_rows(board)):
        if recorded.get(entry.system) != entry.state:
            yield entry


def exporter(workspace: Workspace) -> "Export":
    """Return the function that exports the model of an entry from the results of a workspace."""

    def export(entry: "ModelEntry", folder: Path) -> None:
        data = catalog.load(workspace, entry.data)
        jobs = [
            ResolvedJob.from_job(
                Job(entry.system, entry.settings, entry.data, of, entry.seed, entry.pseudo_anomaly_data), data
            )
            for of in entry.machine_types
        ]
        keys = {resolved.machine_type: resolved.scoring_key for resolved in jobs}
        if _weights(entry.system, entry.settings, keys) != entry.weights:
            raise InputError("recordings, labels or code have changed since")
        export_model(jobs, JobStore.from_workspace(workspace), folder)

    return export


def _entry(board: "Board", row: Row, *, leads: bool) -> "ModelEntry":
    from asdbench.tracking.records import ModelEntry

    seed = row["seeds"][0]  # the lowest: a choice by score would favor luck
    records = board.records_of(row, seed)
    first = next(iter(records.values()))
    return ModelEntry(
        experiment=board.experiment,
        store=board.store_id,
        key=board.key(row),
        results=board.results(row),
        weights=_weights(
            first.system, first.changed_settings, {of: record.keys.scoring for of, record in records.items()}
        ),
        as_of_ns=board.as_of_ns,
        leads=leads,
        system=first.system,
        settings=first.changed_settings,
        data=board.data.name,
        data_digest=board.data.fingerprint()[:8],
        machine_types=list(records),
        seed=seed,
        pseudo_anomaly_data=first.pseudo_anomaly_data,
        metrics=display_metrics(row),
    )


def _weights(system: str, settings: Mapping[str, object], scoring_keys: Mapping[str, str]) -> str:
    """Return a hash of all that an exported model depends on."""
    from asdbench.tracking.records import hash_of

    return hash_of([system, settings_text(settings), *(f"{of} {key}" for of, key in scoring_keys.items())])
