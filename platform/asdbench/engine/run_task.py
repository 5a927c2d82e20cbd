"""Do what is not done: train, fit the back end, score; all results go to the job store.

A storage that is full or away does not end a work: a checkpoint that cannot be written is left out, and what
is finished waits until it can be stored. A storage that cannot be written at all is found out before anything
is trained. Only the leading process of a group reads and writes; the others get what it read.
"""

import contextlib
import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar, cast

import torch

from asdbench.engine import scoring, training
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, TrainingTask
from asdbench.engine.runtime import Runtime
from asdbench.engine.state import backend_state, load_trained
from asdbench.io.retry import retry_until_stored
from asdbench.io.storage import StorageError
from asdbench.system import System

T = TypeVar("T")


def execute(
    task: TrainingTask, runtime: Runtime, store: JobStore, *, checkpoint_epochs: int = 5
) -> list[tuple[ResolvedJob, Exception]]:
    """Bring the jobs of ``task`` to stored component scores; returns those whose scoring failed, with why.

    Every process of ``runtime``'s group calls this with the same work. Training goes on from its checkpoint
    if there is one; what is stored is not done again. Only the leading process scores and writes. An error
    of the training is raised, and a :class:`StorageError` of a storage that cannot be written.
    """
    failed: list[tuple[ResolvedJob, Exception]] = []
    with torch.random.fork_rng(devices=[runtime.device] if runtime.device.type == "cuda" else []):
        trained = _trained(task, runtime, store, checkpoint_epochs)
        for resolved in task.jobs if runtime.is_rank_zero else ():
            if not retry_until_stored(
                partial(store.is_scored, resolved), on_wait=runtime.report_waiting, transient_only=True
            ):
                try:
                    _score(resolved, trained, runtime, store)
                except Exception as error:
                    failed.append((resolved, error))
    return failed


def _trained(task: TrainingTask, runtime: Runtime, store: JobStore, checkpoint_epochs: int) -> System:
    """Return the trained system: loaded, or trained now and stored."""
    resolved = task.first
    folder = store.training(resolved.training_key)
    training.seed_initial_weights(resolved.job.seed)
    system = resolved.build_trained(resolved.clips.facts).to(runtime.device)
    model, checkpoint = _from_leader(runtime, lambda: _what_is_there(task, store))
    if model is not None:
        load_trained(system, model)
        return system
    began = time.time()

    def keep(state: dict[str, Any]) -> None:
        try:
            store.save_tensors(f"{folder}/checkpoint.pt", state)
        except StorageError as fault:
            runtime.report({"note": f"training goes on without a checkpoint for now: {fault}"})

    record = training.train(
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
        record |= {
            "description": resolved.training_description,
            "data": resolved.job.data,
            "parameters": sum(p.numel() for p in system.parameters()),
            "processes": runtime.size,
            "device": str(runtime.device),
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "began_unix_s": began,
            "finished": now(),
        }
        # last: it says that the rest is there
        retry_until_stored(
            lambda: store.root.write_json(f"{folder}/training.json", record), on_wait=runtime.report_waiting
        )
        with contextlib.suppress(StorageError):  # nobody will read it
            store.root.delete(f"{folder}/checkpoint.pt")
    return system


def _what_is_there(task: TrainingTask, store: JobStore) -> tuple[Any, Any]:
    """Return the stored model, or the checkpoint to go on from, or neither."""
    if not store.is_done(task):
        try:
            store.root.check()
        except StorageError as fault:
            if not fault.transient:
                raise
    folder = store.training(task.first.training_key)
    if store.is_trained(task.first):
        with contextlib.suppress(FileNotFoundError):  # it vanished this moment
            return store.load_tensors(f"{folder}/model.pt"), None
    with contextlib.suppress(FileNotFoundError):
        return None, store.load_tensors(f"{folder}/checkpoint.pt")
    return None, None


def _from_leader(runtime: Runtime, read: Callable[[], T]) -> T:
    """Give every process what the leading one reads, or the error that it meets."""
    found: T | None = None
    failed: Exception | None = None
    if runtime.is_rank_zero:
        try:
            found = retry_until_stored(read, on_wait=runtime.report_waiting, transient_only=True)
        except Exception as error:
            failed = error
    found, failed = runtime.broadcast((found, failed))
    if failed is not None:
        raise failed
    return cast(T, found)


def _score(resolved: ResolvedJob, trained: System, runtime: Runtime, store: JobStore) -> None:
    began = time.perf_counter()
    folder = store.scores(resolved.scoring_key)
    # A system of this job's own: another job's has other scoring settings, and its back end's traces.
    training.seed_back_end(resolved.job.seed)
    fresh = resolved.build_trained(trained.facts)
    load_trained(fresh, trained.state_dict())
    scorer = resolved.build_scorer(fresh).to(runtime.device).eval()
    training.seed_back_end(resolved.job.seed)
    with torch.no_grad():  # not inference mode: nothing could be loaded into tensors made there
        scorer.fit_backend(batch.to(runtime.device) for batch in resolved.clips.backend_batches())
    fitted = time.perf_counter()
    components = scoring.component_scores(scorer, resolved.clips, device=runtime.device)
    scored = time.perf_counter()
    state = backend_state(scorer, trained.state_dict())
    retry_until_stored(
        lambda: store.save_tensors(f"{folder}/backend.pt", state), on_wait=runtime.report_waiting
    )
    retry_until_stored(
        lambda: store.root.write(f"{folder}/components.parquet", components.write_parquet),
        on_wait=runtime.report_waiting,
    )
    record = {
        "description": resolved.scoring_description,
        "data": resolved.job.data,
        "backend_seconds": fitted - began,
        "scoring_seconds": scored - fitted,
        "clips_scored": components.height,
        "macs_per_clip": scoring.macs_per_clip(scorer, resolved.clips, device=runtime.device),
        "finished": now(),
    }
    # last: it says that the rest is there
    retry_until_stored(
        lambda: store.root.write_json(f"{folder}/scoring.json", record), on_wait=runtime.report_waiting
    )


def now() -> str:
    """Return the time of day, UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
