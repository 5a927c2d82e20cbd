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

import csv
import io
import json
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from asdbench.config import typed
from asdbench.errors import InputError, unknown_name
from asdbench.metrics import DEFAULT_THRESHOLD, OFFICIAL, Rule, summary
from asdbench.metrics.threshold import binomial_interval
from asdbench.report.reference import Reference

Record = Mapping[str, Any]
Row = dict[str, Any]
Format = Literal["table", "csv", "json", "markdown"]

_METRICS = {  # every metric that a rule may have, with its name for people
    "auc": "AUC",
    "auc_source": "AUC source",
    "auc_target": "AUC target",
    "pauc": "pAUC",
    "pauc_source": "pAUC source",
    "pauc_target": "pAUC target",
}
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


def machine_type_metrics(record: Record, *, threshold: str = DEFAULT_THRESHOLD) -> dict[str, float]:
    """Return the metrics of one result, which is of one machine type, with decisions by a named threshold.

    ``official_score`` and the metrics of the rule by name are the rule's means over its sections;
    ``<metric>_half_width`` and precision, recall and F1 (of each domain, if there are any) are plain means
    over them; ``threshold`` is the decision threshold, ``false_alarms`` the number of the held-out
    ``normals`` that exceed a threshold of others. What a section lacks (a domain without clips) is
    absent.
    """
    rule = Rule.of(record["rule"])
    sections = record["sections"].values()
    half_widths = _means([section["half_width"] for section in sections])
    return {
        **section_means([section["official"] for section in sections], rule=rule),
        **{f"{metric}_half_width": half_width for metric, half_width in half_widths.items()},
        **_means([section["decisions"][threshold] for section in sections]),
        **record["thresholds"][threshold],
    }


def section_means(sections: Iterable[Mapping[str, float]], *, rule: Rule) -> dict[str, float]:
    """Return ``official_score`` and the metrics of a rule by name: its means over sections."""
    means = summary(sections, rule=rule)
    metrics = {m: means[name] for m in rule.metrics if (name := f"{rule.mean}_mean_{m}") in means}
    return {"official_score": means["score"], **metrics}


def assignments(settings: Mapping[str, Any]) -> str:
    """Return settings as one would type them: ``epochs=30 reproduction=true``."""
    return " ".join(f"{name}={typed(value)}" for name, value in settings.items())


def render(
    rows: Sequence[Row],
    *,
    format: Format,
    title: str,
    rule: Rule = OFFICIAL,
    console: Console | None = None,
) -> str | None:
    """Print a table (and return ``None``), or return the rows as CSV, JSON or a markdown table.

    Parameters
    ----------
    rows : sequence of dict
        As `rows` gives them, of either kind.
    format : "table", "csv", "json" or "markdown"
        The table shows as many columns as the console is wide enough for.
    title : str
        Heading of the table and of the markdown.
    rule : Rule
        By which the rows are counted; table and markdown say so.
    console : rich.console.Console, optional
        Where the table is printed; standard output by default.

    Raises
    ------
    InputError
        There is no such format.
    """
    if format == "json":
        return json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False)
    if format == "csv":
        return _csv(rows)
    if format == "markdown":
        return _markdown(rows, title, rule)
    if format != "table":
        raise unknown_name("format", format, ("table", "csv", "json", "markdown"))
    console = console or Console()
    table = _table(rows, title, rule, wide=True)
    unbounded = console.options.update(width=10_000)
    if console.measure(table, options=unbounded).maximum > console.width:
        table = _table(rows, title, rule, wide=False)
    console.print(table)
    return None


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
    return dict(record["changed_settings"]) | ({"others": record["others"]} if record.get("others") else {})


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
    rule = Rule.of(group[0]["rule"])
    means = [
        summary([section["official"] for record in of for section in record["sections"].values()], rule=rule)
        for of in whole.values()
    ]
    over_seeds = _means(means)
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
    means = _means(metrics)
    rule = Rule.of(group[0]["rule"])
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


