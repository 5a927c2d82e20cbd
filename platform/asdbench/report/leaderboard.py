"""The rows of the leaderboard: stored results, grouped by system and changed settings.

Idea: a row is the mean over seeds of the official score over *all* machine types. A seed that lacks a machine
type does not count, as a score over fewer types is not comparable.

Conventions: rows hold fractions between 0 and 1, seconds and clips per second, and ``None`` where there is no
value. A spread is the sample standard deviation over seeds (n − 1), ``None`` for one seed. Half-widths are
those stored with a result: half of the 95 % jackknife interval.

Records are those that `asdbench.engine.evaluation.evaluate` stores. If several have the same system, changed
settings, search, machine type and seed, the newest counts. Each record holds the rule of its official score,
whose metrics become columns: a data set without domains has ``auc`` and ``pauc`` where others have
``auc_source``, ``auc_target`` and ``pauc``.

A row whose settings a search has chosen with labels is marked as dev-tuned, and the seeds that the search saw
do not count where it has others (:mod:`asdbench.report.fresh_scores`). It stays separate from an untuned
row, even one with the same settings. A row of a system, or with the settings of a preset, that was chosen on
the development labels of the same data set is marked, too (``chosen_on`` of
:class:`asdbench.system.System` and of :class:`asdbench.presets.Preset`).
"""

import contextlib
import gc
import json
import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from asdbench import registry
from asdbench.config import assignments
from asdbench.engine.result_index import values
from asdbench.engine.result_metrics import machine_type_metrics, means_by_name
from asdbench.engine.result_record import ResultRecord, SearchProvenance
from asdbench.engine.versions import Versions
from asdbench.errors import InputError
from asdbench.metrics import DEFAULT_THRESHOLD, OFFICIAL, Rule, summary
from asdbench.report.fresh_scores import score_in_search, without_seen_seeds
from asdbench.report.published import Reference
from asdbench.report.rendering import Row
from asdbench.report.row_versions import version_texts, with_version_marks
from asdbench.report.row_weights import weights_columns, without_unused_columns

METRICS = ("auc", "auc_source", "auc_target", "pauc", "pauc_source", "pauc_target")  # any rule's
_CHOICE = ("system", "settings", "tuned", "chosen_on_labels", "transductive")
_SYSTEM_ROW = (*_CHOICE, "subset", "official_score", "official_score_std")
_TYPE_ROW = ("machine_type", *_SYSTEM_ROW)
_COSTS = ("parameters", "macs_per_clip", "training_seconds", "scoring_seconds", "clips_per_second")


