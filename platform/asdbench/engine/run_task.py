"""Runs one task: train, fit the back end, score; stored steps are skipped, and all results are stored.

Of a cross-fitting the trainings without each fold come first, each stored when it ends, then the one with all
clips. Where a system has no stages, only back ends are fitted without a fold.

A full or unreachable storage does not end a task: a checkpoint that cannot be written is skipped, and
finished results wait until they can be stored. A storage that can never be written is reported before the
training starts. Only rank 0 of a group reads and writes; the other processes receive what it reads.
"""

import contextlib
import logging
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypedDict, TypeVar, cast

import torch

from asdbench.data import feature_store
from asdbench.data.batch_frames import BatchFrames
from asdbench.data.loader import JobData
from asdbench.engine import scoring, training
from asdbench.engine.device_batches import device_batches
from asdbench.engine.events import Note
from asdbench.engine.fit_check import check_fit
from asdbench.engine.guard import isolation, run_isolated
from asdbench.engine.job_store import DamagedFileError, JobStore
from asdbench.engine.jobs import ResolvedJob, TrainingTask
from asdbench.engine.module_state import ModuleState
from asdbench.engine.pretrained import trained_state
from asdbench.engine.runtime import Runtime
from asdbench.engine.single_clip_check import check_single_clips
from asdbench.engine.state import State, backend_state, load_trained
from asdbench.engine.task_records import ScoringRecord, TrainingRecord
from asdbench.engine.training import TrainingOutcome
from asdbench.engine.training_checkpoint import Checkpoint
from asdbench.engine.versions import installed
from asdbench.io.retry import retry_until_stored
from asdbench.io.storage import StorageError
from asdbench.io.workspace import Workspace
from asdbench.system import System

T = TypeVar("T")

logger = logging.getLogger(__name__)


def run_isolated_task(
    task: TrainingTask,
    runtime: Runtime,
    store: JobStore,
    *,
    checkpoint_epochs: int = 5,
    workspaces: Sequence[Workspace] = (),
) -> list[tuple[ResolvedJob, Exception]]:
    """Run a task as `run_task` does, in a thread that cannot read labels; see `asdbench.engine.guard`.

    Clips are looked up, and features that are missing are built, before that. ``workspaces`` are those with
    registered data sets besides that of the task's data.
    """
    for resolved in task.jobs:
        resolved.clips  # noqa: B018  # a fault of the recordings is named by their paths
    for data, spec in {spec: (data, spec) for data, spec in task.first.features}.values():
        feature_store.build(data, spec, device=runtime.device.type)
    n_threads = torch.get_num_threads()

    def run() -> list[tuple[ResolvedJob, Exception]]:
        torch.set_num_threads(n_threads)  # what OpenMP keeps is of a thread
        if runtime.device.index is not None:
            torch.cuda.set_device(runtime.device)
        return run_task(task, runtime, store, checkpoint_epochs=checkpoint_epochs)

    return run_isolated(run, [task.first.data.workspace, *workspaces])


def run_task(
    task: TrainingTask, runtime: Runtime, store: JobStore, *, checkpoint_epochs: int = 5
) -> list[tuple[ResolvedJob, Exception]]:
    """Train and score the jobs of ``task``; returns the jobs whose scoring failed, each with its error.

    Every process of the runtime's group calls this with the same task. The training resumes from its
    checkpoint if there is one; stored results are not computed again. Only rank 0 scores and writes.

    Raises
    ------
    StorageError
        The storage cannot be written.
    Exception
        The training failed.
    """
    label = task.scored_label
    logger.info("start: %s (rank %d of %d)", label, runtime.rank, runtime.size)
    failed: list[tuple[ResolvedJob, Exception]] = []
    with (
        _released_clips(task),
        torch.random.fork_rng(devices=[runtime.device] if runtime.device.type == "cuda" else []),
    ):
        trained = _trained(task, runtime, store, checkpoint_epochs)
        for resolved in task.jobs if runtime.is_rank_zero else ():
            if not retry_until_stored(
                partial(store.is_scored, resolved), on_wait=runtime.report_waiting, transient_only=True
            ):
                try:
                    _score(resolved, trained, runtime, store)
                except Exception as error:
                    failed.append((resolved, error))
    logger.info("finish: %s, %d of %d jobs failed", label, len(failed), len(task.jobs))
    return failed


@contextlib.contextmanager
def _released_clips(task: TrainingTask) -> Iterator[None]:
    """Let go of the clips at the end: who holds all tasks of a run would hold all their windows."""
    try:
        yield
    finally:
        for resolved in task.jobs:
            vars(resolved).pop("clips", None)


@dataclass(frozen=True)
class _Trained:
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


