"""Leaderboard rows as a table for people, CSV, JSON or Markdown."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from asdbench.config import assignments, typed
from asdbench.errors import unknown_name
from asdbench.metrics import OFFICIAL, Rule
from asdbench.metrics.threshold import binomial_interval
from asdbench.report.leaderboard import Row

Format = Literal["table", "csv", "json", "markdown"]


_METRICS = {  # every metric that a rule may have, with its name for people
    "auc": "AUC",
    "auc_source": "AUC source",
    "auc_target": "AUC target",
    "pauc": "pAUC",
    "pauc_source": "pAUC source",
    "pauc_target": "pAUC target",
}


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
