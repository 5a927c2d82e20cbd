"""Results: stored scores, fused, thresholded, joined with the truth and judged. Truth is joined here alone.

A result is of a job and a subset: of the sections whose test clips are dev, or of those whose are eval. It is
counted by the rule of its data set, which it holds under ``rule``.

A result whose settings a search chose by labels says so under ``tuned``; it is another result than that of a
user who gave the same settings.

The decision threshold comes from normal clips only: those of the hold-out, or without one what
:meth:`asdbench.data.loader.JobData.threshold_batches` gives.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from asdbench import registry
from asdbench.data import catalogue
from asdbench.data.catalogue import DataSet
from asdbench.engine.execute import now
from asdbench.engine.jobs import Job, JobStore, Prepared, key_of
from asdbench.engine.scoring import fuse, join
from asdbench.errors import InputError
from asdbench.files import parsed_json
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
class Tuned:
    """How the settings of a job were chosen: by a search that saw labels.

    Attributes
    ----------
    search : key of the search
    trials : how many trials it had finished when it chose
    protocol : whose labels it saw: ``"dev"``, those of all development clips
    """

    search: str
    trials: int
    protocol: str = "dev"


@dataclass(frozen=True)
class Searched:
    """What a search chose: a system with settings, and the data set of its pseudo-anomalies if another."""

    configured: registry.Configured
    others: str | None
    tuned: Tuned


@dataclass(frozen=True)
class Result:
    """A judged job.

    Attributes
    ----------
    key : its name in the job store
    record : what is stored: the job, ``subset``, ``tuned`` (``None`` or the fields of :class:`Tuned`),
        ``rule`` (``Rule.of`` reads it), ``sections`` (section to metrics), timings, descriptions
    """

    key: str
    record: dict[str, Any]


def anomaly_scores(prepared: Prepared, store: JobStore) -> pl.DataFrame:
    """Return ``clip_id``, ``use`` and ``score`` of a scored job."""
    return fuse(components_of(prepared, store), _fusion(prepared))


def components_of(prepared: Prepared, store: JobStore) -> pl.DataFrame:
    """Return the component scores of a scored job by ``clip_id`` and ``use``; an ensemble joins them here."""
    if not prepared.members:
        return store.components(prepared.scoring_key)
    members = {m.job.system: (components_of(m, store), _fusion(m)) for m in prepared.members}
    return join(prepared.configured.system, prepared.configured.config, members)


def _fusion(prepared: Prepared) -> Fusion:
    return prepared.configured.system.fusion(prepared.configured.config)


def training_records(prepared: Prepared, store: JobStore) -> dict[str, dict[str, Any]]:
    """Return what is stored about the trainings of a scored job, by the trained system's name."""
    return {part.configured.trainer.name: store.training_record(part.training_key) for part in prepared.parts}


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


def judge_sections(prepared: Prepared, store: JobStore, *, subset: str) -> dict[str, dict[str, float]]:
    """Return the metrics of a scored job in a subset, by section and name; nothing is stored.

    They are those of :func:`evaluate` by the rule of the data set, without what takes time: intervals and
    decisions. Raises as :func:`evaluate` does.
    """
    judged = _judged(anomaly_scores(prepared, store), prepared, subset)
    return {section: _official(rows, prepared.data.rule) for section, rows in _by_section(judged)}


