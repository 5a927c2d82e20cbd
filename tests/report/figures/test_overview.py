"""Figures that compare systems, as they are drawn."""

import numpy as np
import pytest

from asdbench.report.figures import style
from asdbench.report.figures.overview import (
    CostPoint,
    Differences,
    ScoredRow,
    cost_and_score,
    heat_map,
    pareto_front,
    score_intervals,
    significance,
)


def test_scores_have_their_intervals_and_kinds() -> None:
    rows = [
        ScoredRow("a", 0.7, 0.6, 0.75),
        ScoredRow("b", 0.6, kind="published"),
        ScoredRow("c", 0.5, 0.4, 0.6),
    ]
    axis = score_intervals(rows).axes[0]
    interval, dot, diamond = axis.lines[:3]
    assert interval.get_xdata().tolist() == [60.0, 75.0]
    assert (dot.get_xdata()[0], dot.get_marker()) == (70.0, "o")
    assert (diamond.get_marker(), diamond.get_markerfacecolor()) == ("D", style.color("surface"))
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "c"]


def test_a_heat_map_marks_the_best_of_a_column() -> None:
    axis = heat_map(["a", "b"], ["fan", "valve"], np.array([[0.7, np.nan], [0.5, 0.6]])).axes[0]
    cells = {text.get_text(): text.get_fontweight() for text in axis.texts}
    assert cells == {"70.0": "bold", "–": "normal", "50.0": "normal", "60.0": "bold"}
    assert max(patch.get_alpha() for patch in axis.patches) == axis.patches[0].get_alpha()


def test_only_certain_differences_are_filled() -> None:
    differences = np.array([[0.0, 0.2, 0.01], [-0.2, 0.0, -0.19], [-0.01, 0.19, 0.0]])
    pairs = Differences(
        ["a", "b", "c"], differences, differences - 0.05, differences + 0.05, abs(differences) > 0.05
    )
    axis = significance(pairs).axes[0]
    assert len([patch for patch in axis.patches if patch.get_fill()]) == 4
    assert len([patch for patch in axis.patches if not patch.get_fill()]) == 6  # all cells have a border
    assert {text.get_text(): text.get_fontweight() for text in axis.texts}["+1.0"] == "normal"
    assert {text.get_text() for text in axis.texts} >= {"+20.0", "−20.0"}


def test_the_pareto_front_is_what_nothing_beats() -> None:
    points = [
        CostPoint("dear", 9, 0.9),
        CostPoint("worse", 2, 0.5),
        CostPoint("cheap", 1, 0.6),
        CostPoint("tie", 1, 0.4),
    ]
    assert [point.label for point in pareto_front(points)] == ["cheap", "dear"]
    axis = cost_and_score(points, quantity="time", tick=lambda value: f"{value:g} h").axes[0]
    filled = [
        line.get_label() for line in axis.lines[1:] if line.get_markerfacecolor() != style.color("surface")
    ]
    assert filled == ["dear", "cheap"]
    assert axis.xaxis.get_major_formatter()(5.0) == "5 h"


@pytest.mark.parametrize(
    ("costs", "ticks"),
    [
        ((90, 5000), ["1 min", "10 min", "1 h"]),
        ((2, 40), ["1 s", "10 s", "1 min"]),
        ((600, 660), ["5 min", "10 min", "20 min"]),
    ],
)
def test_times_have_round_ticks(costs: tuple[float, float], ticks: list[str]) -> None:
    points = [CostPoint(str(place), cost, 0.5) for place, cost in enumerate(costs)]
    axis = cost_and_score(points, quantity="time", tick=None).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ticks


def test_a_legend_of_long_names_is_as_wide_as_its_figure() -> None:
    points = [CostPoint(f"baseline-mse learning_rate=0.00{place}", place, 0.5) for place in (1, 2)]
    figure = cost_and_score(points, quantity="time", tick=None)
    style.to_png(figure)
    assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.filterwarnings("error")
def test_long_names_leave_cells_their_size() -> None:
    long = ["<script>alert(1)</script>" * 3, "Fan", "fan"]
    for figure in (
        heat_map(long, long, np.eye(3)),
        significance(Differences(long, np.eye(3), np.eye(3), np.eye(3), np.eye(3) > 0)),
    ):
        style.to_png(figure)
        axis = figure.axes[0]
        cell_in = axis.get_window_extent().width / figure.dpi / 3
        assert cell_in > 0.5
        assert all(len(label.get_text()) <= 28 for label in axis.get_xticklabels())
