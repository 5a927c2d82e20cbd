"""Figures of searches, as they are drawn."""

from asdbench.report.figures.searches import TrialPoint, parameter_importances, search_history


def test_the_best_so_far_counts_complete_trials() -> None:
    trials = [
        TrialPoint(2, 0.9, False),
        TrialPoint(0, 0.5, True),
        TrialPoint(3, 0.4, True),
        TrialPoint(1, 0.6, True),
    ]
    complete, pruned, best = search_history(trials).axes[0].lines
    assert list(complete.get_xdata()) == [0, 3, 1]
    assert list(pruned.get_ydata()) == [90.0]
    assert list(best.get_ydata()) == [50.0, 60.0, 60.0]


def test_importances_are_ranked() -> None:
    axis = parameter_importances({"epochs": 0.2, "rate": 0.8}).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["rate", "epochs"]
    assert [text.get_text().strip() for text in axis.texts] == ["80 %", "20 %"]
    assert parameter_importances({"epochs": 0.0}).axes
