"""The store that keeps the results of jobs. Every file is written whole or not at all.

A disk may damage a file all the same. A damaged file is set aside under another name as soon as it is read,
so that the job is no longer finished, and whoever runs it makes the file again.
"""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from asdbench.engine.jobs import ResolvedJob, TrainingTask
from asdbench.engine.record_index import RecordKind, indexed_records
from asdbench.engine.store_snapshot import StoreSnapshot
from asdbench.engine.task_records import (
    SCHEMA_VERSION,
    ScoringRecord,
    TrainingRecord,
    scoring_from_json,
    to_json,
    training_from_json,
)
from asdbench.errors import InfrastructureError
from asdbench.io.records import RecordError
from asdbench.io.retry import RetryingStorage
from asdbench.io.storage import Storage, StorageError
from asdbench.io.workspace import Workspace

T = TypeVar("T")


class DamagedFileError(InfrastructureError):
    """A stored file that cannot be read. It is set aside, so that the next run of its job makes it again."""


def _training_row(content: bytes, path: str) -> dict[str, object]:
    record = training_from_json(content, path=path)
    description = record.description
    return {
        "system": description["system"],
        "data": record.data,
        "seed": description["seed"],
        "settings": json.dumps(description["settings"], sort_keys=True),
        "steps": record.steps,
        "seconds": record.seconds,
    }


def _scoring_row(content: bytes, path: str) -> dict[str, object]:
    record = scoring_from_json(content, path=path)
    return {
        "training": record.description["training"],
        "system": record.description["system"],
        "seconds": record.backend_seconds + record.scoring_seconds,
    }


TRAININGS = RecordKind(
    folder="trainings",
    suffix="/training.json",
    version=f"2-{SCHEMA_VERSION}",
    columns={
        "system": pl.String(),
        "data": pl.String(),
        "seed": pl.Int64(),
        "settings": pl.String(),
        "steps": pl.Int64(),
        "seconds": pl.Float64(),
    },
    to_row=_training_row,
)
SCORINGS = RecordKind(
    folder="scores",
    suffix="/scoring.json",
    version=f"2-{SCHEMA_VERSION}",
    columns={"training": pl.String(), "system": pl.String(), "seconds": pl.Float64()},
    to_row=_scoring_row,
)


def _embeddings_of(content: bytes) -> NDArray[np.float16]:
    embeddings: NDArray[np.float16] = np.load(io.BytesIO(content), allow_pickle=False)
    return embeddings


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

    def retrying(self) -> "JobStore":
        """Return this store for a driver: it waits while the storage is full or unreachable."""
        return JobStore(RetryingStorage(self.root.uri))

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
        """Return the record of a finished training; raises :class:`DamagedFileError` for a damaged one."""
        name = f"{self.training(key)}/training.json"
        return self._parsed(name, partial(training_from_json, path=f"{self.root}/{name}"))

    def scoring_record(self, key: str) -> ScoringRecord:
        """Return the record of finished component scores; raises :class:`DamagedFileError` as others do."""
        name = f"{self.scores(key)}/scoring.json"
        return self._parsed(name, partial(scoring_from_json, path=f"{self.root}/{name}"))

    def save_training_record(self, key: str, record: TrainingRecord) -> None:
        """Write the record of a finished training, after all its other files."""
        self.root.write(f"{self.training(key)}/training.json", to_json(record))

    def save_scoring_record(self, key: str, record: ScoringRecord) -> None:
        """Write the record of finished component scores, after all their other files."""
        self.root.write(f"{self.scores(key)}/scoring.json", to_json(record))

    def components(self, key: str) -> pl.DataFrame:
        """Return stored component scores, as :func:`asdbench.engine.scoring.component_scores` made them.

        Raises :class:`DamagedFileError` if the file is damaged.
        """
        return self._parsed(f"{self.scores(key)}/components.parquet", pl.read_parquet)

    def save_embeddings(self, key: str, embeddings: NDArray[np.float16]) -> None:
        """Write embeddings of hold-out and test clips, shape (clip, dim), in the order of the components."""
        self.root.write(
            f"{self.scores(key)}/embeddings.npy",
            lambda stream: np.save(stream, embeddings, allow_pickle=False),
        )

    def embeddings(self, key: str) -> NDArray[np.float16] | None:
        """Return what :meth:`save_embeddings` wrote; ``None`` if the system has no embeddings.

        A damaged file raises :class:`DamagedFileError`; the record of the scores is then set aside too, so
        that the next run of the job makes both again.
        """
        folder = self.scores(key)
        try:
            return self._parsed(f"{folder}/embeddings.npy", _embeddings_of)
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            self._set_aside(f"{folder}/scoring.json", error)
            raise

    def save_tensors(self, name: str, content: Any) -> None:
        """Write tensors and plain values with ``torch.save``."""
        self.root.write(name, lambda stream: torch.save(content, stream))

    def load_tensors(self, name: str) -> Any:
        """Read what :meth:`save_tensors` wrote; nothing in the file is executed.

        Raises :class:`DamagedFileError` if the file is damaged.
        """
        return self._parsed(
            name, lambda content: torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        )

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

    def is_readable(self, task: TrainingTask) -> bool:
        """Whether the stored files of a done ``task`` can be read; one that cannot is set aside.

        Tensors are not read: of their files, in a folder, only the end is looked at.
        """
        try:
            self.training_record(task.first.training_key)
            self._check_end(f"{self.training(task.first.training_key)}/model.pt")
            for resolved in task.jobs:
                self.scoring_record(resolved.scoring_key)
                self.components(resolved.scoring_key)
                self._check_end(f"{self.scores(resolved.scoring_key)}/backend.pt")
        except (DamagedFileError, FileNotFoundError):
            return False
        return True

    def _check_end(self, name: str) -> None:
        if self.root.folder is not None and not zipfile.is_zipfile(self.root.folder / name):
            raise self._set_aside(name, ValueError("its end is missing"))

    def _parsed(self, name: str, parse: Callable[[bytes], T]) -> T:
        try:
            return parse(self.root.read(name))
        except StorageError as error:
            if not isinstance(error.__cause__, IsADirectoryError):
                raise
            raise self._set_aside(name, error.__cause__) from error
        except (FileNotFoundError, MemoryError):
            raise
        except (Exception, pl.exceptions.PanicException) as error:
            if isinstance(error, RecordError) and error.is_other_version:
                raise
            raise self._set_aside(name, error) from error

    def _set_aside(self, name: str, error: BaseException) -> DamagedFileError:
        cause = error.__cause__ if isinstance(error, RecordError) and error.__cause__ else error
        reason = (str(cause).splitlines() or [type(cause).__name__])[0][:120]
        self.root.set_aside(name, reason)
        return DamagedFileError(
            f"{self.root}/{name} was damaged ({reason}) and is renamed; the same command makes it again"
        )

    def training_speeds(self) -> dict[str, float]:
        """Return the median training speed of each system that was ever trained, in steps per second."""
        trainings = indexed_records(self.root, TRAININGS).rows.filter(pl.col("seconds") > 0)
        rates = trainings.group_by("system").agg(rate=(pl.col("steps") / pl.col("seconds")).sort())
        return {system: rate[len(rate) // 2] for system, rate in rates.iter_rows()}

    def scoring_seconds(self) -> dict[str, float]:
        """Return the median time that fitting the back end and scoring took, for each system."""
        scorings = indexed_records(self.root, SCORINGS).rows
        return dict(scorings.group_by("system").agg(pl.col("seconds").median()).iter_rows())
