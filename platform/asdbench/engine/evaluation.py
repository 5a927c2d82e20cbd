"""Results: stored scores, fused, thresholded, joined with the truth and judged. Truth is joined here alone.

The decision threshold comes from normal clips only: those of the hold-out, or without one what
:meth:`asdbench.data.loader.JobData.threshold_batches` gives.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from asdbench.data import catalogue
from asdbench.data.catalogue import DataSet
from asdbench.engine.execute import now
from asdbench.engine.jobs import Job, JobStore, Prepared, key_of
from asdbench.engine.scoring import fuse, join
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

_REVISION = 2  # changes whenever the same scores would be judged differently


class NoLabels(InputError):
    """Scores that cannot be judged, since no test clip has a label: an evaluation set without its truth."""


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
    return fuse(components_of(prepared, store), _fusion_weights(prepared))


def components_of(prepared: Prepared, store: JobStore) -> pl.DataFrame:
    """Return the component scores of a scored job by ``clip_id`` and ``use``; an ensemble joins them here."""
    if not prepared.members:
        return pl.read_parquet(store.scores(prepared.scoring_key) / "components.parquet")
    members = {m.job.system: (components_of(m, store), _fusion_weights(m)) for m in prepared.members}
    return join(prepared.configured.system, prepared.configured.config, members)


def _fusion_weights(prepared: Prepared) -> Mapping[str, float] | None:
    return prepared.configured.system.fusion_weights(prepared.configured.config)


def training_records(prepared: Prepared, store: JobStore) -> dict[str, dict[str, Any]]:
    """Return what is stored about the trainings of a scored job, by the trained system's name."""
    return {
        part.configured.trainer.name: read_json(store.training(part.training_key) / "training.json")
        for part in prepared.parts
    }


def decision_threshold(scores: pl.DataFrame) -> float:
    """Return the score above which a clip is called anomalous, from the rows that are not of test clips."""
    return gamma_threshold(scores.filter(pl.col("use") != "test")["score"].to_numpy())


def evaluate(prepared: Prepared, store: JobStore) -> Result:
    """Return the metrics of a scored job, from the store if they are there.

    Raises :class:`NoLabels` where no test clip of the machine type has a known label, :class:`InputError`
    where the labels allow no metric.
    """
    truth = catalogue.truth(prepared.data.name)
    key = result_key(prepared, truth)
    path = store.result(key)
    if path.exists():
        return Result(key, read_json(path))
    scores = anomaly_scores(prepared, store)
    threshold = decision_threshold(scores)
    judged = judged_scores(prepared, store)
    if judged.is_empty():
        raise NoLabels(
            f"no test clip of machine type {prepared.job.machine_type!r} of data set {prepared.data.name!r} "
            f"has a known label, so its scores cannot be judged"
        )
    trainings = training_records(prepared, store).values()
    scorings = [read_json(store.scores(part.scoring_key) / "scoring.json") for part in prepared.parts]
    scoring_seconds = sum(scoring["scoring_seconds"] for scoring in scorings)
    record = {
        "system": prepared.job.system,
        "settings": prepared.configured.values(),
        "changed_settings": prepared.configured.changed(),
        "data": prepared.data.name,
        "machine_type": prepared.job.machine_type,
        "seed": prepared.job.seed,
        "others": prepared.job.others,
        "keys": {
            "trainings": sorted({part.training_key for part in prepared.parts}),
            "scoring": prepared.scoring_key,
        },
        "fingerprint": prepared.fingerprint(),
        "code": prepared.scoring_description["code"],
        "threshold": threshold,
        "sections": {
            str(section): _judge(rows, threshold)
            for (section,), rows in sorted(judged.group_by("section"), key=lambda item: str(item[0]))
        },
        "hold_out_clips": scores.filter(pl.col("use") == "hold-out").height,
        "parameters": sum(training["parameters"] for training in trainings),
        "macs_per_clip": sum(scoring["macs_per_clip"] for scoring in scorings),
        "training_seconds": sum(training["seconds"] for training in trainings),
        "training_steps": sum(training["steps"] for training in trainings),
        "scoring_seconds": scoring_seconds,
        "clips_per_second": scorings[0]["clips_scored"] / max(scoring_seconds, 1e-9),
        "finished": now(),
    }
    write_json(path, record)
    return Result(key, record)


def current_results(data: DataSet, store: JobStore) -> tuple[list[dict[str, Any]], int]:
    """Return the stored results that data, labels and code of now would give, and the number of others."""
    truth = catalogue.truth(data.name)
    current, outdated = [], 0
    for path in sorted((store.root / "results").glob("*.json")):
        try:
            record = read_json(path)
            if record["data"] != data.name:
                continue
            job = Job(
                record["system"],
                record["changed_settings"],
                data.name,
                record["machine_type"],
                record["seed"],
                record["others"],
            )
            holds = result_key(Prepared.of(job, data=data), truth) == path.stem
        except (ValueError, KeyError):  # a damaged file, a system or machine type that is gone
            holds = False
        current += [record] if holds else []
        outdated += not holds
    return current, outdated


def result_key(prepared: Prepared, truth: pl.DataFrame) -> str:
    """Return the name of a job's result in the store."""
    rows = sorted(truth.iter_rows())
    return key_of(
        {
            "revision": _REVISION,
            "scoring": prepared.scoring_key,
            "fusion": prepared.configured.values("fusion"),
            "data": prepared.data.name,
            "fingerprint": prepared.fingerprint(),
            "truth": hashlib.blake2b(repr(rows).encode(), digest_size=12).hexdigest(),
        }
    )


def labelled_types(data: DataSet) -> list[str]:
    """Return the machine types that have test clips with known labels, sorted."""
    return sorted(labelled_clips(data)["machine_type"].unique())


def labelled_clips(data: DataSet) -> pl.DataFrame:
    """Return the rows of the clip table whose label is known, with the label in ``anomaly``."""
    return data.clips.join(catalogue.truth(data.name), on="clip_id").sort("clip_id")


def judged_scores(prepared: Prepared, store: JobStore) -> pl.DataFrame:
    """Return the scored test clips whose label is known: the columns of `labelled_clips` and ``score``."""
    tested = anomaly_scores(prepared, store).filter(pl.col("use") == "test")
    return labelled_clips(prepared.data).join(tested.select("clip_id", "score"), on="clip_id").sort("clip_id")


def _judge(rows: pl.DataFrame, threshold: float) -> dict[str, Any]:
    scores = rows["score"].to_numpy()
    anomalous = rows["anomaly"].to_numpy()
    target = (rows["domain"] == "target").fill_null(False).to_numpy()
    return {
        "official": section_metrics(scores, anomalous, target, rule=OFFICIAL),
        "in_domain": _in_domain(scores, anomalous, target),
        "decisions": decision_metrics(scores > threshold, anomalous, target),
        "half_width": section_half_widths(scores, anomalous, target, rule=OFFICIAL, scale="textbook"),
        "clips": int(np.size(scores)),
    }


def _in_domain(
    scores: NDArray[np.float64], anomalous: NDArray[np.bool_], target: NDArray[np.bool_]
) -> dict[str, float]:
    """Return the metrics of each domain that has normal clips and anomalies of its own."""
    found: dict[str, float] = {}
    for domain in (False, True):
        own = target == domain
        if own.any() and 0 < anomalous[own].sum() < own.sum():
            found |= section_metrics(scores[own], anomalous[own], target[own], rule=IN_DOMAIN)
    return found
