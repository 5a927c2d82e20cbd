"""Figures of trainings: the losses over epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asdbench.report.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class LearningCurve:
    """A loss, or a monitor, of one training: its values over the epochs of a stage."""

    epochs: Sequence[int]
    values: Sequence[float]


def learning_curves(curves: Mapping[str, Sequence[LearningCurve]]) -> "Figure":
    """Draw a panel for each loss, with a line for each training, such as of each machine type and seed.

    Parameters
    ----------
    curves
        Trainings by the name of the loss. A training of one epoch is a dot.
    """
    with style.parameters():
        figure, axes = style.panels(len(curves), height_in=2.0)
        for axis, (name, of_trainings) in zip(axes, curves.items(), strict=True):
            for curve in of_trainings:
                axis.plot(
                    curve.epochs,
                    curve.values,
                    color=style.color("series-1"),
                    alpha=0.75,
                    linewidth=1.1,
                    marker="o" if len(curve.epochs) == 1 else None,
                    markersize=3,
                )
            axis.set(title=style.panel_title(name), xlabel="epoch")
            axis.locator_params(nbins=4)
            axis.grid(axis="y")
    return figure
