"""The trainings of a task: what is stored of them, what is left to train, and how it is stored.

Of a cross-fitting the trainings without each fold come first, each stored when it ends, then the one with all
clips. Where a system has no stages, only back ends are fitted without a fold.

A checkpoint that cannot be written is skipped, and a finished training waits until it can be stored. Only
rank 0 of a group reads and writes; the other processes receive what it reads.
"""

import contextlib
import logging
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypedDict, TypeVar, cast

import torch

from asdbench.data.loader import JobData
from asdbench.engine import training
from asdbench.engine.events import Note
from asdbench.engine.job_store import DamagedFileError, JobStore
from asdbench.engine.jobs import TrainingTask
from asdbench.engine.pretrained import trained_state
from asdbench.engine.runtime import Runtime
from asdbench.engine.state import State, load_trained
from asdbench.engine.task_records import TrainingRecord, now
from asdbench.engine.training import JobTraining, Saving
from asdbench.engine.training_checkpoint import Checkpoint
from asdbench.engine.versions import installed
from asdbench.io.retry import retry_until_stored
from asdbench.io.storage import StorageError
from asdbench.system import System

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes
    ----------
    system : the trained system
    folds : of a cross-fitting, the state after the training without each fold; empty where there are no
        stages, and so one state whatever the clips
    """

    system: System
    folds: Sequence[State]

    def without_fold(self, fold: int) -> State:
        """Return the state after a training without this fold."""
        return self.folds[fold] if self.folds else self.system.state_dict()


class _Fold(TypedDict):
    """What is stored of a training without a fold."""

    system: dict[str, torch.Tensor]
    steps: int
    seconds: float


class TaskTraining:
    """All trainings of a task, whoever takes their steps.

    Parameters
    ----------
    task, runtime, store, checkpoint_epochs : as of `asdbench.engine.run_task.run_task`
    """

    def __init__(
        self, task: TrainingTask, runtime: Runtime, store: JobStore, *, checkpoint_epochs: int
    ) -> None:
        self.task, self.runtime, self.store, self.checkpoint_epochs = task, runtime, store, checkpoint_epochs
        self._began_unix_s = time.time()
        self._folds: dict[int, _Fold] = {}
        self._system: System | None = None

    @property
    def folder(self) -> str:
        """Where the trainings are stored."""
        return self.store.training(self.task.first.training_key)

    def stored(self) -> Trained | None:
        """Return what is trained and stored; ``None`` unless all of it is."""
        stored = self.from_rank_zero(self._stored_models)
        if stored is None:
            return None
        logger.debug("training %s is stored", self.task.first.training_key)
        system = self.initial()
        load_trained(system, stored[0])
        return Trained(system, stored[1:])

    def left(self) -> list["Part"]:
        """Return the trainings that are not stored, the one with all clips last."""
        for fold in range(self._n_folds):
            stored: _Fold | None = self.from_rank_zero(partial(_read, self.store, self._fold_path(fold)))
            if stored is not None:
                self._folds[fold] = stored
        return [Part(self, fold) for fold in (*range(self._n_folds), None) if fold not in self._folds]

    def trained(self) -> Trained:
        """Return the result of the trainings, which are finished."""
        assert self._system is not None
        return Trained(self._system, [self._folds[fold]["system"] for fold in sorted(self._folds)])

    def initial(self) -> System:
        """Return the system with its initial weights, which depend on the seed alone."""
        first = self.task.first
        training.seed_initial_weights(first.job.seed)
        return first.build_trained(first.clips.facts).to(self.runtime.device)

    @cached_property
    def _n_folds(self) -> int:
        clips = self.task.first.clips
        return clips.n_folds if clips.n_folds and self.initial().stages(clips.steps_per_epoch) else 0

    def _fold_path(self, fold: int) -> str:
        return f"{self.folder}/fold-{fold}.pt"

    def _stored_models(self) -> list[State] | None:
        """Return the states of a finished training: the model's, then those without each fold."""
        store = self.store
        if not store.is_done(self.task):
            try:
                store.root.check()
            except StorageError as error:
                if not error.transient:
                    raise
        if not store.is_trained(self.task.first):
            return None
        model = _read(store, f"{self.folder}/model.pt")
        folds = [_read(store, self._fold_path(fold)) for fold in range(self._n_folds)]
        return None if model is None or None in folds else [model, *(fold["system"] for fold in folds)]

    def from_rank_zero(self, read: Callable[[], T]) -> T:
        """Return what rank 0 reads; see :func:`broadcast_from_rank_zero`."""
        return broadcast_from_rank_zero(self.runtime, read)

    def keep(self, fold: int | None, part: JobTraining, checkpoint: str) -> None:
        """Store a finished training, and delete its checkpoint."""
        if fold is None:
            self._system = part.system
            self._store_model(part)
        else:
            outcome = part.outcome()
            kept = _Fold(system=trained_state(part.system), steps=outcome.steps, seconds=outcome.seconds)
            self._folds[fold] = kept
            self._write(lambda: self.store.save_tensors(self._fold_path(fold), kept))
        if self.runtime.is_rank_zero:
            with contextlib.suppress(StorageError):  # nobody reads it anymore
                self.store.root.delete(checkpoint)

    def _store_model(self, part: JobTraining) -> None:
        first, outcome, folds = self.task.first, part.outcome(), self._folds.values()
        self._write(lambda: self.store.save_tensors(f"{self.folder}/model.pt", trained_state(part.system)))
        record = TrainingRecord(
            description=first.training_description,
            data=first.job.data,
            steps=outcome.steps + sum(fold["steps"] for fold in folds),
            seconds=outcome.seconds + sum(fold["seconds"] for fold in folds),
            curve=outcome.curve,
            validation=outcome.validation,
            parameters=sum(p.numel() for p in part.system.parameters()),
            processes=self.runtime.size,
            device=str(self.runtime.device),
            peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            versions=installed(),
            began_unix_s=self._began_unix_s,
            finished=now(),
            compiled=outcome.is_compiled,
        )
        # last, because its presence means that the training is complete
        self._write(lambda: self.store.save_training_record(first.training_key, record))

    def _write(self, write: Callable[[], None]) -> None:
        if self.runtime.is_rank_zero:
            retry_until_stored(write, on_wait=self.runtime.report_waiting)


