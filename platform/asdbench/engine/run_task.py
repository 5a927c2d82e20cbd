"""Runs one task: train, fit the back end, score; stored steps are skipped, and all results are stored.

A full or unreachable storage does not end a task: a checkpoint that cannot be written is skipped, and
finished results wait until they can be stored. A storage that can never be written is reported before the
training starts. Only rank 0 of a group reads and writes; the other processes receive what it reads.
"""

import contextlib
import logging
import resource
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar, cast

import torch

from asdbench.engine import scoring, training
from asdbench.engine.events import Note
from asdbench.engine.fit_check import check_fit
from asdbench.engine.job_store import DamagedFileError, JobStore
from asdbench.engine.jobs import ResolvedJob, TrainingTask
from asdbench.engine.module_state import ModuleState
from asdbench.engine.runtime import Runtime
from asdbench.engine.state import backend_state, load_trained
from asdbench.engine.task_records import ScoringRecord, TrainingRecord
from asdbench.engine.training import Checkpoint
from asdbench.io.retry import retry_until_stored
from asdbench.io.storage import StorageError
from asdbench.system import System

T = TypeVar("T")

logger = logging.getLogger(__name__)


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


def _trained(task: TrainingTask, runtime: Runtime, store: JobStore, checkpoint_epochs: int) -> System:
    """Return the trained system: loaded, or trained now and stored."""
    resolved = task.first
    folder = store.training(resolved.training_key)
    training.seed_initial_weights(resolved.job.seed)
    system = resolved.build_trained(resolved.clips.facts).to(runtime.device)
    model, checkpoint = _broadcast_from_rank_zero(runtime, lambda: _stored_model_or_checkpoint(task, store))
    if model is not None:
        logger.debug("training %s is stored", resolved.training_key)
        load_trained(system, model)
        return system
    if checkpoint is not None:
        logger.info("resume: training %s from its checkpoint", resolved.training_key)
    began = time.time()

    def keep(state: Checkpoint) -> None:
        try:
            store.save_tensors(f"{folder}/checkpoint.pt", state)
        except StorageError as error:
            runtime.report(Note(f"training continues without a checkpoint for now: {error}"))
        else:
            runtime.after_checkpoint()

    outcome = training.train(
        system,
        resolved.clips,
        runtime,
        seed=resolved.job.seed,
        checkpoint=keep,
        resume=checkpoint,
        checkpoint_epochs=checkpoint_epochs,
    )
    if runtime.is_rank_zero:
        retry_until_stored(
            lambda: store.save_tensors(f"{folder}/model.pt", system.state_dict()),
            on_wait=runtime.report_waiting,
        )
        record = TrainingRecord(
            description=resolved.training_description,
            data=resolved.job.data,
            steps=outcome.steps,
            seconds=outcome.seconds,
            curve=outcome.curve,
            validation=outcome.validation,
            parameters=sum(p.numel() for p in system.parameters()),
            processes=runtime.size,
            device=str(runtime.device),
            peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            began_unix_s=began,
            finished=now(),
        )
        # last, because its presence means that the training is complete
        retry_until_stored(
            lambda: store.save_training_record(resolved.training_key, record),
            on_wait=runtime.report_waiting,
        )
        with contextlib.suppress(StorageError):  # nobody reads it anymore
            store.root.delete(f"{folder}/checkpoint.pt")
    return system


def _stored_model_or_checkpoint(
    task: TrainingTask, store: JobStore
) -> tuple[dict[str, torch.Tensor] | None, Checkpoint | None]:
    """Return the stored model, or the checkpoint to resume from, or neither."""
    if not store.is_done(task):
        try:
            store.root.check()
        except StorageError as error:
            if not error.transient:
                raise
    folder = store.training(task.first.training_key)
    if store.is_trained(task.first):
        with contextlib.suppress(FileNotFoundError, DamagedFileError):  # deleted since the check
            return store.load_tensors(f"{folder}/model.pt"), None
    with contextlib.suppress(FileNotFoundError, DamagedFileError):
        return None, store.load_tensors(f"{folder}/checkpoint.pt")
    return None, None


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


def _score(resolved: ResolvedJob, trained: System, runtime: Runtime, store: JobStore) -> None:
    began = time.perf_counter()
    folder = store.scores(resolved.scoring_key)
    # A new system for this job: that of another job has other scoring settings and a fitted back end.
    training.seed_back_end(resolved.job.seed)
    fresh = resolved.build_trained(trained.facts)
    load_trained(fresh, trained.state_dict())
    scorer = resolved.build_scorer(fresh).to(runtime.device).eval()
    training.seed_back_end(resolved.job.seed)
    modules = ModuleState.of_system(scorer)
    with torch.no_grad():  # inference mode would make tensors that no state can be loaded into
        scorer.fit_backend(batch.to(runtime.device) for batch in resolved.clips.backend_batches())
    fitted = time.perf_counter()
    scores = scoring.clip_scores(scorer, resolved.clips, device=runtime.device)
    scored = time.perf_counter()
    state = backend_state(scorer, trained.state_dict())
    check_fit(scorer, resolved, trained.state_dict(), state, modules=modules, device=runtime.device)
    retry_until_stored(
        lambda: store.save_tensors(f"{folder}/backend.pt", state), on_wait=runtime.report_waiting
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
        backend_seconds=fitted - began,
        scoring_seconds=scored - fitted,
        clips_scored=scores.components.height,
        macs_per_clip=scoring.macs_per_clip(scorer, resolved.clips, device=runtime.device),
        finished=now(),
    )
    # last, because its presence means that the scores are complete
    retry_until_stored(
        lambda: store.save_scoring_record(resolved.scoring_key, record), on_wait=runtime.report_waiting
    )
    logger.debug(
        "scored %s: %d clips in %.2f s", resolved.scoring_key, scores.components.height, scored - fitted
    )


def now() -> str:
    """Return the current time, UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
