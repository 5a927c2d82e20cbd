import numpy as np
import pytest
from scipy import stats

from asdbench.errors import InputError
from asdbench.metrics import (
    DEFAULT_THRESHOLD,
    THRESHOLDS,
    empirical_threshold,
    gamma_threshold,
    least_groups,
    left_out_alarms,
    shared_threshold,
    tail_threshold,
    threshold,
)
from asdbench.metrics.threshold import binomial_interval


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


# All methods


@pytest.mark.parametrize("method", ["empirical", "tail"])
@pytest.mark.parametrize(
    "distribution",
    [stats.norm(), stats.gamma(5), stats.t(4), stats.uniform(), stats.lognorm(1), stats.norm(-1000, 0.01)],
    ids=["normal", "gamma-5", "t-4", "uniform", "lognormal", "normal-shifted"],
)
@pytest.mark.parametrize(("clips", "percentile"), [(99, 0.9), (99, 0.98), (990, 0.9)])
def test_without_a_distribution_the_mean_false_alarm_rate_is_near_the_nominal_one(
    method, distribution, clips, percentile
):
    rng = np.random.default_rng(15)
    rates = [
        distribution.sf(
            threshold(distribution.rvs(clips, random_state=rng), method=method, percentile=percentile)
        )
        for _ in range(300)
    ]
    assert np.mean(rates) == pytest.approx(1 - percentile, abs=0.012)


def test_the_empirical_threshold_is_the_score_of_rank_percentile_times_n_plus_1():
    scores = np.random.default_rng(16).permutation(np.arange(99.0))
    assert empirical_threshold(scores, percentile=0.9) == pytest.approx(89.0)  # the 90th of 99
    assert empirical_threshold(scores, percentile=0.5) == pytest.approx(49.0)
    assert empirical_threshold(scores, percentile=0.995) == 98.0
    assert empirical_threshold([1.0, 2.0, 4.0], percentile=0.625) == pytest.approx(3.0)


def test_the_tail_threshold_is_the_quantile_of_the_pareto_distribution_of_the_tail():
    distribution = stats.genpareto(0.2, loc=3, scale=2)
    scores = distribution.rvs(20_000, random_state=np.random.default_rng(17))
    for percentile in (0.8, 0.9, 0.99, 0.9999):
        expected = distribution.ppf(percentile)
        assert tail_threshold(scores, percentile=percentile) == pytest.approx(expected, rel=0.06)


def test_the_tail_alone_counts():
    rng = np.random.default_rng(18)
    tail = np.sort(rng.exponential(size=30)) + 5
    one, other = np.append(rng.uniform(0, 5, 90), tail), np.append(rng.gamma(5, 0.01, 90), tail)
    assert tail_threshold(one, tail_share=0.2) == pytest.approx(
        tail_threshold(other, tail_share=0.2), rel=1e-9
    )
    assert tail_threshold(one, tail_share=0.9) != pytest.approx(
        tail_threshold(other, tail_share=0.9), rel=1e-3
    )


def test_the_tail_threshold_may_lie_beyond_all_scores():
    scores = np.random.default_rng(19).exponential(size=50)
    assert tail_threshold(scores, percentile=0.9999) > scores.max()
    assert empirical_threshold(scores, percentile=0.9999) == scores.max()


@pytest.mark.parametrize("method", THRESHOLDS)
@pytest.mark.parametrize(("scale", "shift"), [(2.0, 0.0), (1e-6, -3.0), (1e150, 0.0)])
def test_every_threshold_moves_along_with_its_scores(method, scale, shift):
    scores = np.random.default_rng(20).gamma(3, size=50)
    moved = threshold(scale * scores + shift, method=method)
    assert (moved - shift) / scale == pytest.approx(threshold(scores, method=method), rel=1e-7)


@pytest.mark.parametrize("method", THRESHOLDS)
@pytest.mark.parametrize("scores", [[-3.25], [-3.25, -3.25], [-3.25] * 99])
def test_equal_scores_are_the_threshold_of_every_method(method, scores):
    assert threshold(scores, method=method) == -3.25


@pytest.mark.parametrize("method", THRESHOLDS)
def test_a_few_scores_suffice_for_every_method(method):
    rng = np.random.default_rng(21)
    for clips in (2, 3, 4, 8, 11):
        scores = rng.normal(size=clips)
        assert scores.min() < threshold(scores, method=method) < scores.max() + 2 * np.ptp(scores)


@pytest.mark.parametrize("method", THRESHOLDS)
def test_a_higher_percentile_never_lowers_the_threshold(method):
    scores = np.round(np.random.default_rng(22).normal(size=60), 1)
    found = [threshold(scores, method=method, percentile=p) for p in (0.8, 0.9, 0.95, 0.99)]
    assert found == sorted(found)


@pytest.mark.parametrize("method", THRESHOLDS)
def test_every_method_refuses_what_it_cannot_use(method):
    with pytest.raises(InputError, match="score of clip 1 is nan"):
        threshold([0.0, np.nan], method=method)
    with pytest.raises(InputError, match=r"percentile is 1\.5"):
        threshold([0.0, 1.0], method=method, percentile=1.5)


def test_unknown_methods_and_tails_without_the_threshold_are_refused():
    with pytest.raises(InputError, match="no threshold method 'gama'; did you mean 'gamma'"):
        threshold([0.0, 1.0], method="gama")
    for share in (0.05, 1.0, -1):
        with pytest.raises(InputError, match=f"tail_share is {share}; the tail must contain the threshold"):
            tail_threshold([0.0, 1.0], tail_share=share)


# Groups and domains


