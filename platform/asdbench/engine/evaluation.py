"""Results: stored scores, fused, thresholded, joined with the truth and judged. Truth is joined here alone.

The decision threshold comes from normal clips only: those of the hold-out, or without one the batches of
validation windows, scored as if they were clips.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from asdbench.data import catalogue
from asdbench.engine.execute import _now
from asdbench.engine.jobs import JobStore, Prepared, _key
from asdbench.engine.scoring import fuse
from asdbench.errors import InputError
from asdbench.files import read_json, write_json
from asdbench.metrics import (
    IN_DOMAIN,
    OFFICIAL,
    decision_metrics,
    gamma_threshold,
    section_half_widths,
    section_metrics,
)

_REVISION = 1  # changes whenever the same scores would be judged differently


@dataclass(frozen=True)
class Result:
    """A judged job.

    Attributes
    ----------
    key : its name in the job store
    record : what is stored: the job, ``sections`` (section to metrics), timings, descriptions
    """

    key: str
    record: dict[str, Any]


def anomaly_scores(prepared: Prepared, store: JobStore) -> pl.DataFrame:
    """Return ``clip_id``, ``use`` and ``score`` of a scored job."""
    components = pl.read_parquet(store.scores(prepared.scoring_key) / "components.parquet")
    return fuse(components, prepared.configured.system.fusion_weights(prepared.configured.config))


def decision_threshold(scores: pl.DataFrame) -> float:
    """Return the score above which a clip is called anomalous, from the rows that are not of test clips."""
    return gamma_threshold(scores.filter(pl.col("use") != "test")["score"].to_numpy())


def evaluate(prepared: Prepared, store: JobStore) -> Result:
    """Return the metrics of a scored job, from the store if they are there.

    Raises :class:`InputError` where no test clip of the machine type has a known label.
    """
    truth = catalogue.truth(prepared.data.name)
    key = _key(_description(prepared, truth))
    path = store.result(key)
    if path.exists():
        return Result(key, read_json(path))
    scores = anomaly_scores(prepared, store)
    threshold = decision_threshold(scores)
    judged = (
        scores.filter(pl.col("use") == "test")
        .join(truth, on="clip_id")
        .join(prepared.data.clips.select("clip_id", "section", "domain"), on="clip_id")
        .sort("clip_id")
    )
    if judged.is_empty():
        raise InputError(
            f"no test clip of machine type {prepared.job.machine_type!r} of data set {prepared.data.name!r} "
            f"has a known label, so its scores cannot be judged"
        )
    training = read_json(store.training(prepared.training_key) / "training.json")
    scoring = read_json(store.scores(prepared.scoring_key) / "scoring.json")
    record = {
        "system": prepared.job.system,
        "settings": prepared.configured.values(),
        "changed_settings": prepared.configured.changed(),
        "data": prepared.data.name,
        "machine_type": prepared.job.machine_type,
        "seed": prepared.job.seed,
        "keys": {"training": prepared.training_key, "scoring": prepared.scoring_key},
        "fingerprint": prepared.data.fingerprint(prepared.job.machine_type),
        "truth": truth_fingerprint(truth),
        "code": scoring["description"]["code"],
        "threshold": threshold,
        "sections": {
            str(section): _judge(rows, threshold)
            for (section,), rows in sorted(judged.group_by("section"), key=lambda item: str(item[0]))
        },
        "hold_out_clips": len(prepared.clips.hold_out_ids),
        "parameters": training["parameters"],
        "training_seconds": training["seconds"],
        "training_steps": training["steps"],
        "scoring_seconds": scoring["scoring_seconds"],
        "clips_per_second": scoring["clips_scored"] / max(scoring["scoring_seconds"], 1e-9),
        "finished": _now(),
    }
    write_json(path, record)
    return Result(key, record)


def stored_results(store: JobStore) -> Iterable[dict[str, Any]]:
    """Yield the records of all stored results."""
    for path in sorted((store.root / "results").glob("*.json")):
        yield read_json(path)


def truth_fingerprint(truth: pl.DataFrame) -> str:
    """Return a hash of a truth table."""
    rows = sorted(truth.iter_rows())
    return hashlib.blake2b(repr(rows).encode(), digest_size=12).hexdigest()


def _description(prepared: Prepared, truth: pl.DataFrame) -> dict[str, Any]:
    return {
        "revision": _REVISION,
        "scoring": prepared.scoring_key,
        "fusion": prepared.configured.values("fusion"),
        "data": prepared.data.name,
        "fingerprint": prepared.data.fingerprint(prepared.job.machine_type),
        "truth": truth_fingerprint(truth),
    }


def _judge(rows: pl.DataFrame, threshold: float) -> dict[str, Any]:
    scores = rows["score"].to_numpy()
    anomalous = rows["anomaly"].to_numpy()
    target = (rows["domain"] == "target").fill_null(False).to_numpy()
    return {
        "official": section_metrics(scores, anomalous, target, rule=OFFICIAL),
        "in_domain": section_metrics(scores, anomalous, target, rule=IN_DOMAIN),
        "decisions": decision_metrics(scores > threshold, anomalous, target),
        "half_width": section_half_widths(scores, anomalous, target, rule=OFFICIAL, scale="textbook"),
        "clips": int(np.size(scores)),
    }