@dataclass(frozen=True)
class Part:
    """A training that is not stored: without a fold, or with all clips.

    Attributes
    ----------
    owner : the trainings of its task
    fold : the fold that it leaves out; ``None`` for none
    """

    owner: TaskTraining
    fold: int | None

    @property
    def checkpoint(self) -> str:
        """Where it is saved while it runs."""
        return f"{self.owner.folder}/checkpoint{'' if self.fold is None else f'-{self.fold}'}.pt"

    @property
    def clips(self) -> JobData:
        """What it is trained on."""
        clips = self.owner.task.first.clips
        return clips if self.fold is None else clips.without_fold(self.fold)

    def begin(self, trainings: int = 1) -> JobTraining:
        """Return it with its initial weights, or with the state of its checkpoint if there is one.

        It is one of so many that train together.
        """
        owner = self.owner
        resume: Checkpoint | None = owner.from_rank_zero(lambda: _read(owner.store, self.checkpoint))
        if resume is not None:
            logger.info("resume: training %s from its checkpoint", owner.task.first.training_key)
        return JobTraining(
            owner.initial(),
            self.clips,
            owner.runtime,
            seed=owner.task.first.job.seed,
            saving=Saving(self._save, owner.checkpoint_epochs, trainings=trainings),
            resume=resume,
        )

    def finish(self, part: JobTraining) -> None:
        """Store what it has come to."""
        self.owner.keep(self.fold, part, self.checkpoint)

    def _save(self, state: Checkpoint) -> None:
        runtime = self.owner.runtime
        try:
            self.owner.store.save_tensors(self.checkpoint, state)
        except StorageError as error:
            runtime.report(Note(f"training continues without a checkpoint for now: {error}"))
        else:
            runtime.after_checkpoint()


def broadcast_from_rank_zero(runtime: Runtime, read: Callable[[], T]) -> T:
    """Return in every process what rank 0 reads, or raise the error that it met."""
    content: T | None = None
    failure: Exception | None = None
    if runtime.is_rank_zero:
        try:
            content = retry_until_stored(read, on_wait=runtime.report_waiting, transient_only=True)
        except Exception as error:
            failure = error
    content, failure = runtime.broadcast((content, failure))
    if failure is not None:
        raise failure
    return cast(T, content)


def _read(store: JobStore, path: str) -> Any:
    """Return the content of a file of tensors; ``None`` if there is none, or none that can be read."""
    with contextlib.suppress(FileNotFoundError, DamagedFileError):  # deleted since the check
        return store.load_tensors(path)
    return None
