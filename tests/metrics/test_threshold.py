import numpy as np
import pytest
from scipy import stats

from asdbench.errors import InputError
from asdbench.metrics import gamma_threshold


@pytest.mark.parametrize(
    ("distribution", "tolerance"),
    [
        (stats.gamma(1), 0.025),
        (stats.gamma(2), 0.025),
        (stats.gamma(5), 0.025),
        (stats.gamma(5, loc=-40, scale=7), 0.025),
        (stats.norm(), 0.025),
        (stats.norm(-1000, 0.01), 0.025),
    ],
    ids=["gamma-1", "gamma-2", "gamma-5", "gamma-5-shifted", "normal", "normal-shifted"],
)
@pytest.mark.parametrize("clips", [99, 990])
def test_the_mean_false_alarm_rate_is_near_the_nominal_one(distribution, tolerance, clips):
    rng = np.random.default_rng(12)
    rates = [
        distribution.sf(gamma_threshold(distribution.rvs(clips, random_state=rng), percentile=0.9))
        for _ in range(60)
    ]
    assert np.mean(rates) == pytest.approx(0.1, abs=tolerance)


def test_the_fit_is_the_gamma_distribution_located_one_deviation_below_the_minimum():
    scores = np.random.default_rng(13).normal(size=99)
    location = scores.min() - scores.std()
    parameters = stats.gamma.fit(scores, floc=location)
    for percentile in (0.5, 0.9, 0.99):
        threshold = gamma_threshold(scores, percentile=percentile)
        assert threshold == pytest.approx(stats.gamma.ppf(percentile, *parameters), rel=1e-9)
    assert gamma_threshold(scores) == gamma_threshold(scores, percentile=0.9)


@pytest.mark.parametrize(("scale", "shift"), [(2.0, 0.0), (1e-6, -3.0), (1e150, 0.0), (1e-170, 0.0)])
def test_scaled_and_shifted_scores_move_the_threshold_along(scale, shift):
    scores = np.random.default_rng(14).gamma(3, size=50)
    moved = gamma_threshold(scale * scores + shift)
    assert (moved - shift) / scale == pytest.approx(gamma_threshold(scores), rel=1e-8)


def test_a_few_scores_suffice():
    assert 1.0 < gamma_threshold([-1.0, 1.0]) < 3.0
    assert 1.0 < gamma_threshold([0.0, 0.5, 1.0], percentile=0.95) < 2.0
    assert gamma_threshold([0.0, 0.5, 1.0], percentile=0.5) == pytest.approx(0.5, abs=0.1)


def test_one_outlier_gives_a_finite_threshold():
    scores = np.zeros(200)
    scores[7] = 1e6
    assert 0 < gamma_threshold(scores) < 1e6


@pytest.mark.parametrize("scores", [[-3.25], [-3.25, -3.25], [-3.25] * 99])
def test_equal_scores_are_their_own_threshold(scores):
    assert gamma_threshold(scores) == -3.25


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([], r"scores have shape \(0,\)"),
        ([0.0, np.nan, 1.0], "score of clip 1 is nan"),
        ([0.0, np.inf], "score of clip 1 is inf"),
    ],
)
def test_scores_without_a_fit_are_refused(scores, message):
    with pytest.raises(InputError, match=message):
        gamma_threshold(scores)


@pytest.mark.parametrize("percentile", [0.0, 1.0, 90, -0.1, np.nan])
def test_a_percentile_outside_its_range_is_refused(percentile):
    with pytest.raises(InputError, match=f"percentile is {percentile}; give a fraction"):
        gamma_threshold([0.0, 1.0], percentile=percentile)
