"""Figures of the scores of test clips: ROC curves, histograms by domain, decisions.

Conventions: a figure has a panel for each machine type. A ROC curve is the mean over seeds and sections of
the curves' heights at each false positive rate, so that the area under it is the mean of the AUCs.

Source: T. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27(8), 2006, section 9.1,
for the vertical averaging of curves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from asdbench.metrics.roc import BoolArray, FloatArray
from asdbench.report.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RATES = np.unique(np.concatenate([np.linspace(0, 0.1, 51), np.linspace(0, 1, 201)]))
_BINS = 24
_SHARE_SHOWN = 0.98  # of the clips; the outermost bars of a histogram hold the rest


@dataclass(frozen=True, eq=False)
class Curve:
    """A ROC curve with its name: ``true_positive_rates`` at the rates `false_positive_rates`.

    Attributes
    ----------
    series : index of its color and line style; by default its place among the curves of its panel
    """

    label: str
    true_positive_rates: FloatArray
    series: int | None = None


@dataclass(frozen=True, eq=False)
class DomainScores:
    """Scores of the test clips of one domain, or of all clips of a data set without domains.

    Attributes
    ----------
    name : ``"source"``, ``"target"`` or ``"all"``
    scores, anomalous : of each clip
    """

    name: str
    scores: FloatArray
    anomalous: BoolArray


@dataclass(frozen=True, eq=False)
class ScoredType:
    """Scores of the test clips of a machine type with one seed, by domain, and the threshold if any."""

    machine_type: str
    domains: Sequence[DomainScores]
    threshold: float | None


def false_positive_rates() -> FloatArray:
    """Return the false positive rates at which curves are given, finer up to 0.1."""
    return _RATES.copy()


def roc_heights(scores: FloatArray, anomalous: BoolArray) -> FloatArray:
    """Return the true positive rates of one section with one seed at `false_positive_rates`.

    Examples
    --------
    >>> heights = roc_heights(np.array([0.1, 0.4, 0.3, 0.8]), np.array([False, False, True, True]))
    >>> float(heights[0]), float(heights[-1])
    (0.5, 1.0)
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)  # of each group of ties
    hits = np.cumsum(anomalous[order], dtype=np.float64)[ends]
    alarms = 1 + ends - hits
    heights: FloatArray = np.interp(
        _RATES, np.append(0.0, alarms) / max(alarms[-1], 1), np.append(0.0, hits) / max(hits[-1], 1)
    )
    return heights


def roc_curves(
    curves: Mapping[str, Sequence[Curve]], *, max_fpr: float = 0.1, show_legend: bool = True
) -> "Figure":
    """Draw the ROC curves of each machine type, with the region that counts for the pAUC shaded.

    Parameters
    ----------
    curves
        Curves by machine type, in the same order everywhere.
    max_fpr
        The largest false positive rate of the pAUC.
    show_legend
        Whether each panel names its curves; a page may do that once for all.
    """
    with style.parameters():
        figure, axes = style.panels(len(curves), height_in=2.5)
        for axis, (machine_type, of_type) in zip(axes, curves.items(), strict=True):
            axis.axvspan(0, max_fpr, color=style.color("grid"), alpha=0.7, linewidth=0, zorder=0)
            axis.plot([0, 1], [0, 1], color=style.color("muted"), linewidth=0.8, linestyle=(0, (2, 3)))
            for place, curve in enumerate(of_type):
                index = place if curve.series is None else curve.series
                axis.plot(
                    np.append(0.0, _RATES),
                    np.append(0.0, curve.true_positive_rates),
                    color=style.series_color(index),
                    linestyle=style.LINE_STYLES[index % style.N_SERIES],
                    label=curve.label,
                )
            axis.set(
                title=style.panel_title(machine_type),
                xlabel="false positive rate",
                ylabel="true positive rate",
                xlim=(0, 1),
                ylim=(0, 1.01),
                xticks=[0, max_fpr, 0.5, 1],
                yticks=[0, 0.5, 1],
            )
            axis.xaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_major_formatter("{x:g}")
            if show_legend:
                axis.legend(loc="lower right")
    return figure


