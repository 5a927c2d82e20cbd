"""Tables of search results: scores in percent, with the scores on machine types that a search did not see."""

from collections.abc import Mapping, Sequence
from typing import Any

from asdbench.engine.search_record import FusionReport, LeftOutReport
from asdbench.report.formatting import format_amount, format_percent, format_settings, format_trials
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, numeric


def fusion_table(ensemble: str, report: FusionReport) -> DisplayTable:
    """Return the fusion weights found for an ensemble, with the scores that they compare with.

    ``report`` is that of a stored fusion search. Equal weights and machine types left out are shown where
    neither weights nor the settings of members were chosen with labels that count in the score.
    """
    rows = [_fusion_row("found", report.weights, report.score)]
    if report.equal_weights is not None:
        rows.insert(0, _fusion_row("equal", _equal(report), report.equal_weights))
    rows += _left_out_rows(report, report.left_out, report.leave_one_type_out)
    if report.nested is not None:
        nested = report.nested
        rows += _left_out_rows(report, nested.left_out, nested.score, tuned=", tuned too")
        rows.append(_fusion_row("equal, left out, all, tuned too", _equal(report), nested.equal_weights))
    return DisplayTable(
        [Column(""), *numeric(*report.members, "official score")],
        rows,
        f"Weights of {ensemble} ({' '.join(format_settings(report.choices))})",
        _fusion_caption(report),
    )


def _left_out_rows(
    report: FusionReport, left_out: Mapping[str, LeftOutReport], score: float | None, *, tuned: str = ""
) -> list[DisplayRow]:
    """Return a row for each machine type that was left out, and one for all of them; none without any."""
    rows = [
        _fusion_row(f"without {name}{tuned}", result.weights, result.score, begins_section=index == 0)
        for index, (name, result) in enumerate(left_out.items())
    ]
    overall = [f"left out, all{tuned}", *[""] * len(report.members), format_percent(score)]
    return [*rows, DisplayRow(overall)] if rows else []


def _fusion_caption(report: FusionReport) -> str:
    sentences = ["Official scores in percent.", f"{_cost(report)}."]
    if report.left_out:
        sentences.append("Without: the score on a machine type with the weights found without it.")
    if report.nested is not None:
        sentences.append(
            "Without, tuned too: score on a machine type with members tuned and weights found without it, "
            "so what lasts on an unseen one."
        )
    return " ".join([*sentences, *([report.without_estimate] if report.without_estimate else [])])


def _cost(report: FusionReport) -> str:
    """Return how much searching chose the weights and the settings of the members."""
    weights = f"{format_amount(report.weight_vectors, 'weight vector')} evaluated"
    trials = format_trials(report.member_trials)
    return f"{weights}; members tuned in {trials}" if report.member_trials else weights


def _equal(report: FusionReport) -> list[float]:
    return [1 / len(report.members)] * len(report.members)


def left_out_table(
    title: str,
    rows: Sequence[tuple[str, float, float, Mapping[str, Any]]],
    *,
    untuned: float,
    tuned: float,
) -> DisplayTable:
    """Return how much tuning improves the score on machine types that the search did not see.

    A row is a machine type that was left out, its official score untuned and tuned, and the settings found
    without it; ``untuned`` and ``tuned`` are the official scores over all of them.
    """
    display_rows = [
        DisplayRow(
            [
                machine_type,
                format_percent(before),
                format_percent(after),
                " ".join(format_settings(changed)) or "unchanged",
            ]
        )
        for machine_type, before, after, changed in rows
    ]
    overall = ["all", format_percent(untuned), format_percent(tuned), ""]
    return DisplayTable(
        [Column("machine type left out"), *numeric("untuned", "tuned"), Column("settings found")],
        [*display_rows, DisplayRow(overall, begins_section=True)],
        title,
        "Official score in percent on the machine type that was not used to choose the settings.",
    )


def _fusion_row(
    name: str, weights: Sequence[float], score: float, *, begins_section: bool = False
) -> DisplayRow:
    cells = [name, *(f"{weight:.3f}" for weight in weights), format_percent(score)]
    return DisplayRow(cells, begins_section=begins_section)