def _trained(task: TrainingTask, runtime: Runtime, store: JobStore, checkpoint_epochs: int) -> _Trained:
    """Return the trained system, with those of a cross-fitting: loaded, or trained now and stored."""
    resolved = task.first
    folder = store.training(resolved.training_key)
    system = _initial(task, runtime)
    clips = resolved.clips
    n_folds = clips.n_folds if clips.n_folds and system.stages(clips.steps_per_epoch) else 0
    stored = _broadcast_from_rank_zero(runtime, lambda: _stored_models(task, store, n_folds))
    if stored is not None:
        logger.debug("training %s is stored", resolved.training_key)
        load_trained(system, stored[0])
        return _Trained(system, stored[1:])
    began = time.time()
    folds = [_fold(task, fold, runtime, store, checkpoint_epochs) for fold in range(n_folds)]
    checkpoint = f"{folder}/checkpoint.pt"
    outcome = _train(system, task, clips, runtime, store, checkpoint, checkpoint_epochs)
    if runtime.is_rank_zero:
        retry_until_stored(
            lambda: store.save_tensors(f"{folder}/model.pt", trained_state(system)),
            on_wait=runtime.report_waiting,
        )
        record = TrainingRecord(
            description=resolved.training_description,
            data=resolved.job.data,
            steps=outcome.steps + sum(fold["steps"] for fold in folds),
            seconds=outcome.seconds + sum(fold["seconds"] for fold in folds),
            curve=outcome.curve,
            validation=outcome.validation,
            parameters=sum(p.numel() for p in system.parameters()),
            processes=runtime.size,
            device=str(runtime.device),
            peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            versions=installed(),
            began_unix_s=began,
            finished=now(),
            compiled=outcome.is_compiled,
        )
        # last, because its presence means that the training is complete
        retry_until_stored(
            lambda: store.save_training_record(resolved.training_key, record),
            on_wait=runtime.report_waiting,
        )
        with contextlib.suppress(StorageError):  # nobody reads it anymore
            store.root.delete(checkpoint)
    return _Trained(system, [fold["system"] for fold in folds])


def _fold(task: TrainingTask, fold: int, runtime: Runtime, store: JobStore, checkpoint_epochs: int) -> _Fold:
    """Return a training of a cross-fitting, which leaves a fold out: loaded, or trained now and stored."""
    folder = store.training(task.first.training_key)
    path, checkpoint = f"{folder}/fold-{fold}.pt", f"{folder}/checkpoint-{fold}.pt"
    stored: _Fold | None = _broadcast_from_rank_zero(runtime, lambda: _read(store, path))
    if stored is not None:
        return stored
    system = _initial(task, runtime)
    clips = task.first.clips.without_fold(fold)
    outcome = _train(system, task, clips, runtime, store, checkpoint, checkpoint_epochs)
    trained = _Fold(system=trained_state(system), steps=outcome.steps, seconds=outcome.seconds)
    if runtime.is_rank_zero:
        retry_until_stored(lambda: store.save_tensors(path, trained), on_wait=runtime.report_waiting)
        with contextlib.suppress(StorageError):  # nobody reads it anymore
            store.root.delete(checkpoint)
    return trained


def _initial(task: TrainingTask, runtime: Runtime) -> System:
    """Return the system with its initial weights, which depend on the seed alone."""
    training.seed_initial_weights(task.first.job.seed)
    return task.first.build_trained(task.first.clips.facts).to(runtime.device)


def _train(
    system: System,
    task: TrainingTask,
    clips: JobData,
    runtime: Runtime,
    store: JobStore,
    checkpoint: str,
    checkpoint_epochs: int,
) -> TrainingOutcome:
    """Train a system on these clips, from its checkpoint if there is one."""
    key = task.first.training_key
    resume: Checkpoint | None = _broadcast_from_rank_zero(runtime, lambda: _read(store, checkpoint))
    if resume is not None:
        logger.info("resume: training %s from its checkpoint", key)

    def keep(state: Checkpoint) -> None:
        try:
            store.save_tensors(checkpoint, state)
        except StorageError as error:
            runtime.report(Note(f"training continues without a checkpoint for now: {error}"))
        else:
            runtime.after_checkpoint()

    return training.train(
        system,
        clips,
        runtime,
        seed=task.first.job.seed,
        checkpoint=keep,
        resume=resume,
        checkpoint_epochs=checkpoint_epochs,
    )


def _stored_models(task: TrainingTask, store: JobStore, n_folds: int) -> list[State] | None:
    """Return the states of a finished training: the model's, then those without each fold."""
    if not store.is_done(task):
        try:
            store.root.check()
        except StorageError as error:
            if not error.transient:
                raise
    if not store.is_trained(task.first):
        return None
    folder = store.training(task.first.training_key)
    model = _read(store, f"{folder}/model.pt")
    folds = [_read(store, f"{folder}/fold-{fold}.pt") for fold in range(n_folds)]
    return None if model is None or None in folds else [model, *(fold["system"] for fold in folds)]


