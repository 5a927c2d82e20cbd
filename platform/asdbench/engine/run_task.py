"""Runs one task: train, fit the back end, score; stored steps are skipped, and all results are stored.

A full or unreachable storage does not end a task: finished results wait until they can be stored. A storage
that can never be written is reported before the training starts. All processes of a group fit back ends and
score; rank 0 stores.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch

from asdbench.data import feature_store
from asdbench.data.loader import JobData
from asdbench.engine import scoring
from asdbench.engine.group_work import GroupLostError
from asdbench.engine.guard import isolation, run_isolated
from asdbench.engine.job_scores import job_scores
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, TrainingTask
from asdbench.engine.runtime import Runtime
from asdbench.engine.single_clip_check import check_single_clips
from asdbench.engine.state import State
from asdbench.engine.task_records import ScoringRecord, now
from asdbench.engine.task_training import TaskTraining, Trained, broadcast_from_rank_zero
from asdbench.engine.training import train_alone
from asdbench.engine.versions import installed
from asdbench.io.retry import retry_until_stored
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
    build_features(task, runtime)
    return in_isolation(
        lambda: run_task(task, runtime, store, checkpoint_epochs=checkpoint_epochs),
        [task.first.data.workspace, *workspaces],
        runtime.device,
    )


def build_features(task: TrainingTask, runtime: Runtime) -> None:
    """Look up the clips of a task, and build the features that are missing."""
    for resolved in task.jobs:
        resolved.clips  # noqa: B018  # a fault of the recordings is named by their paths
    for data, spec in {spec: (data, spec) for data, spec in task.first.features}.values():
        feature_store.build(data, spec, device=runtime.device.type)


def in_isolation(work: Callable[[], T], workspaces: Sequence[Workspace], device: torch.device) -> T:
    """Return what ``work`` returns, run in a thread that cannot read labels and is set up for ``device``."""
    n_threads = torch.get_num_threads()

    def run() -> T:
        torch.set_num_threads(n_threads)  # what OpenMP keeps is of a thread
        if device.index is not None:
            torch.cuda.set_device(device)
        return work()

    return run_isolated(run, workspaces)


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
    logger.info("start: %s (rank %d of %d)", task.scored_label, runtime.rank, runtime.size)
    with released_clips(task), forked_random_state(runtime.device):
        work = TaskTraining(task, runtime, store, checkpoint_epochs=checkpoint_epochs)
        return score_jobs(work, work.stored() or _trained(work))


def forked_random_state(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Return a context after which torch's generators are as they were."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


@contextlib.contextmanager
def released_clips(task: TrainingTask) -> Iterator[None]:
    """Let go of the clips at the end: who holds all tasks of a run would hold all their windows."""
    try:
        yield
    finally:
        for resolved in task.jobs:
            vars(resolved).pop("clips", None)


def _trained(work: TaskTraining) -> Trained:
    for part in work.left():
        training_of_part = part.begin()
        train_alone(training_of_part)
        part.finish(training_of_part)
    return work.trained()


def score_jobs(work: TaskTraining, trained: Trained) -> list[tuple[ResolvedJob, Exception]]:
    """Score the jobs of a trained task that are not scored; return those that failed, with their errors."""
    task, runtime, store = work.task, work.runtime, work.store
    failed: list[tuple[ResolvedJob, Exception]] = []
    for resolved in task.jobs:
        if not broadcast_from_rank_zero(runtime, partial(store.is_scored, resolved)):
            try:
                _score(resolved, trained, runtime, store)
            except GroupLostError:
                raise
            except Exception as error:
                failed.append((resolved, error))
    logger.info("finish: %s, %d of %d jobs failed", task.scored_label, len(failed), len(task.jobs))
    return failed


def _score(resolved: ResolvedJob, trained: Trained, runtime: Runtime, store: JobStore) -> None:
    state = trained.system.state_dict()
    scored = job_scores(resolved, state, _left_out(resolved, trained), runtime)
    if scored is None:  # rank 0 has it
        return
    folder, scores, fitted = store.scores(resolved.scoring_key), scored.clips, scored.fitted
    scorer, backend, modules = fitted.scorer, fitted.backend, fitted.modules
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
        backend_seconds=scored.fit_seconds,
        scoring_seconds=scored.scoring_seconds,
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
        "scored %s: %d clips in %.2f s",
        resolved.scoring_key,
        scores.components.height,
        scored.scoring_seconds,
    )


def _left_out(resolved: ResolvedJob, trained: Trained) -> list[tuple[JobData, State]]:
    """Return the clips without each fold, with the trained state that its fit begins with.

    Without cross-fitting target-domain clips are left out of the fit alone, where a system has one.
    """
    clips = resolved.clips
    left_out = [(clips.without_fold(fold), trained.without_fold(fold)) for fold in range(clips.n_folds)]
    if resolved.configured.system.fit_backend is not System.fit_backend:
        state = trained.system.state_dict()
        left_out += [(clips.without_target_fold(fold), state) for fold in range(clips.n_target_folds)]
    return left_out