def rows(
    records: Iterable[ResultRecord],
    *,
    machine_types: Sequence[str],
    by_type: bool = False,
    threshold: str = DEFAULT_THRESHOLD,
) -> list[Row]:
    """Return the rows of a leaderboard.

    Parameters
    ----------
    records : iterable of mappings
        Results on one data set, in any order.
    machine_types : sequence of str
        The machine types that a complete seed covers; records of others are ignored.
    by_type : bool
        Whether to return a row for each machine type.
    threshold : str
        Method of the decision threshold used for precision, recall and F1.

    Returns
    -------
    list of dict
        One row per system, changed settings and search, the best first, those without a complete seed last:
        ``system``, ``settings`` (the changed ones), ``tuned`` (``None``, or a dict of what
        `asdbench.engine.result_record.SearchProvenance` holds of the search that chose them),
        ``chosen_on_labels`` (whether the method or a preset of its settings was chosen on the development
        labels of this data set), ``transductive`` (whether a clip's score may depend on the other test
        clips), ``subset``,
        ``official_score`` and ``official_score_std``, the metrics of the rule by name (its means over types
        and sections, averaged over seeds), ``seeds`` (those that count), ``parameters`` (of the largest
        model), ``macs_per_clip`` (multiply-accumulates to score a clip, the maximum over types),
        ``training_seconds`` and ``scoring_seconds`` (summed over types, averaged over seeds),
        ``clips_per_second`` (of scoring, weighted by time), ``machine_types`` (number done),
        ``machine_types_done``,
        ``machine_types_missing``, ``complete``, ``versions`` (packages that trained, scored or judged, as
        ``"torch 2.9.0"``), ``other_versions`` (those of them of another major version than the newest among
        the rows). If a row uses pretrained weights, all rows have ``weights``
        (their ids), ``weights_license`` and ``weights_training_data``, lists without duplicates.

        With ``by_type`` one row per machine type, system, changed settings and search, in the order of
        ``machine_types``, the best first: ``machine_type``, ``system``, ``settings``, ``tuned``,
        ``chosen_on_labels``, ``transductive``, ``subset``, ``seeds``, ``official_score_std``, ``versions``,
        ``other_versions`` and the means over seeds of `machine_type_metrics`.

    Raises
    ------
    InputError
        The records belong to several data sets, or to both subsets of one.
    """
    entries = _entries_of_types(records, machine_types, threshold) if by_type else _entries(records)
    groups: dict[tuple[str, ...], list[_Entry]] = {}
    with _paused_collector():
        newest = _newest(entry for entry in entries if entry.machine_type in machine_types)
    for entry in without_seen_seeds(newest):
        machine_type = (entry.machine_type,) if by_type else ()
        groups.setdefault((*entry.row_key, *machine_type), []).append(entry)
    if by_type:
        type_rows = [_type_row(group, threshold) for group in groups.values()]
        return _finished(_sorted_by_type(type_rows, machine_types))
    system_rows = [_system_row(group, machine_types) for group in groups.values()]
    return _finished(_sorted_by_score(system_rows))


def _finished(rows: Sequence[Row]) -> list[Row]:
    return with_version_marks(without_unused_columns(rows))


RowKey = tuple[str, str, str]
"""What distinguishes a row from all others of its leaderboard: system, settings, and search."""


class Part(NamedTuple):
    """One of the results that a row is the mean of: when it was judged, and its place among them."""

    finished: str
    place: int


def row_key(row: Row) -> RowKey:
    """Return what distinguishes a row from all others of its leaderboard.

    >>> row_key({"system": "mine", "settings": {"epochs": 3}, "tuned": None})
    ('mine', '{"epochs": 3}', '')
    """
    search = row["tuned"]["search"] if row["tuned"] else ""
    return row["system"], settings_text(row["settings"]), search


def row_parts(
    rows: Sequence[Row], records: Sequence[ResultRecord]
) -> dict[RowKey, dict[tuple[int, str], Part]]:
    """Return which results each row is the mean of, by seed and machine type.

    Parameters
    ----------
    rows : rows as `rows` returns them, for all machine types
    records : the results that it has made them of
    """
    types = {row_key(row): set(row["machine_types_done"]) for row in rows}
    newest: dict[RowKey, dict[tuple[int, str], tuple[tuple[str, int], int]]] = {key: {} for key in types}
    entries = list(_entries(records))
    place = {id(entry): index for index, entry in enumerate(entries)}
    for entry in without_seen_seeds(e for e in entries if e.machine_type in types.get(e.row_key, ())):
        of_row, part = newest[entry.row_key], (entry.seed, entry.machine_type)
        if part not in of_row or of_row[part][0] <= entry.age:
            of_row[part] = entry.age, place[id(entry)]
    return {
        key: {part: Part(age[0], index) for part, (age, index) in of_row.items()}
        for key, of_row in newest.items()
    }


def section_score(records: Iterable[ResultRecord]) -> float:
    """Return the official score over the results of one seed, as a fraction."""
    records = list(records)
    return summary([m for record in records for m in record.official_metrics], rule=records[0].rule)["score"]


