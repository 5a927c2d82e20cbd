"""The store that keeps the results of jobs. Every file is written whole or not at all."""

from dataclasses import dataclass
from typing import Any

import polars as pl
import torch

from asdbench.engine.jobs import ResolvedJob, TrainingTask
from asdbench.engine.store_snapshot import StoreSnapshot
from asdbench.engine.task_records import (
    ScoringRecord,
    TrainingRecord,
    scoring_from_json,
    to_json,
    training_from_json,
)
from asdbench.io.records import RecordError
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace


@dataclass(frozen=True)
class JobStore:
    """The results of jobs. Every file is written whole or not at all.

    Attributes
    ----------
    root : where they are kept, a folder or any other storage
    """

    root: Storage

    @classmethod
    def from_workspace(cls, workspace: Workspace) -> "JobStore":
        """Return the job store of a workspace: ``jobs`` in its storage."""
        return cls(workspace.job_storage)

    @property
    def uri(self) -> str:
        """What names it to another process, with whatever password that takes."""
        return self.root.uri

    def training(self, key: str) -> str:
        """Return the folder of a training; names of files start with it."""
        return f"trainings/{key}"

    def scores(self, key: str) -> str:
        """Return the folder of component scores; names of files start with it."""
        return f"scores/{key}"

    def result(self, key: str) -> str:
        """Return the name of a result's file."""
        return f"results/{key}.json"

    def training_record(self, key: str) -> TrainingRecord:
        """Return the record of a finished training."""
        name = f"{self.training(key)}/training.json"
        return training_from_json(self.root.read(name), path=f"{self.root}/{name}")

    def scoring_record(self, key: str) -> ScoringRecord:
        """Return the record of finished component scores."""
        name = f"{self.scores(key)}/scoring.json"
        return scoring_from_json(self.root.read(name), path=f"{self.root}/{name}")

    def save_training_record(self, key: str, record: TrainingRecord) -> None:
        """Write the record of a finished training, after all its other files."""
        self.root.write(f"{self.training(key)}/training.json", to_json(record))

    def save_scoring_record(self, key: str, record: ScoringRecord) -> None:
        """Write the record of finished component scores, after all their other files."""
        self.root.write(f"{self.scores(key)}/scoring.json", to_json(record))

    def components(self, key: str) -> pl.DataFrame:
        """Return stored component scores, as :func:`asdbench.engine.scoring.component_scores` made them."""
        return pl.read_parquet(self.root.readable(f"{self.scores(key)}/components.parquet"))

    def save_tensors(self, name: str, content: Any) -> None:
        """Write tensors and plain values with ``torch.save``."""
        self.root.write(name, lambda stream: torch.save(content, stream))

    def load_tensors(self, name: str) -> Any:
        """Read what :meth:`save_tensors` wrote; nothing in the file is executed."""
        return torch.load(self.root.readable(name), map_location="cpu", weights_only=True)

    def is_trained(self, resolved: ResolvedJob) -> bool:
        """Whether the job's training is finished."""
        return self.snapshot().is_trained(resolved)

    def is_scored(self, resolved: ResolvedJob) -> bool:
        """Whether the job's component scores are there, and the training that they are of."""
        return self.snapshot().is_scored(resolved)

    def is_done(self, task: TrainingTask) -> bool:
        """Whether all jobs of ``task`` are trained and scored."""
        return self.snapshot().is_done(task)

    def snapshot(self) -> StoreSnapshot:
        """Return what answers the same questions for many jobs, from a single listing."""
        return StoreSnapshot(self.root)

    def training_speeds(self) -> dict[str, float]:
        """Return the median training speed of each system that was ever trained, in steps per second."""
        rates: dict[str, list[float]] = {}
        for name, content in self.root.read_each(self.root.names("trainings", "/training.json")):
            try:
                record = training_from_json(content, path=name)
            except RecordError:  # an estimate does without it
                continue
            if record.seconds > 0:
                rates.setdefault(record.description["system"], []).append(record.steps / record.seconds)
        return {system: sorted(of)[len(of) // 2] for system, of in rates.items()}
