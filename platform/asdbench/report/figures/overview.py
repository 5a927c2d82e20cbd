"""Figures that compare systems: scores with intervals, scores by machine type, differences, cost.

Source: the Pareto front is that of V. Pareto, "Manuale di economia politica", 1906: the systems that no other
one beats in both score and cost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from asdbench.metrics.roc import FloatArray
from asdbench.report.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ScoredRow:
    """A row of the leaderboard, with the interval of its score where there is one.

    Attributes
    ----------
    label : its name
    score, low, high : fractions
    kind : ``"published"`` results are drawn as open diamonds, ``"dev-tuned"`` rows as open circles
    """

    label: str
    score: float
    low: float | None = None
    high: float | None = None
    kind: Literal["measured", "dev-tuned", "published"] = "measured"


def score_intervals(rows: Sequence[ScoredRow]) -> "Figure":
    """Draw the official score of each row with its 95 % confidence interval, in percent."""
    markers = {"measured": "o", "dev-tuned": "o", "published": "D"}
    with style.parameters():
        figure = style.new_figure(4.8, 0.75 + 0.27 * len(rows))
        axis = figure.subplots()
        for place, row in enumerate(rows):
            color = style.color("muted" if row.kind == "published" else "series-1")
            if row.low is not None and row.high is not None:
                axis.plot(
                    [100 * row.low, 100 * row.high], [place, place], color=color, linewidth=2.2, alpha=0.55
                )
            axis.plot(
                100 * row.score,
                place,
                color=color,
                marker=markers[row.kind],
                markersize=6,
                markerfacecolor=color if row.kind == "measured" else style.color("surface"),
                markeredgewidth=1.4,
            )
        axis.set_yticks(range(len(rows)), [row.label for row in rows])
        axis.tick_params(axis="y", length=0, labelcolor=style.color("ink"))
        axis.set(xlabel="official score (%)", ylim=(len(rows) - 0.5, -0.5))
        axis.grid(axis="x")
        axis.spines["left"].set_visible(False)
    return figure


def heat_map(rows: Sequence[str], columns: Sequence[str], values: FloatArray) -> "Figure":
    """Draw a value of each row and column, such as the score of a system on a machine type, in percent.

    Parameters
    ----------
    rows, columns
        Their names.
    values
        Shape (row, column), fractions; NaN where there is none. The best of a column is bold.
    """
    shown = 100 * values[np.isfinite(values)]
    low, high = (float(shown.min()), float(shown.max())) if shown.size else (0.0, 1.0)
    with style.parameters():
        figure = style.new_figure(1.5 + 0.52 * len(columns), 0.85 + 0.3 * len(rows))
        axis = figure.subplots()
        best = [np.nanmax(column) if np.isfinite(column).any() else np.nan for column in values.T]
        for row, of_row in enumerate(values):
            for column, value in enumerate(of_row):
                _cell(axis, column, row, 100 * value, (low, high), is_bold=bool(value == best[column]))
        _matrix_axes(axis, rows, columns)
    return figure


def _cell(
    axis: "Axes", column: int, row: int, value: float, limits: tuple[float, float], *, is_bold: bool
) -> None:
    from matplotlib.patches import Rectangle

    if not np.isfinite(value):
        axis.text(column, row, "–", horizontalalignment="center", verticalalignment="center")
        return
    share = (value - limits[0]) / ((limits[1] - limits[0]) or 1.0)
    axis.add_patch(
        Rectangle(
            (column - 0.48, row - 0.46),
            0.96,
            0.92,
            facecolor=style.color("positive"),
            alpha=0.06 + 0.5 * share,
            linewidth=0,
        )
    )
    axis.text(
        column,
        row,
        f"{value:.1f}",
        horizontalalignment="center",
        verticalalignment="center",
        fontweight="bold" if is_bold else "normal",
        fontsize=8,
    )


def _matrix_axes(axis: "Axes", rows: Sequence[str], columns: Sequence[str]) -> None:
    axis.set_yticks(range(len(rows)), rows)
    axis.set_xticks(
        range(len(columns)), columns, rotation=40, horizontalalignment="left", rotation_mode="anchor"
    )
    axis.xaxis.tick_top()
    axis.tick_params(length=0, labelcolor=style.color("ink"))
    axis.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    for spine in axis.spines.values():
        spine.set_visible(False)


@dataclass(frozen=True, eq=False)
class Differences:
    """Differences of the official scores of all pairs of systems, row minus column, with their intervals.

    Attributes
    ----------
    labels : names of the systems
    differences, low, high : shape (system, system), fractions
    """

    labels: Sequence[str]
    differences: FloatArray
    low: FloatArray
    high: FloatArray

    def is_significant(self, row: int, column: int) -> bool:
        """Whether the interval of the difference excludes zero."""
        return bool(self.low[row, column] > 0 or self.high[row, column] < 0)


def significance(pairs: Differences) -> "Figure":
    """Draw the difference of each pair of systems; a filled cell is one whose interval excludes zero."""
    from matplotlib.patches import Rectangle

    n_systems = len(pairs.labels)
    largest = max(float(np.abs(pairs.differences).max()), 1e-9)
    with style.parameters():
        figure = style.new_figure(1.5 + 0.62 * n_systems, 1.1 + 0.34 * n_systems)
        axis = figure.subplots()
        for row in range(n_systems):
            for column in range(n_systems):
                if row == column:
                    continue
                value = pairs.differences[row, column]
                is_filled = pairs.is_significant(row, column)
                if is_filled:
                    axis.add_patch(
                        Rectangle(
                            (column - 0.48, row - 0.46),
                            0.96,
                            0.92,
                            facecolor=style.color("positive" if value > 0 else "negative"),
                            alpha=0.15 + 0.4 * abs(value) / largest,
                            linewidth=0,
                        )
                    )
                axis.text(
                    column,
                    row,
                    f"{100 * value:+.1f}".replace("-", "−"),
                    horizontalalignment="center",
                    verticalalignment="center",
                    fontsize=8,
                    fontweight="bold" if is_filled else "normal",
                    color=style.color("ink" if is_filled else "muted"),
                )
        _matrix_axes(axis, pairs.labels, pairs.labels)
    return figure


@dataclass(frozen=True)
class CostPoint:
    """What a system costs, in the unit of the axis, and its official score, a fraction."""

    label: str
    cost: float
    score: float


def pareto_front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """Return the points that no other one beats in cost or score without being worse in the other.

    Examples
    --------
    >>> points = [CostPoint("a", 1, 0.5), CostPoint("b", 2, 0.4), CostPoint("c", 3, 0.9)]
    >>> [point.label for point in pareto_front(points)]
    ['a', 'c']
    """
    front: list[CostPoint] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.score)):
        if not front or point.score > front[-1].score:
            front.append(point)
    return front


def _logarithmic(axis: "Axes", tick: Callable[[float], str]) -> None:
    """Scale the horizontal axis; its ticks, at 1, 2 and 5 times a power of ten, are written by ``tick``."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))


def cost_and_score(points: Sequence[CostPoint], *, quantity: str, tick: Callable[[float], str]) -> "Figure":
    """Draw the official score over a cost, on a logarithmic axis, with the Pareto front as steps."""
    front = pareto_front(points)
    with style.parameters():
        figure = style.new_figure(4.4, 3.0)
        axis = figure.subplots()
        ends = max(point.cost for point in points)
        axis.step(
            [*(point.cost for point in front), ends],
            [*(100 * point.score for point in front), 100 * front[-1].score],
            where="post",
            color=style.color("muted"),
            linewidth=1,
            linestyle=(0, (4, 2)),
            zorder=1,
        )
        for place, point in enumerate(points):
            axis.plot(
                point.cost,
                100 * point.score,
                marker=style.MARKERS[place % len(style.MARKERS)],
                color=style.series_color(place),
                markersize=7,
                linestyle="none",
                markerfacecolor=style.series_color(place) if point in front else style.color("surface"),
                markeredgewidth=1.4,
                label=point.label,
            )
        _logarithmic(axis, tick)
        axis.set(xlabel=quantity, ylabel="official score (%)")
        axis.margins(0.1)
        axis.grid()
        figure.legend(loc="outside upper left", ncols=2, handletextpad=0.2)
    return figure