def display_metrics(row: Row) -> dict[str, float]:
    """Return the numbers of a row as people read them: scores in percent, with two decimals.

    ``parameters_m`` is in millions, ``gmacs_per_clip`` in billions, ``training_min`` in minutes, each with
    three digits. A value that the row lacks is absent.

    >>> display_metrics({"official_score": 0.673512, "official_score_std": None, "seeds": [0],
    ...                  "parameters": 269_992, "macs_per_clip": 83_000_000, "training_seconds": 90.0})
    {'official_score': 67.35, 'seeds': 1, 'parameters_m': 0.27, 'gmacs_per_clip': 0.083, 'training_min': 1.5}
    """
    scores = {
        "official_score": row["official_score"],
        "official_score_std": row["official_score_std"],
        "score_in_search": score_in_search(row),
        "interval_low": row.get("official_score_low"),
        "interval_high": row.get("official_score_high"),
        "like_these_low": row.get("like_these_low"),
        "like_these_high": row.get("like_these_high"),
        **{name: row[name] for name in METRICS if name in row},
    }
    costs = {"parameters_m": (row["parameters"], 1e6), "gmacs_per_clip": (row["macs_per_clip"], 1e9)}
    costs["training_min"] = row["training_seconds"], 60
    return {
        **{name: round(100 * value, 2) for name, value in scores.items() if value is not None},
        "seeds": len(row["seeds"]),
        **{name: float(f"{value / unit:.3g}") for name, (value, unit) in costs.items() if value is not None},
    }


def default_columns(rule: Rule, *, by_type: bool = False) -> tuple[str, ...]:
    """Return the columns that every leaderboard of a rule has, also one without rows.

    >>> default_columns(OFFICIAL)[-6:-4]
    ('seeds', 'parameters')
    """
    if by_type:
        return (*_TYPE_ROW, *rule.metrics, "seeds")
    return (*_SYSTEM_ROW, *rule.metrics, "seeds", *_COSTS)


def with_references(
    rows: Sequence[Row],
    references: Sequence[Reference],
    *,
    machine_types: Sequence[str],
    by_type: bool = False,
    rule: Rule = OFFICIAL,
) -> list[Row]:
    """Return the rows with rows of published results added, in the order of `rows`.

    Those of another rule come last. Every row gets three keys. ``reference`` is ``None``, or a dict of
    ``source``, ``is_official``, ``data``, ``subset`` and ``printed_score``. ``tier`` says where the score
    comes from: ``"ours"`` (a stored result, unless the row says otherwise), ``"recomputed"`` (from published
    values of machine types) or ``"published"`` (a printed score). ``rank`` is the place among all rows with a
    score by the official rule, of the same machine type with ``by_type``, and ``None`` for the others.

    A published result has a score over all machine types if it covers them; one that is only printed is left
    out if it is of other machine types. What is not published, such as times, is ``None``.
    """
    all_rows = [{"tier": "ours"} | row | {"reference": None} for row in rows]
    for reference in references:
        if by_type:
            all_rows += _published_type_rows(reference, machine_types, rule)
        elif reference.values or reference.means(machine_types):
            all_rows.append(_published_row(reference, machine_types, rule))
    default_keys = default_columns(rule, by_type=by_type)
    keys = dict.fromkeys([*(rows[0] if rows else default_keys), *(key for row in all_rows for key in row)])
    filled = [{key: row.get(key) for key in keys} for row in all_rows]
    ordered = _sorted_by_type(filled, machine_types) if by_type else _sorted_by_score(filled)
    return _ranked(ordered)


