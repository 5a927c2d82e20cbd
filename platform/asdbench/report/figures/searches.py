"""Figures of searches: the scores of trials, and how much each parameter matters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asdbench.report.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TrialPoint:
    """A trial that has ended.

    Attributes
    ----------
    number : its number; 0 is the untuned system
    score : its official score, a fraction; of a pruned trial over the machine types that it reached
    is_complete : whether it was judged on all machine types
    """

    number: int
    score: float
    is_complete: bool


def search_history(trials: Sequence[TrialPoint]) -> "Figure":
    """Draw the score of each trial, and the best complete one so far as a line, in percent."""
    with style.parameters():
        figure, (axis,) = style.panels(1, width_in=4.4, height_in=2.6)
        for is_complete, label in ((True, "complete"), (False, "pruned")):
            shown = [trial for trial in trials if trial.is_complete == is_complete]
            axis.plot(
                [trial.number for trial in shown],
                [100 * trial.score for trial in shown],
                linestyle="none",
                marker="o" if is_complete else "x",
                markersize=4,
                color=style.color("series-1" if is_complete else "muted"),
                label=label if shown else None,
            )
        best, numbers, line = 0.0, [], []
        for trial in sorted(trials, key=lambda trial: trial.number):
            if trial.is_complete:
                best = max(best, trial.score)
                numbers.append(trial.number)
                line.append(100 * best)
        axis.step(
            numbers, line, where="post", color=style.color("series-2"), linewidth=1.4, label="best so far"
        )
        axis.set(xlabel="trial", ylabel="official score (%)")
        axis.locator_params(axis="x", integer=True)
        axis.grid(axis="y")
        axis.legend(loc="lower right")
    return figure


def parameter_importances(importances: Mapping[str, float]) -> "Figure":
    """Draw the share of the scores' variance that each parameter explains, the largest first."""
    ranked = sorted(importances.items(), key=lambda item: (-item[1], item[0]))
    with style.parameters():
        figure = style.new_figure(4.4, 0.7 + 0.22 * len(ranked))
        axis = figure.subplots()
        axis.barh(
            range(len(ranked)), [value for _, value in ranked], color=style.color("series-1"), height=0.62
        )
        for place, (_, value) in enumerate(ranked):
            axis.text(value, place, f" {100 * value:.0f} %", verticalalignment="center", fontsize=7.5)
        axis.set_yticks(range(len(ranked)), [name for name, _ in ranked])
        axis.tick_params(axis="y", length=0, labelcolor=style.color("ink"))
        axis.set(xlabel="importance", xlim=(0, 1.12 * max(value for _, value in ranked) or 1.0), xticks=[])
        axis.set_ylim(len(ranked) - 0.5, -0.5)
        for side in ("left", "bottom"):
            axis.spines[side].set_visible(False)
    return figure