def _means(mappings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each name over the mappings that have it."""
    names = dict.fromkeys(name for mapping in mappings for name in mapping)
    return {name: statistics.fmean(of[name] for of in mappings if name in of) for name in names}


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


# Text


@dataclass(frozen=True)
class _Column:
    """A column for people: what stands in a cell, which value is the best, and whether it is always shown."""

    header: str
    cell: Callable[[Row], str]
    ranked_by: str | None = None
    wide: bool = False


def _columns(rows: Sequence[Row]) -> list[_Column]:
    by_type = _is_by_type(rows)
    columns = [
        _Column("official score", _score, "official_score"),
        *([_Column("interval (95 %)", _interval)] if _has(rows, "official_score_low") else []),
        *(_Column(_METRICS[metric], _percent_of(metric), metric) for metric in _metrics(rows)),
        _Column("seeds", lambda row: str(len(row["seeds"]) or "–")),
    ]
    if by_type:
        return [
            *columns,
            _Column("half-widths", _half_widths(_metrics(rows)), wide=True),
            *(
                _Column(header, _percent_of(name), name, wide=True)
                for name, header in (("f1", "F1"), ("f1_source", "F1 source"), ("f1_target", "F1 target"))
                if name in rows[0]
            ),
            _Column("false alarms", _false_alarms, wide=True),
        ]
    return [
        *columns,
        _Column("parameters", lambda row: _known(row["parameters"], "{:,}"), wide=True),
        _Column("MAC/clip", lambda row: _scaled(row["macs_per_clip"]), wide=True),
        _Column("training", lambda row: _duration(row["training_seconds"]), wide=True),
        _Column("scoring", lambda row: _duration(row["scoring_seconds"]), wide=True),
        _Column("clips/s", lambda row: _known(row["clips_per_second"], "{:,.0f}"), wide=True),
    ]


def _table(rows: Sequence[Row], title: str, rule: Rule, *, wide: bool) -> Table:
    by_type = _is_by_type(rows)
    columns = [column for column in _columns(rows) if wide or not column.wide]
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=_caption(rows, rule, half_widths=by_type and wide),
        caption_justify="left",
        caption_style="",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("machine type\n  system" if by_type else "system", overflow="fold")
    for column in columns:
        first, _, rest = column.header.partition(" ")
        table.add_column(f"{first}\n{rest}" if rest else first, justify="right", no_wrap=True)
    best = _best(rows, columns)
    machine_type = None
    for row in rows:
        indent = ""
        if by_type:
            indent = "  "
            if row["machine_type"] != machine_type:
                machine_type = row["machine_type"]
                table.add_section()
                table.add_row(Text(machine_type, style="underline"))
        name = Text(indent + row["system"], style="dim" if row.get("reference") else "")
        if row.get("reference"):
            name.append(f"\n{indent}  published")
        if row.get("tuned"):
            name.append(f"\n{indent}  {_tuned_label(row)}")
        if row["settings"]:
            name.append("".join(f"\n{indent}  {word}" for word in short(row["settings"])), style="italic")
        table.add_row(
            name,
            *(
                Text(column.cell(row), style="bold" if _is_best(row, column, best) else "")
                for column in columns
            ),
        )
    return table


def _markdown(rows: Sequence[Row], title: str, rule: Rule) -> str:
    by_type = _is_by_type(rows)
    columns = _columns(rows)
    best = _best(rows, columns)
    headers = [*(["machine type"] if by_type else []), "system", "settings", *(c.header for c in columns)]
    left = len(headers) - len(columns)
    lines = [headers, [":--"] * left + ["--:"] * len(columns)]
    for row in rows:
        settings = " ".join(short(row["settings"]))
        cells = [
            *([row["machine_type"]] if by_type else []),
            f"{row['system']} ({_tuned_label(row)})" if row.get("tuned") else row["system"],
            "published" if row.get("reference") else f"`{settings}`" if settings else "",
        ]
        for column in columns:
            cell = column.cell(row)
            cells.append(f"**{cell}**" if _is_best(row, column, best) else cell)
        lines.append([cell.replace("|", "\\|") for cell in cells])
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{title}**\n\n{body}\n\n{_caption(rows, rule, half_widths=by_type)}\n"


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _csv_cell(value) for name, value in row.items()})
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, dict):
        return assignments(value)
    if isinstance(value, list):
        return " ".join(str(item) for item in value)
    return typed(value) if isinstance(value, bool) else value


def _tuned_label(row: Row) -> str:
    trials = row["tuned"]["trials"]
    return f"dev-tuned, {trials:,} trial{'' if trials == 1 else 's'}"


def _false_alarms(row: Row) -> str:
    if not row.get("normals"):
        return "–"
    low, high = binomial_interval(row["false_alarms"], row["normals"])
    share = 100 * row["false_alarms"] / row["normals"]
    return f"{share:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


def _caption(rows: Sequence[Row], rule: Rule, *, half_widths: bool) -> str:
    if not rows:
        return "There are no results yet."
    over = "the sections of a machine type" if _is_by_type(rows) else "machine types"
    seeds = {tuple(row["seeds"]) for row in rows if row["seeds"]}
    only = next(iter(seeds)) if len(seeds) == 1 else ()
    if len(only) == 1:
        spread = f"seed {only[0]} alone, so there is no spread"
    elif only:
        spread = f"mean of seeds {', '.join(map(str, only))}; ± is the standard deviation over seeds"
    else:
        spread = "mean over the seeds; ± is the standard deviation over seeds"
    metrics = ", ".join(re.sub(" (.+)", r" (\1)", _METRICS[metric]) for metric in _metrics(rows))
    said = [f"Official score, in percent: {rule.mean} mean of {metrics} over {over}; {spread}."]
    methods = [row["threshold_method"] for row in rows if row.get("threshold_method")]
    if half_widths and methods:
        said.append(
            f"F1 at the {methods[0]} threshold; false alarms: of the normals held out, each against the "
            f"threshold of others (nominally 10 %), with its 95 % interval."
        )
    if half_widths:
        said.append(f"Half-widths: of {metrics}, of a 95 % jackknife interval over clips.")
    tuned_on = {row["subset"] for row in rows if row.get("tuned")}
    if "dev" in tuned_on:
        said.append(
            "dev-tuned: settings chosen by the labels of these clips, so its score is too good; "
            "leave-one-type-out says by how much."
        )
    if "eval" in tuned_on:
        said.append(
            "dev-tuned: settings chosen by the labels of development clips; these clips had no part in it."
        )
    if any(row["official_score"] is None for row in rows):
        said.append("A system has a score as soon as one seed has all machine types.")
    if _has(rows, "official_score_low"):
        said.append("Interval: bootstrap over clips and seeds.")
    published = {
        (row["reference"]["source"], row["reference"]["variant"]) for row in rows if row.get("reference")
    }
    said += [f"Published: {source} ({variant})." for source, variant in sorted(published)]
    return " ".join(said)


def _metrics(rows: Sequence[Row]) -> list[str]:
    """Return the rule's metrics that the rows have, in the order of a table."""
    return [metric for metric in _METRICS if rows and metric in rows[0]]


def _has(rows: Sequence[Row], key: str) -> bool:
    return any(row.get(key) is not None for row in rows)


def _is_by_type(rows: Sequence[Row]) -> bool:
    return bool(rows) and "machine_type" in rows[0]


def _best(rows: Sequence[Row], columns: Sequence[_Column]) -> dict[tuple[str | None, str], float]:
    """Return the highest value of each ranked column, of each machine type if rows have one.

    A column in which nothing is better than anything else has no best value.
    """
    values: dict[tuple[str | None, str], list[float]] = {}
    for row in rows:
        for column in columns:
            if row.get("reference") is None and row.get(column.ranked_by or "") is not None:
                place = (row.get("machine_type"), column.ranked_by or "")
                values.setdefault(place, []).append(row[place[1]])
    return {place: max(of) for place, of in values.items() if min(of) < max(of)}


def _is_best(row: Row, column: _Column, best: Mapping[tuple[str | None, str], float]) -> bool:
    place = (row.get("machine_type"), column.ranked_by or "")
    return row.get("reference") is None and place in best and row[place[1]] == best[place]


def _score(row: Row) -> str:
    if row["official_score"] is None:
        of = row["machine_types"] + len(row["machine_types_missing"])
        return f"{row['machine_types']} of {of} types"
    spread = row["official_score_std"]
    return _percent(row["official_score"]) + ("" if spread is None else f" ± {_percent(spread)}")


def _interval(row: Row) -> str:
    if row.get("official_score_low") is None:
        return "–"
    return f"{_percent(row['official_score_low'])} to {_percent(row['official_score_high'])}"


def _known(value: float | None, pattern: str) -> str:
    return "–" if value is None else pattern.format(value)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _percent_of(metric: str) -> Callable[[Row], str]:
    return lambda row: _percent(row[metric])


def _half_widths(metrics: Sequence[str]) -> Callable[[Row], str]:
    return lambda row: " / ".join(_percent(row.get(f"{metric}_half_width")) for metric in metrics)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _scaled(count: float | None) -> str:
    if count is None:
        return "–"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def short(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as words, floats with four digits."""
    return [f"{k}={f'{v:.4g}' if isinstance(v, float) else typed(v)}" for k, v in settings.items()]