def with_imported(
    rows: Sequence[Row],
    imported: Sequence[Row],
    *,
    machine_types: Sequence[str],
    by_type: bool = False,
    rule: Rule = OFFICIAL,
) -> list[Row]:
    """Return the rows with those of imported results added, in the order of `rows`.

    Every row gets the keys ``tier`` and ``imported``, which is ``None`` or a dict of ``source`` and
    ``license``. What is not known of an imported result, such as times, is ``None``.
    """
    if not imported:
        return list(rows)
    all_rows = [row | {"tier": "ours", "imported": None} for row in rows] + list(imported)
    keys = dict.fromkeys([*default_columns(rule, by_type=by_type), *(key for row in all_rows for key in row)])
    filled = [{key: row.get(key) for key in keys} for row in all_rows]
    return _sorted_by_type(filled, machine_types) if by_type else _sorted_by_score(filled)


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Return rows with their ``rank``; rows of equal scores have the same."""
    scores: dict[str | None, list[float]] = {}
    for row in rows:
        if has_rank(row):
            scores.setdefault(row.get("machine_type"), []).append(row["official_score"])
    return [
        row
        | {
            "rank": 1 + sum(score > row["official_score"] for score in scores[row.get("machine_type")])
            if has_rank(row)
            else None
        }
        for row in rows
    ]


def has_rank(row: Row) -> bool:
    """Return whether a row has a score by the official rule.

    >>> has_rank({"official_score": 0.6, "reference": {"is_official": False}})
    False
    """
    return row["official_score"] is not None and not is_by_another_rule(row)


def is_by_another_rule(row: Row) -> bool:
    """Return whether a row is a published one whose values another rule than the official one gives.

    >>> is_by_another_rule({"reference": None})
    False
    """
    return bool(row.get("reference")) and not row["reference"]["is_official"]


def _published_row(reference: Reference, machine_types: Sequence[str], rule: Rule) -> Row:
    done = [machine_type for machine_type in machine_types if machine_type in reference.machine_types]
    missing = [machine_type for machine_type in machine_types if machine_type not in done]
    means = reference.means(machine_types)
    return {
        **_published_columns(reference),
        "official_score": means.get("score"),
        **{metric: means.get(f"{rule.mean}_mean_{metric}") for metric in rule.metrics},
        "machine_types": len(done),
        "machine_types_done": done,
        "machine_types_missing": missing,
        "complete": not missing,
    }


def _published_type_rows(reference: Reference, machine_types: Sequence[str], rule: Rule) -> list[Row]:
    return [
        {
            "machine_type": machine_type,
            **_published_columns(reference),
            "official_score": score,
            **dict.fromkeys(rule.metrics),
            **reference.values.get(machine_type, {}),
        }
        for machine_type in machine_types
        if (score := reference.type_score(machine_type)) is not None
    ]


def _published_columns(reference: Reference) -> Row:
    names = ("source", "is_official", "data", "subset", "printed_score")
    return {
        "system": reference.system,
        "settings": {},
        "tuned": None,
        "subset": reference.subset,
        "seeds": [],
        "reference": {name: getattr(reference, name) for name in names},
        "tier": reference.tier,
    }


# Grouping and sorting


class _Entry(NamedTuple):
    """What a row needs of a result, which is much smaller than the result.

    Attributes
    ----------
    row_key : what the entries of a row share: system, settings, and the search that chose them, if any
    settings : what distinguishes the rows of a system: changed settings and pseudo-anomaly data
    metrics : official metrics of each section, or for a row of one machine type its `machine_type_metrics`
    """

    row_key: tuple[str, str, str]
    settings: dict[str, Any]
    metrics: Sequence[Mapping[str, float]]
    tuned: SearchProvenance | None
    transductive: bool
    machine_type: str
    seed: int
    data: str
    subset: str
    finished: str
    rule: Rule
    parameters: int
    macs_per_clip: int
    training_seconds: float
    scoring_seconds: float
    clips_per_second: float
    versions: tuple[Versions, ...]

    @property
    def age(self) -> tuple[str, int]:
        return self.finished, self.tuned.trials if self.tuned else 0


_FIELDS = ("system", "changed_settings", "pseudo_anomaly_data", *_Entry._fields[3:])


def _entries(records: Iterable[ResultRecord]) -> Iterator[_Entry]:
    """Yield entries for rows of a system."""
    return _from_values(values(records, "official_metrics", *_FIELDS))


def _entries_of_types(
    records: Iterable[ResultRecord], machine_types: Sequence[str], threshold: str
) -> Iterator[_Entry]:
    """Yield entries for rows of a machine type."""
    fields = attrgetter(*_FIELDS)
    return _from_values(
        ([machine_type_metrics(record, threshold=threshold)], *fields(record))
        for record in records
        if record.machine_type in machine_types
    )


def _from_values(rows: Iterable[tuple[Any, ...]]) -> Iterator[_Entry]:
    texts: dict[tuple[int, str | None], tuple[object, dict[str, Any], str]] = {}
    for metrics, system, changed_settings, pseudo_anomaly_data, tuned, *others in rows:
        choice = (id(changed_settings), pseudo_anomaly_data)
        if choice not in texts:  # stored results share objects of equal settings, which stay alive here
            settings = row_settings(changed_settings, pseudo_anomaly_data)
            texts[choice] = changed_settings, settings, settings_text(settings)
        _, settings, text = texts[choice]
        yield _Entry((system, text, tuned.search if tuned else ""), settings, metrics, tuned, *others)


@contextlib.contextmanager
def _paused_collector() -> Iterator[None]:
    """Pause the garbage collector, which would look again and again at 10^5 entries that have no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _newest(entries: Iterable[_Entry]) -> list[_Entry]:
    newest: dict[tuple[Any, ...], _Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.age):
        newest[entry.row_key, entry.machine_type, entry.seed] = entry
    data = sorted({entry.data for entry in newest.values()})
    if len(data) > 1:
        raise InputError(
            f"the results belong to data sets {', '.join(data)}; a leaderboard shows one data set"
        )
    if len({entry.subset for entry in newest.values()}) > 1:
        raise InputError("the results belong to both subsets, dev and eval; a leaderboard shows one subset")
    return list(newest.values())


