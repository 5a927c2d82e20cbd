"""The sections of a report: text, tables and figures, from what `asdbench.report.report_data` collects.

Conventions: a section without content is left out. Every figure says in words what it shows, and comes with
a table of its values where these are few.
"""

from collections.abc import Iterable
from functools import partial

import numpy as np

from asdbench.report.blocks import Block, Drawing, Figures, Section, one, percent, slug
from asdbench.report.clip_sections import embeddings_section, errors_section, histograms_section, roc_section
from asdbench.report.figures.searches import TrialPoint, parameter_importances, search_history
from asdbench.report.figures.training import learning_curves
from asdbench.report.formatting import format_trials
from asdbench.report.report_data import ReportData, SearchSummary
from asdbench.report.row_figures import loss_curves
from asdbench.report.row_sections import (
    cost_section,
    differences_section,
    leaderboard_section,
    machine_types_section,
)


def sections(report: ReportData) -> list[Section]:
    """Return the sections of a report; those without content are left out."""
    builders = (
        leaderboard_section,
        machine_types_section,
        differences_section,
        roc_section,
        histograms_section,
        cost_section,
        errors_section,
        embeddings_section,
        _training,
        _searches,
    )
    return [section for build in builders for section in build(report)]


def _training(report: ReportData) -> Iterable[Section]:
    blocks: list[Block] = []
    shown: set[str] = set()
    for of in report.systems:
        trained = {name: str(record.description) for (name, _, _), record in of.trainings.items()}
        for name, curves in loss_curves(of.trainings).items():
            heading = name if name == of.row["system"] else f"{name} (of {of.label})"
            if trained[name] in shown:
                continue
            shown.add(trained[name])
            drawings = [
                Drawing(
                    slug("training", str(len(blocks)), str(index)),
                    f"{loss} of {name}",
                    f"{len(lines)} trainings; the mean goes from "
                    f"{np.mean([line.values[0] for line in lines]):.3g} to "
                    f"{np.mean([line.values[-1] for line in lines]):.3g}.",
                    learning_curves({loss: lines}),
                )
                for index, (loss, lines) in enumerate(curves.items())
            ]
            caption = f"Losses and monitors of {name} over the epochs, a line for each machine type and seed."
            blocks.append(
                Figures(
                    drawings, caption, partial(learning_curves, curves), heading=heading, is_open=not blocks
                )
            )
    if blocks:
        yield Section("training", "Learning curves", [], blocks)


def _searches(report: ReportData) -> Iterable[Section]:
    blocks: list[Block] = []
    for place, search in enumerate(report.searches):
        blocks += _search(place, search)
    if blocks:
        text = (
            "Searches choose settings by the labels of development clips. Their scores are optimistic, "
            "and the leaderboard marks what they chose as dev-tuned."
        )
        yield Section("searches", "Searches", [text], blocks)


def _search(place: int, search: SearchSummary) -> list[Block]:
    record = search.record
    trials = [
        TrialPoint(trial.number, trial.rungs[-1], trial.state == "complete")
        for trial in record.trials
        if trial.rungs and trial.state in ("complete", "pruned")
    ]
    if not trials:
        return []
    name = record.system + (f" without {record.held_out}" if record.held_out else "")
    best = max((t for t in trials if t.is_complete), key=lambda t: (t.score, -t.number), default=None)
    words = f"{format_trials(len(trials))}" + (
        f"; the best is trial {best.number} with {percent(best.score)}." if best else "; none is complete."
    )
    blocks: list[Block] = [
        one(
            Drawing(f"search-{place}", f"Search of {name}", words, search_history(trials)),
            f"Search of {name}, {format_trials(record.trials_done)}, protocol {record.protocol}. Trial 0 is "
            f"the untuned system. A pruned trial is at its score over the machine types that it reached.",
        )
    ]
    if search.importances:
        shares = "; ".join(f"{key} {percent(value)}" for key, value in search.importances.items())
        drawing = Drawing(
            f"importances-{place}",
            f"Importance of the parameters of {name}",
            shares,
            parameter_importances(search.importances),
        )
        caption = (
            f"Share of the variance of the score of {name} that each parameter explains (functional ANOVA "
            f"over the complete trials). Few trials make it a rough estimate."
        )
        blocks.append(one(drawing, caption))
    return blocks
