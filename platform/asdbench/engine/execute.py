"""Do what is not done: train, fit the back end, score; all results go to the job store."""

import resource
import time
from datetime import UTC, datetime

import torch

from asdbench.engine import scoring, training
from asdbench.engine.jobs import JobStore, Prepared, Work, load_tensors, save_tensors
from asdbench.engine.runtime import Runtime
from asdbench.engine.state import backend_state, load_trained
from asdbench.files import write_json
from asdbench.system import System


def execute(
    work: Work, runtime: Runtime, store: JobStore, *, checkpoint_epochs: int = 5
) -> list[tuple[Prepared, Exception]]:
    """Bring the jobs of ``work`` to stored component scores; returns those whose scoring failed, with why.

    Every process of ``runtime``'s group calls this with the same work. Training goes on from its checkpoint
    if there is one; what is stored is not done again. Only the leading process scores and writes. An error
    of the training is raised.
    """
    failed: list[tuple[Prepared, Exception]] = []
    with torch.random.fork_rng(devices=[runtime.device] if runtime.device.type == "cuda" else []):
        trained = _trained(work.first, runtime, store, checkpoint_epochs)
        for prepared in work.jobs if runtime.leads else ():
            if not store.is_scored(prepared):
                try:
                    _score(prepared, trained, runtime, store)
                except Exception as error:
                    failed.append((prepared, error))
    return failed


def _trained(prepared: Prepared, runtime: Runtime, store: JobStore, checkpoint_epochs: int) -> System:
    """Return the trained system: loaded, or trained now and stored."""
    folder = store.training(prepared.training_key)
    training.seed_initial_weights(prepared.job.seed)
    system = prepared.build_trained(prepared.clips.facts).to(runtime.device)
    checkpoint = folder / "checkpoint.pt"
    is_trained, resume = runtime.agree((store.is_trained(prepared), checkpoint.exists()))
    if is_trained:
        load_trained(system, load_tensors(folder / "model.pt"))
        return system
    began = time.time()
    record = training.train(
        system,
        prepared.clips,
        runtime,
        seed=prepared.job.seed,
        checkpoint=checkpoint,
        resume=resume,
        checkpoint_epochs=checkpoint_epochs,
    )
    if runtime.leads:
        save_tensors(folder / "model.pt", system.state_dict())
        record |= {
            "description": prepared.training_description,
            "data": prepared.job.data,
            "parameters": sum(p.numel() for p in system.parameters()),
            "processes": runtime.size,
            "device": str(runtime.device),
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "began_unix_s": began,
            "finished": now(),
        }
        write_json(folder / "training.json", record)  # last: it says that the rest is there
        checkpoint.unlink(missing_ok=True)
    return system


def _score(prepared: Prepared, trained: System, runtime: Runtime, store: JobStore) -> None:
    began = time.perf_counter()
    folder = store.scores(prepared.scoring_key)
    # A system of this job's own: another job's has other scoring settings, and its back end's traces.
    training.seed_back_end(prepared.job.seed)
    fresh = prepared.build_trained(trained.facts)
    load_trained(fresh, trained.state_dict())
    scorer = prepared.build_scorer(fresh).to(runtime.device).eval()
    training.seed_back_end(prepared.job.seed)
    with torch.no_grad():  # not inference mode: nothing could be loaded into tensors made there
        scorer.fit_backend(batch.to(runtime.device) for batch in prepared.clips.backend_batches())
    fitted = time.perf_counter()
    components = scoring.component_scores(scorer, prepared.clips, device=runtime.device)
    scored = time.perf_counter()
    save_tensors(folder / "backend.pt", backend_state(scorer, trained.state_dict()))
    scoring.write_components(folder / "components.parquet", components)
    record = {
        "description": prepared.scoring_description,
        "data": prepared.job.data,
        "backend_seconds": fitted - began,
        "scoring_seconds": scored - fitted,
        "clips_scored": components.height,
        "macs_per_clip": scoring.macs_per_clip(scorer, prepared.clips, device=runtime.device),
        "finished": now(),
    }
    write_json(folder / "scoring.json", record)  # last: it says that the rest is there


def now() -> str:
    """Return the time of day, UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
