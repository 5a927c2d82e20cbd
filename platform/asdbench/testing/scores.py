"""Made-up results of jobs, for tests and benchmarks of what reads results: nothing is trained or scored.

Scores are normally distributed, those of anomalies about a higher mean; embeddings have a cluster for each
domain and label. Equal arguments give equal results.
"""

from collections.abc import Iterable

import numpy as np
import polars as pl

from asdbench.engine.evaluation import evaluate, labeled_clips
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.result_record import ResultRecord
from asdbench.engine.task_records import CurvePoint, ScoringRecord, TrainingRecord
from asdbench.engine.versions import installed

_FINISHED = "2026-01-01T00:00:00+00:00"
_DIMENSIONS = 8


def write_scores(
    jobs: Iterable[ResolvedJob], store: JobStore, *, separation: float = 1.5, embeddings: bool = True
) -> list[ResultRecord]:
    """Store made-up trainings, scores and results of jobs, and return the results of those with labels.

    Parameters
    ----------
    jobs
        Jobs of systems that score clips; an ensemble's results follow from those of its members.
    store
        Where to store them.
    separation
        Distance of the means of normal clips and anomalies, in standard deviations.
    embeddings
        Whether to store embeddings too.
    """
    results = []
    for resolved in jobs:
        for part in resolved.parts if not resolved.members else ():
            _write_training(part, store)
            _write_scores(part, store, separation, embeddings)
        if labeled_clips(resolved.data).filter(machine_type=resolved.machine_type).height:
            results.append(evaluate(resolved, store).record)
    return results


def _write_training(resolved: ResolvedJob, store: JobStore) -> None:
    curve = tuple(
        CurvePoint("training", epoch, {"loss": float(np.exp(-epoch / 4) + 0.02 * (resolved.seed + 1))})
        for epoch in range(1, 11)
    )
    store.save_tensors(f"{store.training(resolved.training_key)}/model.pt", {})
    store.save_training_record(
        resolved.training_key,
        TrainingRecord(
            description=resolved.training_description,
            data=resolved.data.name,
            steps=100,
            seconds=10.0 + 5 * len(resolved.job.system),
            curve=curve,
            validation=None,
            parameters=100_000 * len(resolved.job.system),
            processes=1,
            device="cpu",
            peak_rss_bytes=2**28,
            versions=installed(),
            began_unix_s=0.0,
            finished=_FINISHED,
        ),
    )


def _write_scores(resolved: ResolvedJob, store: JobStore, separation: float, embeddings: bool) -> None:
    hold_out, test = resolved.clips.hold_out_ids, resolved.clips.test_ids
    job = resolved.job
    named = repr((job.system, sorted(job.settings.items()), job.machine_type, job.seed, job.hold_out_seed))
    generator = np.random.default_rng(list(named.encode()))  # not by the key, which any edit of code changes
    labels = dict(labeled_clips(resolved.data).select("clip_id", "anomaly").iter_rows())
    targets = set(resolved.data.clips.filter(domain="target")["clip_id"])
    ids = [*hold_out.tolist(), *test.tolist()]
    anomalous = np.array([bool(labels.get(clip_id)) for clip_id in ids])
    target = np.array([clip_id in targets for clip_id in ids])
    fusion = resolved.configured.system.fusion(resolved.configured.config)
    names = list(fusion.weights) if fusion.weights else ["score"]
    columns = {
        name: generator.normal(size=len(ids)) + separation * anomalous + 0.5 * target for name in names
    }
    use = ["hold-out"] * len(hold_out) + ["test"] * len(test)
    folder = store.scores(resolved.scoring_key)
    table = pl.DataFrame({"clip_id": ids, "use": use, **columns}, schema_overrides={"clip_id": pl.Int64})
    store.root.write(f"{folder}/components.parquet", table.write_parquet)
    store.save_tensors(f"{folder}/backend.pt", {})
    if embeddings:
        centers = generator.normal(scale=2.0, size=(2, 2, _DIMENSIONS))[target * 1, anomalous * 1]
        noise = generator.normal(size=(len(ids), _DIMENSIONS))
        store.save_embeddings(resolved.scoring_key, (centers + noise).astype(np.float16))
    store.save_scoring_record(
        resolved.scoring_key,
        ScoringRecord(
            description=resolved.scoring_description,
            data=resolved.data.name,
            backend_seconds=1.0,
            scoring_seconds=5.0,
            clips_scored=len(ids),
            versions=installed(),
            isolation="none",
            macs_per_clip=10_000_000 * len(resolved.job.system) ** 2,
            finished=_FINISHED,
        ),
    )
