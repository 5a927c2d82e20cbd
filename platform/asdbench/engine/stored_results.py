"""The stored results of a data set that match its recordings, its labels and the code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from asdbench import registry
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import (
    SearchProvenance,
    first_subset,
    labeled_clips,
    result_key,
    truth_of_type,
)
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.io.files import parsed_json


@dataclass(frozen=True)
class SearchedSettings:
    """What a search chose: a system with settings, and the data set of its pseudo-anomalies if another."""

    configured: registry.Configured
    pseudo_anomaly_data: str | None
    tuned: SearchProvenance


def current_results(
    data: DataSet, store: JobStore, *, subset: str | None = None
) -> tuple[list[dict[str, Any]], int]:
    """Return the stored results that data, labels and code of now would give, and the number of others.

    They are those of one subset: dev, or eval where no dev test clip has a known label, if none is given.
    Of a search that went on, those count whose settings it chose last. What a user ran with settings that a
    search has chosen by labels of this data set gets that search's ``tuned``.
    """
    labeled = labeled_clips(data)
    subset = subset or first_subset(labeled)
    truths: dict[str, pl.DataFrame] = {}
    current: list[tuple[ResolvedJob, dict[str, Any]]] = []
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
                record["pseudo_anomaly_data"],
            )
            if machine_type not in truths:
                truths[machine_type] = truth_of_type(labeled, machine_type)
            resolved = ResolvedJob.from_job(job, data)
            tuned = SearchProvenance(**record["tuned"]) if record.get("tuned") else None
            key = result_key(resolved, truths[machine_type], subset=subset, tuned=tuned)
            holds = store.result(key) == name
        except (ValueError, KeyError, TypeError):  # a damaged file, a system or machine type that is gone
            holds = False
        current += [(resolved, record)] if holds else []
        outdated += not holds
    return _with_searches(current, searched_settings(store, data)), outdated


def _with_searches(
    current: Sequence[tuple[ResolvedJob, dict[str, Any]]], searched: Sequence[SearchedSettings]
) -> list[dict[str, Any]]:
    """Return records without those that a search superseded, and ``tuned`` in what a user ran."""
    tuned = [record for _, record in current if record.get("tuned")]
    last = {
        (record["system"], record["tuned"]["search"]): record["changed_settings"]
        for record in sorted(tuned, key=lambda record: (record["finished"], record["tuned"]["trials"]))
    }
    found = []
    for resolved, record in current:
        if not record.get("tuned"):
            chosen = (
                asdict(of.tuned)
                for of in searched
                if (of.configured, of.pseudo_anomaly_data)
                == (resolved.configured, resolved.job.pseudo_anomaly_data)
            )
            found.append(record | {"tuned": next(chosen, None)})
        elif last[record["system"], record["tuned"]["search"]] == record["changed_settings"]:
            found.append(record)
    return found


def searched_settings(store: JobStore, data: DataSet) -> list[SearchedSettings]:
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


def _chosen(record: Mapping[str, Any], key: str) -> Iterator[SearchedSettings]:
    """Yield the best of a search's trials, and each that was the best before it went on.

    The record holds ``system``, ``best`` (``settings``, and the ``number`` of its trial, of which 0 is the
    system untuned), ``trials_done`` and ``protocol``. It may hold ``pseudo_anomaly_data``, ``start`` (settings untuned,
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
            pseudo_anomaly_data = (
                record.get("pseudo_anomaly_data") if configured.takes_pseudo_anomalies() else None
            )
            yield SearchedSettings(
                configured, pseudo_anomaly_data, SearchProvenance(key, trials, record["protocol"])
            )
