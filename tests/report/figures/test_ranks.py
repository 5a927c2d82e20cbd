"""The critical-difference diagram, as it is drawn."""

import pytest

from asdbench.report.figures import style
from asdbench.report.figures.ranks import RankedRow, critical_difference_diagram

ROWS = [RankedRow("a", 1.2), RankedRow("b", 2.0), RankedRow("c", 2.8)]


def test_each_row_has_a_mark_and_each_group_a_bar() -> None:
    axis = critical_difference_diagram(ROWS, [(0, 1), (1, 2)], difference=1.5).axes[0]
    marks = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o"]
    assert marks[1] - marks[0] == pytest.approx(marks[2] - marks[1])
    bars = [line.get_xdata() for line in axis.lines if line.get_color() == style.color("series-1")]
    bars = [ends for ends in bars if len(ends) == 2]
    assert [ends[0] for ends in bars] == pytest.approx([marks[0] - 0.04, marks[1] - 0.04])
    assert [ends[1] for ends in bars] == pytest.approx([marks[1] + 0.04, marks[2] + 0.04])
    texts = [text.get_text() for text in axis.texts]
    assert texts == ["1", "2", "3", "a  1.20", "b  2.00", "2.80  c", "critical difference 1.50"]


def test_nothing_is_cut_off_at_the_margins() -> None:
    label = "#12 multitask-combined@tuned,backend=mahalanobis"
    long = [RankedRow(label, 1.0), RankedRow("b", 2.0), RankedRow(label, 3.0)]
    for rows in (ROWS, long):
        figure = critical_difference_diagram(rows, [(0, 2)], difference=5.0)
        figure.canvas.draw()
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
        width, height = figure.canvas.get_width_height()  # type: ignore[attr-defined]
        assert min(box.x0 for box in boxes) >= 0
        assert max(box.x1 for box in boxes) <= width
        assert max(box.y1 for box in boxes) <= height
        assert min(box.y0 for box in boxes) >= 0
    assert figure.axes[0].texts[-1].get_text() == "critical difference 5.00, longer than the axis"
