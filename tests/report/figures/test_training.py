"""Learning curves as they are drawn."""

from asdbench.report.figures.training import LearningCurve, learning_curves


def test_a_panel_for_each_loss_has_a_line_for_each_training() -> None:
    curves = {
        "loss": [LearningCurve([1, 2], [3.0, 2.0]), LearningCurve([1, 2], [4.0, 1.0])],
        "kl": [LearningCurve([1], [0.5])],
    }
    figure = learning_curves(curves)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["loss", "kl"]
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[3.0, 2.0], [4.0, 1.0]]
    assert figure.axes[1].lines[0].get_marker() == "o"  # one epoch alone would be invisible
