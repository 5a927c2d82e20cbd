"""The leaderboard: stored results, grouped by system and changed settings, as rows and as a table.

Idea: a row is the mean over seeds of what one seed gives on *all* machine types, so a seed that lacks a
machine type does not count: a score over fewer types is another number.

Conventions: rows hold fractions between 0 and 1, seconds and clips per second, ``None`` where there is no
value; what a person reads (table, markdown) is in percent. A spread is the sample standard deviation over
seeds (n − 1), ``None`` for one seed. Half-widths are those stored with a result: the jackknife's, 95 %, in
the textbook's scale.

Records are those that `asdbench.engine.evaluation.evaluate` stores. Of several with the same system, changed
settings, search, machine type and seed the newest counts. They are counted by the rule that they hold, and
its metrics are columns: a data set without domains has ``auc`` and ``pauc`` where others have ``auc_source``,
``auc_target`` and ``pauc``.

A row whose settings a search chose by labels is dev-tuned and says so; the untuned one, even with the same
settings, stands beside it.
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from asdbench.config import assignments
from asdbench.engine.result_metrics import Record, machine_type_metrics, means_by_name
from asdbench.errors import InputError
from asdbench.metrics import DEFAULT_THRESHOLD, OFFICIAL, Rule, summary
from asdbench.report.published import Reference

Row = dict[str, Any]

_SYSTEM_ROW = ("system", "settings", "tuned", "subset", "official_score", "official_score_std")
_TYPE_ROW = ("machine_type", *_SYSTEM_ROW)
_COSTS = ("parameters", "macs_per_clip", "training_seconds", "scoring_seconds", "clips_per_second")


def rows(
    records: Iterable[Record],
    *,
    machine_types: Sequence[str],
    by_type: bool = False,
    threshold: str = DEFAULT_THRESHOLD,
) -> list[Row]:
    """Return the rows of a leaderboard.

    Parameters
    ----------
    records : iterable of mappings
        Results of one data set, in any order.
    machine_types : sequence of str
        The machine types that a complete seed has; records of others are left out.
    by_type : bool
        Whether each machine type has a row of its own.
    threshold : str
        Method of the decision threshold that precision, recall and F1 are of.

    Returns
    -------
    list of dict
        One row a system, changed settings and search, the best first, those without a complete seed last:
        ``system``, ``settings`` (the changed ones), ``tuned`` (``None``, or a dict of the ``search`` that
        chose them, its ``trials`` and ``protocol``), ``subset``, ``official_score`` and
        ``official_score_std``, the metrics of the rule by name (its means over types and sections, averaged
        over seeds), ``seeds`` (those that count), ``parameters`` (of the largest model), ``macs_per_clip``
        (multiply-accumulates of scoring a clip, the most of all types), ``training_seconds`` and
        ``scoring_seconds`` (of all types, averaged over seeds), ``clips_per_second`` (of scoring, over all
        time spent), ``machine_types`` (number done), ``machine_types_done``, ``machine_types_missing``,
        ``complete``.

        With ``by_type`` one row a machine type, system, changed settings and search, in the order of
        ``machine_types`` and the best first: ``machine_type``, ``system``, ``settings``, ``tuned``,
        ``subset``, ``seeds``, ``official_score_std`` and the means over seeds of `machine_type_metrics`.

    Raises
    ------
    InputError
        The records are of several data sets, or of both subsets of one.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in _newest(record for record in records if record["machine_type"] in machine_types):
        place = (record["machine_type"],) if by_type else ()
        groups.setdefault((*_choice(record), *place), []).append(record)
    if by_type:
        found = [_type_row(group, threshold) for group in groups.values()]
    else:
        found = [_system_row(group, machine_types) for group in groups.values()]
    return _ordered(found, machine_types, by_type=by_type)


def with_references(
    rows: Sequence[Row],
    references: Sequence[Reference],
    *,
    machine_types: Sequence[str],
    by_type: bool = False,
) -> list[Row]:
    """Return the rows with those of published results among them, in the order of `rows`.

    Every row gets the key ``reference``: ``None``, or a dict of ``source``, ``variant``, ``data``, ``subset``
    and ``printed_score``. A published result has a score over the machine types that it is of: over all of
    them, if it is of all, otherwise none. What is not published, such as times, is ``None``.
    """
    found = [dict(row) | {"reference": None} for row in rows]
    for reference in references:
        of = [machine_type for machine_type in machine_types if machine_type in reference.values]
        told = {
            name: getattr(reference, name)
            for name in ("source", "variant", "data", "subset", "printed_score")
        }
        row: Row = {
            "system": reference.system,
            "settings": {},
            "tuned": None,
            "subset": reference.subset,
            "seeds": [],
            "reference": told,
        }
        if by_type:
            for machine_type in of:
                values = reference.values[machine_type]
                score = reference.score([machine_type])
                found.append({"machine_type": machine_type, **row, "official_score": score, **values})
        elif of:
            missing = [machine_type for machine_type in machine_types if machine_type not in of]
            means = {} if missing else summary([reference.values[machine_type] for machine_type in of])
            found.append(
                row
                | {"official_score": means.get("score")}
                | {metric: means.get(f"harmonic_mean_{metric}") for metric in OFFICIAL.metrics}
                | {"machine_types": len(of), "machine_types_done": of, "machine_types_missing": missing}
                | {"complete": not missing}
            )
    first = _TYPE_ROW if by_type else (*_SYSTEM_ROW, *OFFICIAL.metrics, "seeds", *_COSTS)
    keys = [*(rows[0] if rows else first), *(key for row in found for key in row)]
    whole = [{key: row.get(key) for key in dict.fromkeys(keys)} for row in found]
    return _ordered(whole, machine_types, by_type=by_type)