def _read(store: JobStore, path: str) -> Any:
    """Return the content of a file of tensors; ``None`` if there is none, or none that can be read."""
    with contextlib.suppress(FileNotFoundError, DamagedFileError):  # deleted since the check
        return store.load_tensors(path)
    return None


def _broadcast_from_rank_zero(runtime: Runtime, read: Callable[[], T]) -> T:
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


def _score(resolved: ResolvedJob, trained: _Trained, runtime: Runtime, store: JobStore) -> None:
    began = time.perf_counter()
    folder = store.scores(resolved.scoring_key)
    clips, state = resolved.clips, trained.system.state_dict()
    scorer, modules = _fitted(resolved, clips, state, runtime)
    fit_seconds = time.perf_counter() - began
    folds = []
    for left_out, state_of_fold in _left_out(clips, trained, scorer):
        since = time.perf_counter()
        of_fold, _ = _fitted(resolved, left_out, state_of_fold, runtime)
        fit_seconds += time.perf_counter() - since
        folds.append(scoring.hold_out_scores(of_fold, left_out, device=runtime.device))
    scores = scoring.clip_scores(scorer, clips, device=runtime.device, folds=folds)
    scoring_seconds = time.perf_counter() - began - fit_seconds
    backend = backend_state(scorer, state)
    check_fit(scorer, resolved, state, backend, modules=modules, device=runtime.device)
    check_single_clips(
        scorer, resolved, state, backend, scores.components, modules=modules, device=runtime.device
    )
    retry_until_stored(
        lambda: store.save_tensors(f"{folder}/backend.pt", backend), on_wait=runtime.report_waiting
    )
    retry_until_stored(
        lambda: store.root.write(f"{folder}/components.parquet", scores.components.write_parquet),
        on_wait=runtime.report_waiting,
    )
    embeddings = scores.embeddings
    if embeddings is not None:
        retry_until_stored(
            lambda: store.save_embeddings(resolved.scoring_key, embeddings), on_wait=runtime.report_waiting
        )
    record = ScoringRecord(
        description=resolved.scoring_description,
        data=resolved.job.data,
        backend_seconds=fit_seconds,
        scoring_seconds=scoring_seconds,
        clips_scored=scores.components.height,
        versions=installed(),
        isolation=isolation(),
        macs_per_clip=scoring.macs_per_clip(scorer, resolved.clips, device=runtime.device),
        finished=now(),
    )
    # last, because its presence means that the scores are complete
    retry_until_stored(
        lambda: store.save_scoring_record(resolved.scoring_key, record), on_wait=runtime.report_waiting
    )
    logger.debug(
        "scored %s: %d clips in %.2f s", resolved.scoring_key, scores.components.height, scoring_seconds
    )


def _left_out(clips: JobData, trained: _Trained, scorer: System) -> Iterator[tuple[JobData, State]]:
    """Yield the clips without each fold, with the trained state that its fit begins with.

    Without cross-fitting target-domain clips are left out of the fit alone, where a system has one.
    """
    for fold in range(clips.n_folds):
        yield clips.without_fold(fold), trained.without_fold(fold)
    if type(scorer).fit_backend is not System.fit_backend:
        for fold in range(clips.n_target_folds):
            yield clips.without_target_fold(fold), trained.system.state_dict()


def _fitted(
    resolved: ResolvedJob, clips: JobData, trained: State, runtime: Runtime
) -> tuple[System, ModuleState]:
    """Return the scoring system with its back end fitted to clips, and its modules' state before the fit."""
    frames = BatchFrames(runtime.device)
    return frames.retried(lambda: _fitted_in_batches(resolved, clips, trained, frames))


def _fitted_in_batches(
    resolved: ResolvedJob, clips: JobData, trained: State, frames: BatchFrames
) -> tuple[System, ModuleState]:
    # A new system for this job: that of another job has other scoring settings and a fitted back end.
    training.seed_back_end(resolved.job.seed)
    fresh = resolved.build_trained(clips.facts)
    load_trained(fresh, trained)
    scorer = resolved.build_scorer(fresh).to(frames.device).eval()
    training.seed_back_end(resolved.job.seed)
    modules = ModuleState.of_system(scorer)
    with torch.no_grad():  # inference mode would make tensors that no state can be loaded into
        scorer.fit_backend(device_batches(clips.raw_backend_batches, clips.preparation, frames))
    return scorer, modules


def now() -> str:
    """Return the current time, UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
