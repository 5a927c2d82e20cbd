"""Tables of search results: scores in percent, with the scores on machine types that a search did not see."""

from collections.abc import Mapping, Sequence
from typing import Any

from asdbench.engine.search_record import FusionReport
from asdbench.report.formatting import format_percent, format_settings
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, numeric


def fusion_table(ensemble: str, report: FusionReport) -> DisplayTable:
    """Return the fusion weights found for an ensemble, with the scores of these and of equal weights.

    ``report`` is that of a stored fusion search.
    """
    members = report.members
    rows = [
        _fusion_row("equal", [1 / len(members)] * len(members), report.equal_weights),
        _fusion_row("found", report.weights, report.score),
    ]
    for index, (machine_type, result) in enumerate(report.left_out.items()):
        name = f"without {machine_type}"
        rows.append(_fusion_row(name, result.weights, result.score, begins_section=index == 0))
    if report.left_out:
        score = format_percent(report.leave_one_type_out)
        rows.append(DisplayRow(["left out, all", *[""] * len(members), score]))
    return DisplayTable(
        [Column(""), *numeric(*members, "official score")],
        rows,
        f"Weights of {ensemble} ({' '.join(format_settings(report.choices))})",
        "Official scores in percent. Without: the score on a machine type with the weights found without it.",
    )


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
