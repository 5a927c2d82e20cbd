"""Figures that compare systems: scores with intervals, scores by machine type, differences, cost.

Source: the Pareto front is that of V. Pareto, "Manuale di economia politica", 1906: the systems that no other
one beats in both score and cost.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from asdbench.metrics.roc import BoolArray, FloatArray
from asdbench.report.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABEL_LENGTH = 28  # of a matrix, and of two columns of a legend, in characters
_CHARACTER_IN = 0.068  # width of a character of a label
_SLANT_DEGREES = 40.0  # of the labels of columns
_MINUTE, _HOUR = 60, 3600
_ROUND_TIMES_S: Sequence[float] = (1, 10, _MINUTE, 10 * _MINUTE, _HOUR, 10 * _HOUR, 100 * _HOUR, 1000 * _HOUR)
_FINE_TIMES_S: Sequence[float] = tuple(
    step * unit
    for unit, steps in (
        (1, (1, 2, 5, 10, 20, 30)),
        (_MINUTE, (1, 2, 5, 10, 20, 30)),
        (_HOUR, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
    )
    for step in steps
)


@dataclass(frozen=True)
class ScoredRow:
    """A row of the leaderboard, with the interval of its score where there is one.

    Attributes
    ----------
    label : its name
    score, low, high : fractions
    kind : ``"published"`` results are drawn as open diamonds, ``"imported"`` ones as filled diamonds,
        ``"dev-tuned"`` rows as open circles
    """

    label: str
    score: float
    low: float | None = None
    high: float | None = None
    kind: Literal["measured", "dev-tuned", "published", "imported"] = "measured"


def score_intervals(rows: Sequence[ScoredRow]) -> "Figure":
    """Draw the official score of each row with its 95 % confidence interval, in percent."""
    markers = {"measured": "o", "dev-tuned": "o", "published": "D", "imported": "D"}
    with style.parameters():
        figure = style.new_figure(4.6, 0.75 + 0.27 * len(rows))
        axis = figure.subplots()
        for place, row in enumerate(rows):
            color = style.color("muted" if row.kind in ("published", "imported") else "series-1")
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
                markerfacecolor=color if row.kind in ("measured", "imported") else style.color("surface"),
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
        figure, axis = _matrix(rows, columns, cell_in=(0.52, 0.3))
        best = [np.nanmax(column) if np.isfinite(column).any() else np.nan for column in values.T]
        for row, of_row in enumerate(values):
            for column, value in enumerate(of_row):
                _cell(axis, column, row, 100 * value, (low, high), is_bold=bool(value == best[column]))
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


def _matrix(
    rows: Sequence[str], columns: Sequence[str], *, cell_in: tuple[float, float]
) -> tuple["Figure", "Axes"]:
    """Return a figure of cells of the given width and height, with its labels, which are shortened."""
    from matplotlib.figure import Figure

    rows = [style.shortened(label, _LABEL_LENGTH) for label in rows]
    columns = [style.shortened(label, _LABEL_LENGTH) for label in columns]
    left, slanted = (0.15 + _CHARACTER_IN * max(map(len, labels)) for labels in (rows, columns))
    top = 0.1 + slanted * math.sin(math.radians(_SLANT_DEGREES))
    right = slanted * math.cos(math.radians(_SLANT_DEGREES)) - cell_in[0] / 2
    size = cell_in[0] * len(columns), cell_in[1] * len(rows)
    width, height = left + size[0] + max(right, 0.05), top + size[1] + 0.05
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((left / width, 0.05 / height, size[0] / width, size[1] / height))
    _matrix_axes(axis, rows, columns)
    return figure, axis


def _matrix_axes(axis: "Axes", rows: Sequence[str], columns: Sequence[str]) -> None:
    axis.set_yticks(range(len(rows)), rows)
    axis.set_xticks(
        range(len(columns)),
        columns,
        rotation=_SLANT_DEGREES,
        horizontalalignment="left",
        rotation_mode="anchor",
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
    is_sure : shape (system, system), whether the interval excludes zero and there are enough seeds
    """

    labels: Sequence[str]
    differences: FloatArray
    low: FloatArray
    high: FloatArray
    is_sure: BoolArray


def significance(pairs: Differences) -> "Figure":
    """Draw the difference of each pair of systems; a filled cell is a sure difference."""
    from matplotlib.patches import Rectangle

    n_systems = len(pairs.labels)
    largest = max(float(np.abs(pairs.differences).max()), 1e-9)
    with style.parameters():
        figure, axis = _matrix(pairs.labels, pairs.labels, cell_in=(0.62, 0.34))
        for row in range(n_systems):
            for column in range(n_systems):
                if row == column:
                    continue
                value = pairs.differences[row, column]
                is_filled = bool(pairs.is_sure[row, column])
                axis.add_patch(
                    Rectangle(
                        (column - 0.48, row - 0.46), 0.96, 0.92, fill=False, edgecolor=style.color("grid")
                    )
                )
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


def round_times(low_s: float, high_s: float) -> list[float]:
    """Return the times between two that a logarithmic axis names, such as 10 s, 1 min and 10 min.

    >>> round_times(4, 700), round_times(70, 500)
    ([10, 60, 600], [120, 300])
    """
    few, many = (
        [time for time in times if low_s <= time <= high_s] for times in (_ROUND_TIMES_S, _FINE_TIMES_S)
    )
    return few if len(few) > 1 else many


def _time_tick(seconds: float) -> str:
    for name, unit in (("h", _HOUR), ("min", _MINUTE)):
        if seconds >= unit:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"


def _logarithmic(axis: "Axes", costs: Sequence[float], tick: Callable[[float], str] | None) -> None:
    """Scale the horizontal axis; its ticks, at 1, 2 and 5 times a power of ten, are written by ``tick``.

    Without ``tick`` the costs are seconds.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    limits = min(costs) / 2, 2 * max(costs)
    axis.set(xscale="log", xlim=limits)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if tick else FixedLocator(round_times(*limits)))
    axis.xaxis.set_minor_locator(NullLocator())
    tick = tick or _time_tick
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))


def cost_and_score(
    points: Sequence[CostPoint], *, quantity: str, tick: Callable[[float], str] | None
) -> "Figure":
    """Draw the official score over a cost, on a logarithmic axis, with the Pareto front as steps.

    ``tick`` writes a cost; without it costs are times in seconds.
    """
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
        _logarithmic(axis, [point.cost for point in points], tick)
        axis.set(xlabel=quantity, ylabel="official score (%)")
        axis.margins(0.1)
        axis.grid()
        is_short = max(len(point.label) for point in points) <= _LABEL_LENGTH
        figure.legend(loc="outside upper left", ncols=2 if is_short else 1, handletextpad=0.2)
    return figure
