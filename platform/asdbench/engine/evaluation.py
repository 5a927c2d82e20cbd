"""Results: stored scores, fused, thresholded, joined with the truth and judged. Truth is joined here alone.

A result is of a job and a subset: of the sections whose test clips are dev, or of those whose are eval. It is
counted by the rule of its data set, which it holds under ``rule``.

The decision threshold comes from normal clips only: those of the hold-out, or without one what
:meth:`asdbench.data.loader.JobData.threshold_batches` gives.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
    DEFAULT_THRESHOLD,
    IN_DOMAIN,
    THRESHOLDS,
    Rule,
    decision_metrics,
    false_alarms,
    section_half_widths,
    section_metrics,
    threshold,
)
from asdbench.system import Fusion

_REVISION = 4  # changes whenever the same scores would be judged differently


class NoLabels(InputError):
    """Scores that cannot be judged, since no test clip has a label: an evaluation subset's."""


@dataclass(frozen=True)
class Result:
    """A judged job.

    Attributes
    ----------
    key : its name in the job store
    record : what is stored: the job, ``subset``, ``rule`` (``Rule.of`` reads it), ``sections`` (section to
        metrics), timings, descriptions
    """

    key: str
    record: dict[str, Any]


def anomaly_scores(prepared: Prepared, store: JobStore) -> pl.DataFrame:
    """Return ``clip_id``, ``use`` and ``score`` of a scored job."""
    return fuse(components_of(prepared, store), _fusion(prepared))


def components_of(prepared: Prepared, store: JobStore) -> pl.DataFrame:
    """Return the component scores of a scored job by ``clip_id`` and ``use``; an ensemble joins them here."""
    if not prepared.members:
        return pl.read_parquet(store.scores(prepared.scoring_key) / "components.parquet")
    members = {m.job.system: (components_of(m, store), _fusion(m)) for m in prepared.members}
    return join(prepared.configured.system, prepared.configured.config, members)


def _fusion(prepared: Prepared) -> Fusion:
    return prepared.configured.system.fusion(prepared.configured.config)


def training_records(prepared: Prepared, store: JobStore) -> dict[str, dict[str, Any]]:
    """Return what is stored about the trainings of a scored job, by the trained system's name."""
    return {
        part.configured.trainer.name: read_json(store.training(part.training_key) / "training.json")
        for part in prepared.parts
    }


def decision_threshold(scores: pl.DataFrame, *, method: str = DEFAULT_THRESHOLD) -> float:
    """Return the score above which a clip is called anomalous, from the rows that are not of test clips."""
    return threshold(_normal_scores(scores), method=method)


def _normal_scores(scores: pl.DataFrame) -> NDArray[np.float64]:
    return scores.filter(pl.col("use") != "test")["score"].to_numpy()


