"""The critical-difference diagram: average ranks of systems, and which of them no test tells apart.

Source: J. Demsar, "Statistical comparisons of classifiers over multiple data sets", Journal of Machine
Learning Research 7, 2006, figure 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asdbench.report.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABEL_LENGTH = 34  # in characters
_AXIS_IN = 3.6  # width of the axis of ranks
_CHARACTER_IN = 0.074  # width of a character of a label
_RANK_LENGTH = 9  # of a rank beside a label, with its margin, in characters
_LINE_IN = 0.2  # height of a label
_BAR_IN = 0.12  # distance of the bars of groups
_TICK_IN = 0.07
_MOST_TICKS = 10


@dataclass(frozen=True)
class RankedRow:
    """The label of a row and its average rank over machine types, from 1 for the best."""

    label: str
    average_rank: float


def critical_difference_diagram(
    rows: Sequence[RankedRow], groups: Sequence[tuple[int, int]], *, difference: float | None
) -> "Figure":
    """Draw average ranks on an axis; a bar joins the rows of a group, which the test does not tell apart.

    Parameters
    ----------
    rows
        At least two rows, the best first.
    groups
        The places of the first and last row of each group.
    difference
        The critical difference, drawn above the axis; ``None`` if there is none.
    """
    n_left = (len(rows) + 1) // 2
    scale = _Scale(_label_in(rows[:n_left]), len(rows))
    bars_in = _BAR_IN * (len(groups) + 1)
    below_in = bars_in + _LINE_IN * (n_left + 0.2)
    above_in = 0.3 if difference is None else 0.66
    width_in = scale.left_in + _AXIS_IN + _label_in(rows[n_left:])
    with style.parameters():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width_in, above_in + below_in))
        axis = figure.add_axes((0, 0, 1, 1))
        axis.set(xlim=(0, width_in), ylim=(-below_in, above_in))
        axis.set_axis_off()
        _draw_axis(axis, scale)
        for place, row in enumerate(rows):
            line = place if place < n_left else len(rows) - 1 - place
            y_in = -bars_in - _LINE_IN * (line + 0.5)
            _draw_row(axis, row, scale, y_in, is_left=place < n_left)
        for line, (first, last) in enumerate(groups, start=1):
            best, worst = rows[first].average_rank, rows[last].average_rank
            _draw_bar(axis, scale.x_in(best), scale.x_in(worst), -_BAR_IN * line)
        if difference is not None:
            _draw_difference(axis, difference, scale)
    return figure


@dataclass(frozen=True)
class _Scale:
    """Where ranks are, in inches from the left; the axis begins at ``left_in``."""

    left_in: float
    n_rows: int

    def x_in(self, rank: float) -> float:
        return self.left_in + (rank - 1) / (self.n_rows - 1) * _AXIS_IN


def _label_in(rows: Sequence[RankedRow]) -> float:
    """Return the width of the labels of some rows."""
    longest = max(len(style.shortened(row.label, _LABEL_LENGTH)) for row in rows)
    return _CHARACTER_IN * (longest + _RANK_LENGTH)


def _draw_axis(axis: "Axes", scale: _Scale) -> None:
    ink, last = style.color("ink"), scale.n_rows
    axis.plot([scale.x_in(1), scale.x_in(last)], [0, 0], color=ink, linewidth=1)
    for rank in range(1, last + 1, -(-last // _MOST_TICKS)):
        x_in = scale.x_in(rank)
        axis.plot([x_in, x_in], [0, _TICK_IN], color=ink, linewidth=1)
        axis.text(x_in, 1.4 * _TICK_IN, str(rank), horizontalalignment="center", verticalalignment="bottom")


def _draw_row(axis: "Axes", row: RankedRow, scale: _Scale, y_in: float, *, is_left: bool) -> None:
    x_in = scale.x_in(row.average_rank)
    end_in = scale.x_in(1) - 0.08 if is_left else scale.x_in(scale.n_rows) + 0.08
    axis.plot([x_in, x_in, end_in], [0, y_in, y_in], color=style.color("muted"), linewidth=0.8, zorder=1)
    axis.plot(x_in, 0, color=style.color("series-1"), marker="o", markersize=4.5, zorder=3)
    label, rank = style.shortened(row.label, _LABEL_LENGTH), f"{row.average_rank:.2f}"
    axis.text(
        end_in - 0.05 if is_left else end_in + 0.05,
        y_in,
        f"{label}  {rank}" if is_left else f"{rank}  {label}",
        horizontalalignment="right" if is_left else "left",
        verticalalignment="center",
    )


def _draw_bar(axis: "Axes", first_in: float, last_in: float, y_in: float) -> None:
    axis.plot(
        [first_in - 0.04, last_in + 0.04],
        [y_in, y_in],
        color=style.color("series-1"),
        linewidth=3.2,
        solid_capstyle="butt",
        zorder=2,
    )


def _draw_difference(axis: "Axes", difference: float, scale: _Scale) -> None:
    """Draw the critical difference, which may be longer than the axis."""
    shown = min(difference, scale.n_rows - 1)
    y_in, ends_in, ink = 0.38, (scale.x_in(1), scale.x_in(1 + shown)), style.color("ink")
    axis.plot(ends_in, [y_in, y_in], color=ink, linewidth=1.4)
    for x_in in ends_in:
        axis.plot([x_in, x_in], [y_in - 0.04, y_in + 0.04], color=ink, linewidth=1.4)
    beyond = ", longer than the axis" if difference > shown else ""
    axis.text(
        sum(ends_in) / 2,
        y_in + 0.07,
        f"critical difference {difference:.2f}{beyond}",
        horizontalalignment="center",
        verticalalignment="bottom",
    )
