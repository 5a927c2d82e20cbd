"""Searches in MLflow: one run for each, which grows, with a nested run for each trial.

Conventions: a pruned trial is KILLED, a failed one FAILED; a search is RUNNING until all requested trials are
stored. The metrics of a search are ``best_score`` and ``default_score`` of the finished trials and
``trials_complete``, ``trials_pruned``, ``trials_failed``, each with the number of trials as step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from asdbench.tracking.records import IS_DEFAULT, KEY, TRIAL, TRIALS, RunRecord, TrialEntry
from asdbench.tracking.run_writer import PARENT, RunWriter

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

_STATES = {"FINISHED": "complete", "KILLED": "pruned", "FAILED": "failed"}


@dataclass(frozen=True)
class _StoredSearch:
    """A search in the store: its outer run, and its trials by number."""

    parent: "MlflowRun"
    trials: "dict[str, _StoredTrial]"


@dataclass(frozen=True)
class _StoredTrial:
    """A trial in the store, with the values that its search summarizes."""

    status: str
    score: float | None
    is_default: bool
    ended_ms: int

    @classmethod
    def from_run(cls, run: "MlflowRun") -> "_StoredTrial":
        score, is_default = run.data.metrics.get("score"), run.data.tags[IS_DEFAULT] == "true"
        return cls(run.info.status, score, is_default, run.info.end_time)


class SearchWriter:
    """Writes searches and their trials to an MLflow store.

    Parameters
    ----------
    client : mlflow.MlflowClient
    runs : writer of the same store
    """

    def __init__(self, client: Any, runs: RunWriter) -> None:
        self._client, self._runs = client, runs
        self._known: dict[str, _StoredSearch] = {}

    def forget(self) -> None:
        """Read searches again before they are written to: what was written last may not be stored."""
        self._known.clear()

    def write(self, experiment: str, entries: Sequence[TrialEntry]) -> None:
        """Write the trials of a search that are not stored yet, and update the search."""
        search = entries[-1].search
        trials = {entry.trial.tags[TRIAL]: entry.trial for entry in entries}
        stored = self._unchanged_search(experiment, search, trials) or self._read_search(experiment, search)
        if stored is None:
            began_ms = min(trial.began_ms for trial in trials.values())
            parent = self._runs.create(experiment, msgspec.structs.replace(search, began_ms=began_ms))
            stored = _StoredSearch(parent, {})
            self._runs.arrange(
                experiment, self._client.get_experiment(experiment).tags, entries[-1].arrangement
            )
        for number, trial in trials.items():
            if number not in stored.trials:
                self._runs.write(experiment, trial, stored.parent.info.run_id)
                stored.trials[number] = _StoredTrial(
                    trial.status, trial.last("score"), trial.tags[IS_DEFAULT] == "true", trial.ended_ms
                )
        self._update_search(stored.parent, search, list(stored.trials.values()))
        self._known[search.tags[KEY]] = stored

    def _unchanged_search(
        self, experiment: str, search: RunRecord, trials: Mapping[str, RunRecord]
    ) -> "_StoredSearch | None":
        """Return a search as this store left it, ``None`` if another process may have written to it since.

        A search of thousands of trials is thus read once, not for each trial.
        """
        known = self._known.pop(search.tags[KEY], None)
        if known is None:
            return None
        parent = self._client.get_run(known.parent.info.run_id)
        counted = sum(parent.data.metrics.get(f"trials_{state}", 0) for state in _STATES.values())
        if counted != len(known.trials) or parent.info.lifecycle_stage != "active":
            return None
        if any(self._runs.runs_with(experiment, search.tags[KEY], trial=number) for number in trials):
            return None
        return _StoredSearch(parent, known.trials)

    def _read_search(self, experiment: str, search: RunRecord) -> "_StoredSearch | None":
        """Return a search with its trials; delete those whose writing was interrupted."""
        existing = self._runs.runs_with(experiment, search.tags[KEY])
        parent = next((run for run in existing if PARENT not in run.data.tags), None)
        if parent is None:
            return None
        stored = _StoredSearch(parent, {})
        for run in existing:
            if run.data.tags.get(PARENT) == parent.info.run_id:
                if run.info.status in _STATES:
                    stored.trials[run.data.tags[TRIAL]] = _StoredTrial.from_run(run)
                else:
                    self._client.delete_run(run.info.run_id)
        return stored

    def _update_search(self, parent: "MlflowRun", search: RunRecord, done: Sequence["_StoredTrial"]) -> None:
        """Update name, metrics and status of a search to its trials; MLflow cannot change parameters."""
        run_id, ended_ms = parent.info.run_id, max(trial.ended_ms for trial in done)
        metrics: dict[str, float] = {
            f"trials_{state}": sum(trial.status == status for trial in done)
            for status, state in _STATES.items()
        }
        for trial in done:
            if trial.status == "FINISHED" and trial.score is not None:
                metrics["best_score"] = max(trial.score, metrics.get("best_score", trial.score))
                if trial.is_default:
                    metrics["default_score"] = trial.score
        self._runs.log(
            run_id,
            ended_ms,
            metrics=[(name, value, len(done)) for name, value in metrics.items()],
            params={name: value for name, value in search.params.items() if name not in parent.data.params},
            tags={TRIALS: search.tags[TRIALS]},
        )
        if parent.info.run_name != search.name:
            self._client.update_run(run_id, name=search.name)
        if len(done) >= int(search.tags[TRIALS]):
            self._client.set_terminated(run_id, "FINISHED", ended_ms)
        elif parent.info.status != "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
