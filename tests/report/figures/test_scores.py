"""ROC curves, histograms and decisions as they are drawn."""

import numpy as np
import pytest
from scipy.integrate import trapezoid
from sklearn.metrics import roc_curve

from asdbench.metrics import auc
from asdbench.report.figures import style
from asdbench.report.figures.scores import (
    Curve,
    Decisions,
    DomainScores,
    ScoredType,
    decisions,
    false_positive_rates,
    roc_curves,
    roc_heights,
    score_histograms,
)

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("decimals", [6, 1, 0])  # without ties, with some, with many
def test_a_curve_is_that_of_scikit_learn(decimals: int) -> None:
    anomalous = np.arange(60) % 3 == 0
    scores = np.round(GENERATOR.normal(size=60) + anomalous, decimals)
    fpr, tpr, _ = roc_curve(anomalous, scores, drop_intermediate=False)
    heights = roc_heights(scores, anomalous)
    np.testing.assert_allclose(heights, np.interp(false_positive_rates(), fpr, tpr))
    assert trapezoid(heights, false_positive_rates()) == pytest.approx(auc(scores, anomalous), abs=0.02)


def curve(label: str) -> Curve:
    return Curve(label, np.sqrt(false_positive_rates()))


def test_the_region_of_the_partial_area_is_shaded() -> None:
    figure = roc_curves({"fan": [curve("one"), curve("two")], "valve": [curve("one")]}, max_fpr=0.2)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["fan", "valve"]
    region = figure.axes[0].patches[0]
    assert (region.get_x(), region.get_width()) == (0, 0.2)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["one", "two"]
    assert roc_curves({"fan": [curve("one")]}, show_legend=False).axes[0].get_legend() is None


def test_curves_differ_without_color() -> None:
    lines = roc_curves({"fan": [curve(str(k)) for k in range(style.N_SERIES)]}).axes[0].lines[1:]
    assert len({str(line._dash_pattern) for line in lines}) == style.N_SERIES


def domain(name: str, count: int = 40) -> DomainScores:
    anomalous = np.arange(count) % 2 == 0
    return DomainScores(name, GENERATOR.normal(size=count) + anomalous, anomalous)


def test_a_histogram_has_both_domains_and_the_threshold() -> None:
    scored = ScoredType("fan", [domain("source"), domain("target")], threshold=9.0)
    axis = score_histograms([scored]).axes[0]
    heights = [patch.get_data().values for patch in axis.patches]
    assert [pytest.approx(s) for s in (1, 1, 1, 1, -1, -1, -1, -1)] == [values.sum() for values in heights]
    assert [text.get_text() for text in axis.texts] == ["source", "target"]
    assert all(text.get_position()[0] < 0 for text in axis.texts)  # left of the bars
    assert axis.lines[-1].get_xdata() == [9.0, 9.0]
    low, high = axis.get_xlim()
    assert low < 9.0 < high


def test_data_without_domains_or_with_equal_scores_has_a_histogram() -> None:
    same = DomainScores("all", np.ones(4), np.array([True, False, True, False]))
    axis = score_histograms([ScoredType("fan", [same], threshold=1.0)]).axes[0]
    assert not axis.texts
    assert len(axis.patches) == 4


def test_decisions_are_shares_with_their_counts() -> None:
    axis = decisions([Decisions("fan", 3, 1, 0, 0), Decisions("valve", 0, 2, 1, 3)]).axes[0]
    assert [bar.get_width() for bar in axis.patches] == [0.75, 0.0, 0.0, 0.25]
    assert [text.get_text() for text in axis.texts] == ["3 of 4", "0 of 0", "0 of 2", "1 of 4"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["fan", "valve"]