def evaluate(
    prepared: Prepared, store: JobStore, *, subset: str | None = None, tuned: Tuned | None = None
) -> Result:
    """Return the metrics of a scored job in a subset, from the store if they are there.

    Without ``subset`` it is dev, or eval where no dev test clip of the machine type has a known label. With
    ``tuned`` the result is that of the search that chose the settings, beside one without. Raises
    :class:`NoLabels` where no test clip of the machine type in that subset has one, :class:`InputError` where
    the labels allow no metric.
    """
    truth = _truth_of_type(labelled_clips(prepared.data), prepared.job.machine_type)
    subset = subset or first_subset(truth)
    rule = prepared.data.rule
    key = result_key(prepared, truth, subset=subset, tuned=tuned)
    name = store.result(key)
    if store.root.exists(name):
        return Result(key, store.root.read_json(name))
    scores = anomaly_scores(prepared, store)
    judged = _judged(scores, prepared, subset)
    trainings = training_records(prepared, store).values()
    scorings = [store.scoring_record(part.scoring_key) for part in prepared.parts]
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
        "tuned": asdict(tuned) if tuned else None,
        "rule": asdict(rule),
        "keys": {
            "trainings": sorted({part.training_key for part in prepared.parts}),
            "scoring": prepared.scoring_key,
        },
        "fingerprint": prepared.fingerprint(),
        "code": prepared.scoring_description["code"],
        "thresholds": thresholds,
        "sections": {section: _judge(rows, thresholds, rule) for section, rows in _by_section(judged)},
        "hold_out_clips": scores.filter(pl.col("use") == "hold-out").height,
        "parameters": sum(training["parameters"] for training in trainings),
        "macs_per_clip": sum(scoring["macs_per_clip"] for scoring in scorings),
        "training_seconds": sum(training["seconds"] for training in trainings),
        "training_steps": sum(training["steps"] for training in trainings),
        "scoring_seconds": scoring_seconds,
        "clips_per_second": scorings[0]["clips_scored"] / max(scoring_seconds, 1e-9),
        "finished": now(),
    }
    store.root.write_json(name, record)
    return Result(key, record)


def current_results(
    data: DataSet, store: JobStore, *, subset: str | None = None
) -> tuple[list[dict[str, Any]], int]:
    """Return the stored results that data, labels and code of now would give, and the number of others.

    They are those of one subset: dev, or eval where no dev test clip has a known label, if none is given.
    Of a search that went on, those count whose settings it chose last. What a user ran with settings that a
    search has chosen by labels of this data set gets that search's ``tuned``.
    """
    labelled = labelled_clips(data)
    subset = subset or first_subset(labelled)
    truths: dict[str, pl.DataFrame] = {}
    current: list[tuple[Prepared, dict[str, Any]]] = []
    outdated = 0
    for name, content in store.root.read_each(store.root.names("results", ".json")):
        try:
            record = parsed_json(content, place=name)
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
            prepared = Prepared.of(job, data=data)
            tuned = Tuned(**record["tuned"]) if record.get("tuned") else None
            key = result_key(prepared, truths[machine_type], subset=subset, tuned=tuned)
            holds = store.result(key) == name
        except (ValueError, KeyError, TypeError):  # a damaged file, a system or machine type that is gone
            holds = False
        current += [(prepared, record)] if holds else []
        outdated += not holds
    return _with_searches(current, searched_settings(store, data)), outdated


def _with_searches(
    current: Sequence[tuple[Prepared, dict[str, Any]]], searched: Sequence[Searched]
) -> list[dict[str, Any]]:
    """Return records without those that a search superseded, and ``tuned`` in what a user ran."""
    tuned = [record for _, record in current if record.get("tuned")]
    last = {
        (record["system"], record["tuned"]["search"]): record["changed_settings"]
        for record in sorted(tuned, key=lambda record: (record["finished"], record["tuned"]["trials"]))
    }
    found = []
    for prepared, record in current:
        if not record.get("tuned"):
            chosen = (
                asdict(of.tuned)
                for of in searched
                if (of.configured, of.others) == (prepared.configured, prepared.job.others)
            )
            found.append(record | {"tuned": next(chosen, None)})
        elif last[record["system"], record["tuned"]["search"]] == record["changed_settings"]:
            found.append(record)
    return found


def searched_settings(store: JobStore, data: DataSet) -> list[Searched]:
    """Return the settings that searches by labels of a data set have chosen, those of most trials first.

    Settings that a search left as they were are nobody's choice. Read are the ``searches/<key>.json`` of the
    store; one that is damaged, or of a system or setting that is gone, is left out.
    """
    found = []
    for name, content in store.root.read_each(store.root.names("searches", ".json")):
        try:
            record = parsed_json(content, place=name)
            if record["data"] == data.name and record["best"]:
                found += list(_chosen(record, PurePosixPath(name).stem))
        except (ValueError, LookupError, TypeError):
            continue
    return sorted(found, key=lambda of: -of.tuned.trials)