def _tuned(group: Sequence[_Entry]) -> dict[str, Any] | None:
    """Return the search of the newest of a row's records."""
    tuned = max(group, key=lambda entry: entry.age).tuned
    return msgspec.structs.asdict(tuned) if tuned else None


def _configured(entry: _Entry) -> registry.Configured | None:
    """Return an entry's system with its settings; ``None`` if it is gone, or has lost a setting."""
    settings = {name: value for name, value in entry.settings.items() if name != "pseudo_anomaly_data"}
    try:
        return registry.configure(entry.row_key[0], settings)
    except InputError:
        return None


def _choice_columns(entry: _Entry) -> Row:
    """Return what an entry stands on: labels that judge it, other test clips, and pretrained weights."""
    configured = _configured(entry)
    chosen_on = configured.chosen_on() if configured is not None and entry.subset == "dev" else ()
    marks = {"chosen_on_labels": entry.data in chosen_on, "transductive": entry.transductive}
    return {**marks, **weights_columns(configured)}


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings as a text that is the same in whatever order they were given.

    >>> settings_text({"epochs": 3, "batch_size": 64}) == settings_text({"batch_size": 64, "epochs": 3})
    True
    """
    return json.dumps(settings, sort_keys=True)


def row_settings(changed: Mapping[str, Any], pseudo_anomaly_data: str | None) -> dict[str, Any]:
    """Return what distinguishes the rows of a system: changed settings, and data of pseudo-anomalies."""
    return dict(changed) | ({"pseudo_anomaly_data": pseudo_anomaly_data} if pseudo_anomaly_data else {})


def _sorted_by_score(rows: Sequence[Row]) -> list[Row]:
    return sorted(
        rows,
        key=lambda row: (
            is_by_another_rule(row),
            -(row["official_score"] or 0),
            -row["machine_types"],
            _name(row),
        ),
    )


def _sorted_by_type(rows: Sequence[Row], machine_types: Sequence[str]) -> list[Row]:
    return sorted(
        rows,
        key=lambda row: (
            machine_types.index(row["machine_type"]),
            is_by_another_rule(row),
            -row["official_score"],
            _name(row),
        ),
    )


def _name(row: Row) -> tuple[str, bool, str]:
    return row["system"], bool(row.get("tuned")), assignments(row["settings"])


# Rows


def _system_row(group: Sequence[_Entry], machine_types: Sequence[str]) -> Row:
    by_seed: dict[int, list[_Entry]] = {}
    for entry in group:
        by_seed.setdefault(entry.seed, []).append(entry)
    complete = {
        seed: of_seed for seed, of_seed in sorted(by_seed.items()) if len(of_seed) == len(machine_types)
    }
    done = {entry.machine_type for entry in max(by_seed.values(), key=len)}
    rule = group[0].rule
    means = [_official_means(of_seed, rule) for of_seed in complete.values()]
    over_seeds = means_by_name(means)
    return {
        "system": group[0].row_key[0],
        "settings": dict(group[0].settings),
        "tuned": _tuned(group),
        **_choice_columns(group[0]),
        "subset": group[0].subset,
        "official_score": over_seeds.get("score"),
        "official_score_std": _spread([mean["score"] for mean in means]),
        **{metric: over_seeds.get(f"{rule.mean}_mean_{metric}") for metric in rule.metrics},
        "seeds": list(complete),
        "parameters": max(entry.parameters for entry in group),
        "macs_per_clip": max(entry.macs_per_clip for entry in group),
        "training_seconds": _mean_total(complete.values(), "training_seconds"),
        "scoring_seconds": _mean_total(complete.values(), "scoring_seconds"),
        "clips_per_second": statistics.fmean(
            [entry.clips_per_second for entry in group],
            weights=[max(entry.scoring_seconds, 1e-9) for entry in group],
        ),
        "machine_types": len(done),
        "machine_types_done": [machine_type for machine_type in machine_types if machine_type in done],
        "machine_types_missing": [machine_type for machine_type in machine_types if machine_type not in done],
        "complete": bool(complete),
        "versions": _versions(group),
    }


def _official_means(entries: Sequence[_Entry], rule: Rule) -> dict[str, float]:
    return summary([section for entry in entries for section in entry.metrics], rule=rule)


def _mean_total(seeds: Collection[Sequence[_Entry]], name: str) -> float | None:
    """Return the sum of a column over the entries of a seed, averaged over seeds."""
    if not seeds:
        return None
    value = attrgetter(name)
    return statistics.fmean([sum(map(value, entries)) for entries in seeds])


def _type_row(group: Sequence[_Entry], threshold: str) -> Row:
    metrics = [entry.metrics[0] for entry in group]
    means = means_by_name(metrics)
    rule = group[0].rule
    names = (
        *rule.metrics,
        *(f"{metric}_half_width" for metric in rule.metrics),
        *(f"{name}{suffix}" for name in ("precision", "recall", "f1") for suffix in _domain_suffixes(rule)),
        "threshold",
    )
    return {
        "machine_type": group[0].machine_type,
        "system": group[0].row_key[0],
        "settings": dict(group[0].settings),
        "tuned": _tuned(group),
        **_choice_columns(group[0]),
        "subset": group[0].subset,
        "official_score": means["official_score"],
        "official_score_std": _spread([of_seed["official_score"] for of_seed in metrics]),
        **{name: means.get(name) for name in names},
        "threshold_method": threshold,
        "false_alarms": sum(of_seed["false_alarms"] for of_seed in metrics),
        "normals": sum(of_seed["normals"] for of_seed in metrics),
        **{name: means.get(name) for name in _domain_counts(rule)},
        "threshold_needed": means["threshold_needed"],
        "seeds": sorted(entry.seed for entry in group),
        "versions": _versions(group),
    }


def _versions(group: Sequence[_Entry]) -> list[str]:
    """Return the versions that the results of a row come from; stored results share objects of equal ones."""
    shared = {id(entry.versions): entry.versions for entry in group}
    return version_texts(each for versions in shared.values() for each in versions)


def _domain_counts(rule: Rule) -> Iterator[str]:
    """Yield the names of the numbers of false alarms, normal test clips and held-out normals by domain."""
    for suffix in _domain_suffixes(rule):
        for name in ("test_false_alarms", "test_normals", "threshold_units"):
            yield f"{name}{suffix}"


def _domain_suffixes(rule: Rule) -> tuple[str, ...]:
    """Return the endings of the names of precision, recall and F1."""
    return tuple(f"_{domain}" for domain in rule.domains) or ("",)


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