def _thresholds(scores: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Return each method's threshold and its false alarms among normals that had no part in it."""
    normal = _normal_scores(scores)
    found: dict[str, dict[str, float]] = {}
    for method in THRESHOLDS:
        alarms, judged = false_alarms(normal, method=method)
        limit = decision_threshold(scores, method=method)
        found[method] = {"threshold": limit, "false_alarms": alarms, "normals": judged}
    return found


def evaluate(prepared: Prepared, store: JobStore, *, subset: str | None = None) -> Result:
    """Return the metrics of a scored job in a subset, from the store if they are there.

    Without ``subset`` it is dev, or eval where no dev test clip of the machine type has a known label. Raises
    :class:`NoLabels` where no test clip of the machine type in that subset has one, :class:`InputError` where
    the labels allow no metric.
    """
    truth = _truth_of_type(labelled_clips(prepared.data), prepared.job.machine_type)
    subset = subset or first_subset(truth)
    rule = prepared.data.rule
    key = result_key(prepared, truth, subset=subset)
    path = store.result(key)
    if path.exists():
        return Result(key, read_json(path))
    scores = anomaly_scores(prepared, store)
    judged = judged_scores(prepared, store, subset=subset)
    if judged.is_empty():
        raise NoLabels(
            f"no test clip of machine type {prepared.job.machine_type!r} of data set "
            f"{prepared.data.name!r}{prepared.data.suffix(subset)} has a known label, so its scores cannot "
            f"be judged"
        )
    trainings = training_records(prepared, store).values()
    scorings = [read_json(store.scores(part.scoring_key) / "scoring.json") for part in prepared.parts]
    scoring_seconds = sum(scoring["scoring_seconds"] for scoring in scorings)
    thresholds = _thresholds(scores)
    record = {
        "system": prepared.job.system,
        "settings": prepared.configured.values(),
        "changed_settings": prepared.configured.changed(),
        "data": prepared.data.name,
        "machine_type": prepared.job.machine_type,
        "seed": prepared.job.seed,
        "others": prepared.job.others,
        "subset": subset,
        "rule": asdict(rule),
        "keys": {
            "trainings": sorted({part.training_key for part in prepared.parts}),
            "scoring": prepared.scoring_key,
        },
        "fingerprint": prepared.fingerprint(),
        "code": prepared.scoring_description["code"],
        "thresholds": thresholds,
        "sections": {
            str(section): _judge(rows, thresholds, rule)
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


def current_results(
    data: DataSet, store: JobStore, *, subset: str | None = None
) -> tuple[list[dict[str, Any]], int]:
    """Return the stored results that data, labels and code of now would give, and the number of others.

    They are those of one subset: dev, or eval where no dev test clip has a known label, if none is given.
    """
    labelled = labelled_clips(data)
    subset = subset or first_subset(labelled)
    truths: dict[str, pl.DataFrame] = {}
    current, outdated = [], 0
    for path in sorted((store.root / "results").glob("*.json")):
        try:
            record = read_json(path)
            if record["data"] != data.name or record.get("subset", subset) != subset:
                continue
            machine_type = record["machine_type"]
            job = Job(
                record["system"],
                record["changed_settings"],
                data.name,
                machine_type,
                record["seed"],
                record["others"],
            )
            if machine_type not in truths:
                truths[machine_type] = _truth_of_type(labelled, machine_type)
            key = result_key(Prepared.of(job, data=data), truths[machine_type], subset=subset)
            holds = key == path.stem
        except (ValueError, KeyError):  # a damaged file, a system or machine type that is gone
            holds = False
        current += [record] if holds else []
        outdated += not holds
    return current, outdated


def result_key(prepared: Prepared, truth: pl.DataFrame, *, subset: str) -> str:
    """Return the name of a job's result in the store; ``truth`` is `labelled_clips` of its machine type."""
    judged = truth.filter(pl.col("subset") == subset).select("clip_id", "section", "domain", "anomaly")
    rows = sorted(judged.iter_rows())
    return key_of(
        {
            "revision": _REVISION,
            "scoring": prepared.scoring_key,
            "fusion": prepared.configured.values("fusion"),
            "data": prepared.data.name,
            "fingerprint": prepared.fingerprint(),
            "subset": subset,
            "rule": asdict(prepared.data.rule),
            "truth": hashlib.blake2b(repr(rows).encode(), digest_size=12).hexdigest(),
        }
    )


def first_subset(labelled: pl.DataFrame) -> str:
    """Return the subset that is judged where none is named: dev if any of `labelled_clips` is, else eval.

    Without any label it is dev.
    """
    return "eval" if set(labelled["subset"]) == {"eval"} else "dev"


def labelled_types(data: DataSet, *, subset: str | None = None) -> list[str]:
    """Return the machine types that have test clips with known labels, in a subset or at all, sorted."""
    return sorted(labelled_clips(data, subset=subset)["machine_type"].unique())


def labelled_clips(data: DataSet, *, subset: str | None = None) -> pl.DataFrame:
    """Return the rows of the clip table whose label is known, with the label in ``anomaly``."""
    clips = data.clips if subset is None else data.clips.filter(pl.col("subset") == subset)
    return clips.join(catalogue.truth(data.name), on="clip_id").sort("clip_id")


def judged_scores(prepared: Prepared, store: JobStore, *, subset: str | None = None) -> pl.DataFrame:
    """Return the scored test clips whose label is known: the columns of `labelled_clips` and ``score``."""
    tested = anomaly_scores(prepared, store).filter(pl.col("use") == "test")
    labelled = labelled_clips(prepared.data, subset=subset)
    return labelled.join(tested.select("clip_id", "score"), on="clip_id").sort("clip_id")


def _truth_of_type(labelled: pl.DataFrame, machine_type: str) -> pl.DataFrame:
    return labelled.filter(pl.col("machine_type") == machine_type)


def _judge(rows: pl.DataFrame, thresholds: Mapping[str, Mapping[str, float]], rule: Rule) -> dict[str, Any]:
    scores = rows["score"].to_numpy()
    anomalous = rows["anomaly"].to_numpy()
    target = (rows["domain"] == "target").fill_null(False).to_numpy()
    return {
        "official": section_metrics(scores, anomalous, target, rule=rule),
        "in_domain": _in_domain(scores, anomalous, target) if rule.domains else {},
        "decisions": {
            method: decision_metrics(scores > found["threshold"], anomalous, target, rule=rule)
            for method, found in thresholds.items()
        },
        "half_width": section_half_widths(scores, anomalous, target, rule=rule, scale="textbook"),
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