def _chosen(record: Mapping[str, Any], key: str) -> Iterator[Searched]:
    """Yield the best of a search's trials, and each that was the best before it went on.

    The record holds ``system``, ``best`` (``settings``, and the ``number`` of its trial, of which 0 is the
    system untuned), ``trials_done`` and ``protocol``. It may hold ``others``, ``start`` (settings untuned,
    the defaults if it does not) and ``trials`` (``number``, ``parameters``, ``state``, ``rungs``).
    """
    start, best = record.get("start") or {}, record["best"]
    chosen = [(best["settings"], record["trials_done"])]
    leader: Mapping[str, Any] | None = None
    for trial in record.get("trials") or () if start else ():
        if trial["state"] == "complete" and (leader is None or trial["rungs"][-1] > leader["rungs"][-1]):
            if leader is not None:
                chosen.append(({**start, **leader["parameters"]}, trial["number"]))
            leader = trial
    untuned = registry.configure(
        record["system"], dict(best["settings"] if best.get("number") == 0 else start)
    )
    for settings, trials in chosen:
        configured = registry.configure(record["system"], dict(settings))
        if configured != untuned:
            others = record.get("others") if configured.takes_others() else None
            yield Searched(configured, others, Tuned(key, trials, record["protocol"]))


def result_key(prepared: Prepared, truth: pl.DataFrame, *, subset: str, tuned: Tuned | None = None) -> str:
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
        | ({"tuned": asdict(tuned)} if tuned else {})
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
    return _with_labels(anomaly_scores(prepared, store), prepared.data, subset)


def _with_labels(scores: pl.DataFrame, data: DataSet, subset: str | None) -> pl.DataFrame:
    tested = scores.filter(pl.col("use") == "test").select("clip_id", "score")
    return labelled_clips(data, subset=subset).join(tested, on="clip_id").sort("clip_id")


def _judged(scores: pl.DataFrame, prepared: Prepared, subset: str) -> pl.DataFrame:
    """Return what `judged_scores` does, from the fused scores; :class:`NoLabels` where that is nothing."""
    judged = _with_labels(scores, prepared.data, subset)
    if judged.is_empty():
        raise NoLabels(
            f"no test clip of machine type {prepared.job.machine_type!r} of data set "
            f"{prepared.data.name!r}{prepared.data.suffix(subset)} has a known label, so its scores cannot "
            f"be judged"
        )
    return judged


def _by_section(judged: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    for (section,), rows in sorted(judged.group_by("section"), key=lambda item: str(item[0])):
        yield str(section), rows


def _truth_of_type(labelled: pl.DataFrame, machine_type: str) -> pl.DataFrame:
    return labelled.filter(pl.col("machine_type") == machine_type)


def _judge(rows: pl.DataFrame, thresholds: Mapping[str, Mapping[str, float]], rule: Rule) -> dict[str, Any]:
    scores, anomalous, target = _arrays(rows)
    return {
        "official": _official(rows, rule),
        "in_domain": _in_domain(scores, anomalous, target) if rule.domains else {},
        "decisions": {
            method: decision_metrics(scores > found["threshold"], anomalous, target, rule=rule)
            for method, found in thresholds.items()
        },
        "half_width": section_half_widths(scores, anomalous, target, rule=rule, scale="textbook"),
        "clips": int(np.size(scores)),
    }


def _official(rows: pl.DataFrame, rule: Rule) -> dict[str, float]:
    return section_metrics(*_arrays(rows), rule=rule)


def _arrays(rows: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return score, whether it is an anomaly, and whether it is of the target domain, of each clip."""
    target = (rows["domain"] == "target").fill_null(False).to_numpy()
    return rows["score"].to_numpy(), rows["anomaly"].to_numpy(), target


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