def test_groups_count_alike_whatever_their_size() -> None:
    scores, group = np.arange(30.0), np.r_[np.zeros(21), np.arange(1, 10)]
    # ten groups: 1/11 each, of which the 21 clips of the first share theirs
    assert empirical_threshold(scores, percentile=7 / 11, groups=group) == pytest.approx(26.0)
    assert empirical_threshold(scores, percentile=0.95, groups=group) == 29.0
    assert empirical_threshold(scores, groups=np.arange(30)) == empirical_threshold(scores)
    with pytest.raises(InputError, match="30 scores and 2 groups"):
        empirical_threshold(scores, groups=[0, 1])


def test_a_fresh_recording_exceeds_a_grouped_threshold_as_often_as_nominal() -> None:
    """Ranks of clips would promise 10 % from three times as many clips, and give half as much again."""
    rng = np.random.default_rng(31)
    level = rng.normal(size=(3000, 13, 1))  # twelve known recordings and a fresh one, of five clips each
    scores = level + 0.1 * rng.normal(size=(3000, 13, 5))
    group = np.repeat(np.arange(12), 5)
    limits = [[empirical_threshold(s[:12].ravel(), groups=g) for s in scores] for g in (group, None)]
    grouped, pooled = (np.mean(scores[:, 12] > np.array(limit)[:, None]) for limit in limits)
    assert 0.07 < grouped < 0.105
    assert pooled > 0.12


def test_no_threshold_keeps_ten_percent_with_fewer_than_nine() -> None:
    assert [least_groups(percentile) for percentile in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]
    scores = np.random.default_rng(32).normal(size=(4000, 10))
    rates = {n: np.mean(scores[:, n] > [empirical_threshold(s[:n]) for s in scores]) for n in (8, 9)}
    assert rates[9] == pytest.approx(0.1, abs=0.01)
    assert rates[8] > 0.105


@pytest.mark.parametrize(("method", "most"), [("empirical", 0.115), ("gamma", 0.13), ("tail", 0.16)])
@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_ten_target_clips_bring_the_false_alarms_of_both_domains_below_the_nominal_rate(
    method: str, most: float, shift: float
) -> None:
    rng = np.random.default_rng(33)
    domain = np.repeat(["source", "target"], [90, 10])
    shared, of_source = [], []
    for _ in range(150):
        scores = np.r_[rng.normal(size=90), rng.normal(size=10) + shift]
        shared.append(shared_threshold(scores, domain, method=method))
        of_source.append(threshold(scores[:90], method=method))
    for mean in (0.0, shift):
        assert np.mean(stats.norm(mean).sf(shared)) < most
    if shift:
        assert np.mean(stats.norm(shift).sf(of_source)) > 0.3


# False alarms among normal clips that are left out


@pytest.mark.parametrize("method", sorted(THRESHOLDS))
def test_false_alarms_are_judged_by_thresholds_of_others(method: str) -> None:
    scores = np.random.default_rng(5).normal(size=37)
    expected = np.zeros(37, bool)
    for fold in range(10):
        others = np.array([score for k, score in enumerate(scores) if k % 10 != fold])
        expected[fold::10] = scores[fold::10] > threshold(others, method=method)
    exceeds = left_out_alarms(scores, method=method)
    assert exceeds is not None
    assert exceeds.tolist() == expected.tolist()


def test_the_default_keeps_its_nominal_false_alarm_rate() -> None:
    """Over many small samples of a skewed distribution, better than the others do."""
    rng = np.random.default_rng(6)
    samples = [rng.lognormal(size=20) for _ in range(150)]
    off = {
        method: abs(sum(n_alarms(sample, method=method) for sample in samples) / (150 * 20) - 0.1)
        for method in THRESHOLDS
    }
    assert off[DEFAULT_THRESHOLD] < 0.015
    assert off[DEFAULT_THRESHOLD] == min(off.values())


def n_alarms(scores, **options) -> int:
    exceeds = left_out_alarms(scores, **options)
    assert exceeds is not None
    return int(exceeds.sum())


def test_thresholds_come_from_other_groups() -> None:
    loud = np.r_[np.zeros(20), np.full(10, 5.0)]
    assert n_alarms(loud, method="empirical") == 0  # each has its like on the other side
    assert n_alarms(loud, method="empirical", groups=["a"] * 20 + ["b"] * 10) == 10
    assert left_out_alarms(loud, method="empirical", groups=["a"] * 30) is None
    with pytest.raises(InputError, match="30 scores and 2 groups"):
        left_out_alarms(loud, method="empirical", groups=[1, 2])


def test_what_is_left_out_is_compared_with_the_threshold_of_both_domains() -> None:
    scores = np.r_[np.arange(20.0), np.full(10, 50.0)]
    assert n_alarms(scores, method="empirical", domains=["source"] * 20 + ["target"] * 10) == 0
    assert n_alarms(scores[:20], method="empirical") == 2


def test_many_groups_are_folded() -> None:
    scores = np.arange(100.0)
    assert n_alarms(scores, method="tail", groups=np.arange(100)) == n_alarms(scores, method="tail")


def test_a_single_score_has_no_false_alarms() -> None:
    with pytest.raises(InputError, match="a cross-fitted threshold needs the scores of other clips"):
        left_out_alarms([1.0], method="empirical")


def test_the_interval_of_a_share_is_clopper_and_pearsons() -> None:
    low, high = binomial_interval(3, 30)
    assert stats.binom.sf(2, 30, low) == pytest.approx(0.025)
    assert stats.binom.cdf(3, 30, high) == pytest.approx(0.025)
    assert binomial_interval(0, 10)[0] == 0.0