def score_histograms(types: Sequence[ScoredType], *, show_legend: bool = True) -> "Figure":
    """Draw histograms of the scores of each machine type: source above the line, target below it.

    Normal clips and anomalies have a histogram each, with the area 1. The dashed line is the decision
    threshold. The outermost bars also hold the clips that lie beyond them.
    """
    with style.parameters():
        figure, axes = style.panels(len(types), height_in=1.9, left_in=0.3)
        for axis, scored in zip(axes, types, strict=True):
            _histogram(axis, scored)
            if show_legend:
                axis.legend(loc="upper right", handlelength=1.2)
    return figure


def _histogram(axis: "Axes", scored: ScoredType) -> None:
    edges = _bin_edges(np.concatenate([domain.scores for domain in scored.domains]), scored.threshold)
    for place, (domain, direction) in enumerate(zip(scored.domains, (1, -1), strict=False)):
        shown = np.clip(domain.scores, edges[0], edges[-1])
        for name, mask in (("normal", ~domain.anomalous), ("anomaly", domain.anomalous)):
            heights = np.histogram(shown[mask], edges)[0] / max(1, mask.sum())
            axis.stairs(
                direction * heights,
                edges,
                fill=True,
                color=style.color(name),
                alpha=0.28,
                linewidth=0,
            )
            axis.stairs(
                direction * heights,
                edges,
                color=style.color(name),
                linewidth=1.3,
                linestyle="-" if name == "normal" else (0, (4, 1)),
                label=name if place == 0 else None,
            )
        if domain.name != "all":
            axis.text(
                -0.03,
                0.75 if direction == 1 else 0.25,
                domain.name,
                transform=axis.transAxes,
                color=style.color("muted"),
                rotation=90,
                horizontalalignment="right",
                verticalalignment="center",
                fontsize=8,
            )
    axis.axhline(0, color=style.color("muted"), linewidth=0.8)
    if scored.threshold is not None:
        axis.axvline(scored.threshold, color=style.color("threshold"), linewidth=1.2, linestyle=(0, (3, 2)))
    axis.set(title=style.panel_title(scored.machine_type), xlabel="anomaly score", yticks=[])
    axis.margins(y=0.12)
    axis.locator_params(axis="x", nbins=5)
    axis.spines["left"].set_visible(False)


def _bin_edges(scores: FloatArray, threshold: float | None) -> FloatArray:
    beyond = (1 - _SHARE_SHOWN) / 2
    low, high = np.quantile(scores, [beyond, 1 - beyond])
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    margin = 0.02 * (high - low) or 0.5
    edges: FloatArray = np.linspace(low - margin, high + margin, _BINS + 1)
    return edges


@dataclass(frozen=True)
class Decisions:
    """Numbers of decisions on the test clips of a machine type, summed over seeds.

    Attributes
    ----------
    hits, misses : anomalies that are found, and that are not
    false_alarms, rejections : normal clips that are called anomalous, and that are not
    """

    machine_type: str
    hits: int
    misses: int
    false_alarms: int
    rejections: int


def decisions(types: Sequence[Decisions]) -> "Figure":
    """Draw the share of anomalies that are found and of normal clips that raise an alarm, by machine type."""
    with style.parameters():
        figure = style.new_figure(4.8, 1.1 + 0.42 * len(types))
        axis = figure.subplots()
        for place, counts in enumerate(types):
            for offset, name, part, whole, hatch in (
                (-0.19, "anomaly", counts.hits, counts.hits + counts.misses, None),
                (0.19, "normal", counts.false_alarms, counts.false_alarms + counts.rejections, "////"),
            ):
                share = part / max(whole, 1)
                axis.barh(
                    place + offset,
                    share,
                    height=0.34,
                    facecolor=style.color(name) if hatch is None else style.color("surface"),
                    edgecolor=style.color(name),
                    hatch=hatch,
                    label={"anomaly": "anomalies found", "normal": "false alarms"}[name]
                    if not place
                    else None,
                )
                axis.text(
                    share + 0.01,
                    place + offset,
                    f"{part} of {whole}",
                    verticalalignment="center",
                    fontsize=7.5,
                )
        axis.set_yticks(range(len(types)), [style.shortened(counts.machine_type, 24) for counts in types])
        axis.tick_params(axis="y", length=0)
        axis.set(xlim=(0, 1.18), xticks=[0, 0.25, 0.5, 0.75, 1], xlabel="share of the clips")
        axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axis.invert_yaxis()
        axis.grid(axis="x")
        axis.spines["left"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=2)
    return figure
