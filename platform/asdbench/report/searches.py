"""Tables of search results: scores in percent, with the scores on machine types that a search did not see."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asdbench.engine.search_record import FusionReport, LeftOutReport
from asdbench.report.formatting import MISSING, format_amount, format_percent, format_settings, format_trials
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
            f"so what lasts on an unseen one; with {_listed(report.nested.seeds)}."
        )
    if report.chosen_on_labels and (report.left_out or report.nested is not None):
        sentences.append(
            f"No machine type is unseen to {', '.join(report.chosen_on_labels)}, whose authors looked at the "
            f"labels of this data set."
        )
    return " ".join([*sentences, *([report.without_estimate] if report.without_estimate else [])])


def _cost(report: FusionReport) -> str:
    """Return how much searching chose the weights and the settings of the members."""
    weights = f"{format_amount(report.weight_vectors, 'weight vector')} evaluated"
    trials = format_trials(report.member_trials)
    return f"{weights}; members tuned in {trials}" if report.member_trials else weights


def _equal(report: FusionReport) -> list[float]:
    return [1 / len(report.members)] * len(report.members)


@dataclass(frozen=True)
class FreshRow:
    """Settings with their score in a search and their scores with fresh seeds.

    Attributes
    ----------
    role : what they are to the search, such as ``"runner-up"``
    changed : the settings that differ from the untuned system's
    score : official score in the search, as a fraction; ``None`` if its trial is not complete
    scores : official score with each fresh seed; empty if they are not known
    """

    role: str
    changed: Mapping[str, Any]
    score: float | None
    scores: Sequence[float]


def fresh_table(
    title: str,
    rows: Sequence[FreshRow],
    *,
    seeds: Sequence[int],
    searched_seeds: Sequence[int],
    is_surpassed: bool,
) -> DisplayTable:
    """Return the scores of a search's best settings next to their scores with fresh seeds.

    Parameters
    ----------
    title : heading of the table
    rows : the settings, those that the search chose first
    seeds, searched_seeds : the fresh seeds, and those that the search saw
    is_surpassed : whether others than the chosen settings have the highest score with fresh seeds
    """
    caption = (
        f"Official scores in percent. In the search: with {_listed(searched_seeds)}. Fresh seeds: the mean "
        f"with {_listed(seeds)}, which the leaderboard shows; ± is the standard deviation over seeds."
    )
    if is_surpassed:
        caption += (
            " A runner-up is higher with the fresh seeds; it is not chosen by them, since a choice by these "
            "scores would make them lucky again."
        )
    display_rows = [
        DisplayRow(
            [
                row.role,
                " ".join(format_settings(row.changed)) or "unchanged",
                format_percent(row.score),
                _mean_and_spread(row.scores),
            ]
        )
        for row in rows
    ]
    columns = [Column(""), Column("settings"), *numeric("in the search", "fresh seeds")]
    return DisplayTable(columns, display_rows, title, caption)


def _listed(seeds: Sequence[int]) -> str:
    """Return seeds as text, such as ``seeds 1, 2``."""
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def _mean_and_spread(scores: Sequence[float]) -> str:
    if not scores:
        return MISSING
    spread = f" ± {format_percent(statistics.stdev(scores))}" if len(scores) > 1 else ""
    return format_percent(statistics.fmean(scores)) + spread


def left_out_table(
    title: str,
    rows: Sequence[tuple[str, float, float, Mapping[str, Any]]],
    *,
    untuned: float,
    tuned: float,
    seeds: Sequence[int],
) -> DisplayTable:
    """Return how much tuning improves the score on machine types that the search did not see.

    A row is a machine type that was left out, its official score untuned and tuned, and the settings found
    without it; ``untuned`` and ``tuned`` are the official scores over all of them, means over ``seeds``.
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
        f"Official score in percent on the machine type that was not used to choose the settings, with "
        f"{_listed(seeds)}.",
    )


def _fusion_row(
    name: str, weights: Sequence[float], score: float, *, begins_section: bool = False
) -> DisplayRow:
    cells = [name, *(f"{weight:.3f}" for weight in weights), format_percent(score)]
    return DisplayRow(cells, begins_section=begins_section)
