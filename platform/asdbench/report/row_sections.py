"""Sections of a report that compare rows: scores, machine types, differences, cost."""

from collections.abc import Iterable, Sequence

import numpy as np

from asdbench.report.blocks import Block, Drawing, Figures, Section, one, percent
from asdbench.report.figures.overview import (
    CostPoint,
    ScoredRow,
    cost_and_score,
    heat_map,
    pareto_front,
    score_intervals,
    significance,
)
from asdbench.report.formatting import format_count, format_percent
from asdbench.report.interval_notes import few_seeds_note
from asdbench.report.leaderboard import has_rank
from asdbench.report.leaderboard_table import markdown_table
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Row, numeric
from asdbench.report.report_data import ReportData, is_ours


def leaderboard_section(report: ReportData) -> Iterable[Section]:
    """Yield the section on the leaderboard, with the official scores and their intervals."""
    title = f"Leaderboard of {report.data.name}{report.data.suffix(report.subset)}"
    table = markdown_table(report.rows, title, report.data.rule)
    if not report.rows:
        yield Section("leaderboard", "Leaderboard", [table.caption], [])
        return
    scored = _scored_rows(report)
    blocks: list[Block] = []
    if scored:
        words = "; ".join(f"{row.label} {percent(row.score)}{_interval(row)}" for row in scored)
        drawing = Drawing(
            "scores", "Official scores with 95 % confidence intervals", words, score_intervals(scored)
        )
        caption = (
            "Official score with its 95 % confidence interval, from a bootstrap and from what seeds vary. "
            "Open circles are systems whose settings were tuned on development labels; open diamonds are "
            "published results by the official rule, and filled ones imported results."
        )
        blocks.append(one(drawing, caption))
    yield Section("leaderboard", "Leaderboard", [], [*blocks, table])


def _interval(row: ScoredRow) -> str:
    return "" if row.low is None or row.high is None else f" ({percent(row.low)} to {percent(row.high)})"


def _scored_rows(report: ReportData) -> list[ScoredRow]:
    labels = iter(report.labels)
    scored = []
    for row in report.rows:
        elsewhere = "published" if row["reference"] else "imported" if row.get("imported") else None
        label = f"{row['system']} ({elsewhere})" if elsewhere else next(labels)
        if has_rank(row):
            kind = elsewhere or ("dev-tuned" if row["tuned"] else "measured")
            ends = row.get("official_score_low"), row.get("official_score_high")
            scored.append(ScoredRow(label, row["official_score"], *ends, kind))  # type: ignore[arg-type]
    return scored


def _key(row: Row) -> tuple[str, str, str]:
    return row["system"], str(row["settings"]), str(row["tuned"])


def machine_types_section(report: ReportData) -> Iterable[Section]:
    """Yield the section on the official score by machine type."""
    labels = dict(zip((_key(row) for row in report.rows if is_ours(row)), report.labels, strict=True))
    scores = {(_key(row), row["machine_type"]): row["official_score"] for row in report.type_rows}
    if not scores:
        return
    types = list(report.machine_types)
    values = np.array([[scores.get((key, name), np.nan) for name in types] for key in labels])
    table = DisplayTable(
        [Column("system"), *numeric(*types)],
        [
            DisplayRow([label, *(format_percent(scores.get((key, name))) for name in types)])
            for key, label in labels.items()
        ],
        "Official score by machine type",
        "In percent, mean over seeds.",
    )
    measured = [place for place in range(len(types)) if np.isfinite(values[:, place]).any()]
    hardest = types[min(measured, key=lambda place: float(np.nanmean(values[:, place])))]
    words = (
        f"Scores of {len(labels)} rows on {len(types)} machine types, from {percent(np.nanmin(values))} to "
        f"{percent(np.nanmax(values))}; the lowest on average on {hardest}."
    )
    drawing = Drawing(
        "types", "Official score by machine type", words, heat_map(list(labels.values()), types, values)
    )
    caption = "Official score in percent, mean over seeds; the best of each machine type is bold."
    yield Section("types", "Machine types", [], [one(drawing, caption, table)])


def differences_section(report: ReportData) -> Iterable[Section]:
    """Yield the section on which differences between systems are certain."""
    pairs = report.differences
    if pairs is None:
        return
    count = len(pairs.labels)
    unsure = few_seeds_note(len(report.difference_seeds))
    rows = [
        DisplayRow(
            [
                f"{pairs.labels[row]} − {pairs.labels[column]}",
                format_percent(pairs.differences[row, column], signed=True),
                f"{format_percent(pairs.low[row, column], signed=True)} to "
                f"{format_percent(pairs.high[row, column], signed=True)}",
            ],
            is_bold=bool(pairs.is_sure[row, column]),
        )
        for row in range(count)
        for column in range(row + 1, count)
    ]
    table = DisplayTable(
        [Column("pair"), *numeric("difference", "95 % interval")],
        rows,
        "Differences of the official score",
        f"In percentage points. {unsure or 'Bold: the interval excludes zero.'}",
    )
    n_pairs = count * (count - 1) // 2
    n_sure = sum(row.is_bold for row in rows)
    words = f"Differences of {n_pairs} pairs of systems; {n_sure} of them are sure."
    caption = (
        f"Official score of the row minus that of the column, in percentage points, over "
        f"{_common_seeds(report.difference_seeds)}, which all have. "
        f"{unsure.replace('bold', 'filled') or 'Filled: the 95 % interval excludes zero.'} "
        f"The intervals are not corrected for the number of "
        f"pairs."
    )
    drawing = Drawing("differences", "Differences between systems", words, significance(pairs))
    yield Section("differences", "Which differences are certain", [], [one(drawing, caption, table)])


def _common_seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def cost_section(report: ReportData) -> Iterable[Section]:
    """Yield the section on the official score over what a system costs."""
    costs = (
        ("training", "training_seconds", "training time of all machine types", None),
        ("macs", "macs_per_clip", "multiply-accumulates per clip", format_count),
    )
    drawings = []
    for name, column, quantity, tick in costs:
        points = [
            CostPoint(of.label, of.row[column], of.row["official_score"])
            for of in report.systems
            if of.row["complete"] and of.row[column]
        ]
        if points:
            front = ", ".join(point.label for point in pareto_front(points))
            figure = cost_and_score(points, quantity=quantity, tick=tick)
            title, words = f"Official score over {quantity}", f"On the Pareto front: {front}."
            drawings.append(Drawing(f"cost-{name}", title, words, figure))
    if drawings:
        caption = (
            "Official score over what a system costs, on a logarithmic scale. Filled, on the dashed Pareto "
            "front: no other system is as good for less."
        )
        yield Section("cost", "Cost and score", [], [Figures(drawings, caption)])
