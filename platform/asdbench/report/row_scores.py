"""The stored scores and trainings behind a row of the leaderboard."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.decision_thresholds import decision_threshold
from asdbench.engine.evaluation import anomaly_scores, labeled_clips, training_records
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.task_records import TrainingRecord
from asdbench.metrics import DEFAULT_THRESHOLD
from asdbench.metrics.roc import BoolArray, FloatArray
from asdbench.report.rendering import Row

SeedJobs = Mapping[int, Mapping[str, ResolvedJob]]
"""Jobs of a row by seed and machine type."""


@dataclass(frozen=True, eq=False)
class TypeScores:
    """The labeled test clips of a machine type, with the scores of all seeds of a row.

    Attributes
    ----------
    machine_type : the machine type
    seeds : of the rows of ``scores``
    clips : the columns of `asdbench.engine.evaluation.labeled_clips`, sorted by ``clip_id``
    scores : shape (seed, clip)
    thresholds : shape (seed,), the decision threshold of each seed; NaN where normal clips are too few
    """

    machine_type: str
    seeds: Sequence[int]
    clips: pl.DataFrame
    scores: FloatArray
    thresholds: FloatArray

    @property
    def anomalous(self) -> BoolArray:
        """Whether each clip is an anomaly."""
        return self.clips["anomaly"].to_numpy()

    @property
    def decided(self) -> BoolArray:
        """Whether each seed calls each clip anomalous, shape (seed, clip); False without a threshold."""
        return self.scores > self.thresholds[:, None]

    @property
    def has_thresholds(self) -> bool:
        """Whether there are decisions for every seed."""
        return not bool(np.isnan(self.thresholds).any())

    def domain(self, name: str) -> BoolArray:
        """Return whether each clip is of the domain of that name."""
        return (self.clips["domain"] == name).fill_null(False).to_numpy()


def row_jobs(row: Row, data: DataSet) -> dict[int, dict[str, ResolvedJob]]:
    """Return the jobs of a leaderboard row of either kind, by seed and machine type."""
    settings = {name: value for name, value in row["settings"].items() if name != "pseudo_anomaly_data"}
    pseudo_anomaly_data = row["settings"].get("pseudo_anomaly_data")
    machine_types = [row["machine_type"]] if "machine_type" in row else row["machine_types_done"]
    return {
        seed: {
            machine_type: ResolvedJob.from_job(
                Job(row["system"], settings, data.name, machine_type, seed, pseudo_anomaly_data), data
            )
            for machine_type in machine_types
        }
        for seed in row["seeds"]
    }


def type_scores(
    jobs: SeedJobs,
    data: DataSet,
    store: JobStore,
    *,
    subset: str | None = None,
    threshold: str = DEFAULT_THRESHOLD,
) -> list[TypeScores]:
    """Return the scores of a row for each machine type with labels; ``jobs`` are those of `row_jobs`."""
    labeled = labeled_clips(data, subset=subset)
    machine_types = next(iter(jobs.values()), {})
    return [
        _of_type(machine_type, jobs, labeled.filter(pl.col("machine_type") == machine_type), store, threshold)
        for machine_type in machine_types
    ]


def _of_type(
    machine_type: str, jobs: SeedJobs, labeled: pl.DataFrame, store: JobStore, threshold: str
) -> TypeScores:
    scores, thresholds, clips = [], [], labeled
    for of_seed in jobs.values():
        table = anomaly_scores(of_seed[machine_type], store)
        limit = decision_threshold(of_seed[machine_type], table, method=threshold)
        thresholds.append(math.nan if limit is None else limit)
        tested = table.filter(pl.col("use") == "test").select("clip_id", "score")
        clips = labeled.join(tested, on="clip_id").sort("clip_id")
        scores.append(clips["score"].to_numpy())
    return TypeScores(machine_type, tuple(jobs), clips.drop("score"), np.array(scores), np.array(thresholds))


def row_trainings(jobs: SeedJobs, store: JobStore) -> dict[tuple[str, int, str], TrainingRecord]:
    """Return the training records of a row, by the trained system's name, seed and machine type."""
    return {
        (name, seed, machine_type): record
        for seed, of_seed in jobs.items()
        for machine_type, resolved in of_seed.items()
        for name, record in training_records(resolved, store).items()
    }