# Rows


def _newest(records: Iterable[Record]) -> list[Record]:
    newest: dict[tuple[Any, ...], Record] = {}
    for record in sorted(records, key=_age):
        newest[*_choice(record), record["machine_type"], record["seed"]] = record
    data = sorted({record["data"] for record in newest.values()})
    if len(data) > 1:
        raise InputError(f"the results are of data sets {', '.join(data)}; a leaderboard takes those of one")
    if len({record["subset"] for record in newest.values()}) > 1:
        raise InputError("the results are of both subsets, dev and eval; a leaderboard takes those of one")
    return list(newest.values())


def _choice(record: Record) -> tuple[str, str, str]:
    """Return what the records of a row share: system, settings, and the search that chose these, if any."""
    search = record["tuned"]["search"] if record.get("tuned") else ""
    return record["system"], json.dumps(_settings(record), sort_keys=True), search


def _age(record: Record) -> tuple[str, int]:
    return record["finished"], record["tuned"]["trials"] if record.get("tuned") else 0


def _tuned(group: Sequence[Record]) -> dict[str, Any] | None:
    """Return what the newest of a row's records says of the search."""
    tuned = max(group, key=_age).get("tuned")
    return {name: tuned[name] for name in ("trials", "search", "protocol")} if tuned else None


def _settings(record: Record) -> dict[str, Any]:
    """Return what tells a row apart from others of its system: changed settings, foreign pseudo-anomalies."""
    return dict(record["changed_settings"]) | (
        {"pseudo_anomaly_data": record["pseudo_anomaly_data"]} if record.get("pseudo_anomaly_data") else {}
    )


def _ordered(rows: Sequence[Row], machine_types: Sequence[str], *, by_type: bool) -> list[Row]:
    if by_type:
        return sorted(
            rows,
            key=lambda row: (machine_types.index(row["machine_type"]), -row["official_score"], _name(row)),
        )
    return sorted(rows, key=lambda row: (-(row["official_score"] or 0), -row["machine_types"], _name(row)))


def _name(row: Row) -> tuple[str, bool, str]:
    return row["system"], bool(row.get("tuned")), assignments(row["settings"])


def _system_row(group: Sequence[Record], machine_types: Sequence[str]) -> Row:
    by_seed: dict[int, list[Record]] = {}
    for record in group:
        by_seed.setdefault(record["seed"], []).append(record)
    whole = {seed: of for seed, of in sorted(by_seed.items()) if len(of) == len(machine_types)}
    done = {record["machine_type"] for record in max(by_seed.values(), key=len)}
    rule = Rule.from_record(group[0]["rule"])
    means = [
        summary([section["official"] for record in of for section in record["sections"].values()], rule=rule)
        for of in whole.values()
    ]
    over_seeds = means_by_name(means)
    return {
        "system": group[0]["system"],
        "settings": _settings(group[0]),
        "tuned": _tuned(group),
        "subset": group[0]["subset"],
        "official_score": over_seeds.get("score"),
        "official_score_std": _spread([mean["score"] for mean in means]),
        **{metric: over_seeds.get(f"{rule.mean}_mean_{metric}") for metric in rule.metrics},
        "seeds": list(whole),
        "parameters": max(record["parameters"] for record in group),
        "macs_per_clip": max(record["macs_per_clip"] for record in group),
        "training_seconds": statistics.fmean(
            sum(record["training_seconds"] for record in of) for of in whole.values()
        )
        if whole
        else None,
        "scoring_seconds": statistics.fmean(
            sum(record["scoring_seconds"] for record in of) for of in whole.values()
        )
        if whole
        else None,
        "clips_per_second": statistics.fmean(
            [record["clips_per_second"] for record in group],
            weights=[max(record["scoring_seconds"], 1e-9) for record in group],
        ),
        "machine_types": len(done),
        "machine_types_done": [machine_type for machine_type in machine_types if machine_type in done],
        "machine_types_missing": [machine_type for machine_type in machine_types if machine_type not in done],
        "complete": bool(whole),
    }


def _type_row(group: Sequence[Record], threshold: str) -> Row:
    metrics = [machine_type_metrics(record, threshold=threshold) for record in group]
    means = means_by_name(metrics)
    rule = Rule.from_record(group[0]["rule"])
    names = (
        *rule.metrics,
        *(f"{metric}_half_width" for metric in rule.metrics),
        *(f"{of}{place}" for of in ("precision", "recall", "f1") for place in _places(rule)),
        "threshold",
    )
    return {
        "machine_type": group[0]["machine_type"],
        "system": group[0]["system"],
        "settings": _settings(group[0]),
        "tuned": _tuned(group),
        "subset": group[0]["subset"],
        "official_score": means["official_score"],
        "official_score_std": _spread([of["official_score"] for of in metrics]),
        **{name: means.get(name) for name in names},
        "threshold_method": threshold,
        "false_alarms": sum(of["false_alarms"] for of in metrics),
        "normals": sum(of["normals"] for of in metrics),
        "seeds": sorted(record["seed"] for record in group),
    }


def _places(rule: Rule) -> tuple[str, ...]:
    """Return what the names of figures about decisions end in."""
    return tuple(f"_{domain}" for domain in rule.domains) or ("",)


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


# Text
