"""The figures of a row of the leaderboard."""

from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import trapezoid

from asdbench.metrics import IN_DOMAIN, OFFICIAL, auc
from asdbench.report.figures.scores import false_positive_rates
from asdbench.report.row_figures import decision_counts, domain_curves, loss_curves, mean_curve, row_figures
from asdbench.report.row_scores import row_jobs, row_trainings, type_scores
from tests.report.made_up import leaderboard_rows, made_up


def test_a_row_has_figures_by_name(tmp_path: Path) -> None:
    data, store = made_up(tmp_path)
    row = leaderboard_rows(data, store)[1]
    figures = row_figures(row, data, store)
    assert list(figures) == ["roc", "histograms", "decisions", "learning_curves_baseline-mse"]
    for name in ("roc", "histograms"):
        assert [axis.get_title(loc="left") for axis in figures[name].axes] == ["fan", "valve"]
    assert row_figures(row | {"seeds": []}, data, store) == {}


def test_the_area_under_a_mean_curve_is_the_mean_of_the_areas(tmp_path: Path) -> None:
    data, store = made_up(tmp_path)
    scored = type_scores(row_jobs(leaderboard_rows(data, store)[0], data), data, store)[0]
    curve = mean_curve("all", scored, np.ones(20, bool))
    mean = np.mean([auc(scores, scored.anomalous) for scores in scored.scores])
    assert trapezoid(curve.true_positive_rates, false_positive_rates()) == pytest.approx(mean, abs=0.01)


def test_domains_have_curves_by_the_rule(tmp_path: Path) -> None:
    data, store = made_up(tmp_path, seeds=[0], separation=1.0)
    scored = type_scores(row_jobs(leaderboard_rows(data, store)[0], data), data, store)[0]
    whole, source, _ = domain_curves(scored, OFFICIAL)
    assert (whole.label, source.label) == ("all clips", "normal: source")
    clips = scored.domain("source") | scored.anomalous
    area = trapezoid(source.true_positive_rates, false_positive_rates())
    assert area == pytest.approx(auc(scored.scores[0][clips], scored.anomalous[clips]), abs=0.01)
    own = domain_curves(scored, IN_DOMAIN)[1].true_positive_rates
    assert not np.array_equal(own, source.true_positive_rates)


def test_decisions_are_counted_over_seeds(tmp_path: Path) -> None:
    data, store = made_up(tmp_path)
    scored = type_scores(row_jobs(leaderboard_rows(data, store)[0], data), data, store)[0]
    counts = decision_counts(scored)
    assert counts.hits + counts.misses == counts.false_alarms + counts.rejections == 20
    assert counts.hits == sum(int((decided & scored.anomalous).sum()) for decided in scored.decided)


def test_learning_curves_are_by_loss(tmp_path: Path) -> None:
    data, store = made_up(tmp_path)
    curves = loss_curves(row_trainings(row_jobs(leaderboard_rows(data, store)[0], data), store))
    assert list(curves) == ["baseline-mse"]
    assert {name: len(lines) for name, lines in curves["baseline-mse"].items()} == {"loss": 4}
