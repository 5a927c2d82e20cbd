import math

import numpy as np
import pytest
from scipy import stats

from asdbench.errors import InputError
from asdbench.metrics import IN_DOMAIN, OFFICIAL, Rule
from asdbench.metrics.bootstrap import SectionScores, bootstrap
from asdbench.metrics.resampled import Part, Resampled, interval_around
from benchmarks.bench_seeds import SHIFT, rates, resampled_cases, with_seeds


def resampled(*, seeds=((0.6, 0.62, 0.64), (0.65, 0.66, 0.67)), sd=0.01, seed=0):
    rng = np.random.default_rng(seed)
    per_seed = [np.array(scores) for scores in seeds]
    centers = np.array([scores.mean() for scores in per_seed])
    return Resampled(per_seed, centers + sd * rng.normal(size=(4000, 2)))


def test_a_true_zero_difference_is_seldom_called_sure():
    """The attack: seeds vary as the clips do, or twice as much, and the true difference is zero."""
    for factor, of_one_seed in ((1, (0.08, 0.22)), (2, (0.31, 0.45))):
        cases = resampled_cases(400, 5, shift=factor * SHIFT, resamples=200)
        by_seeds = {seeds: rates([with_seeds(case, seeds) for case in cases]) for seeds in (1, 2, 3, 5)}
        low, high = of_one_seed
        assert low < by_seeds[1]["asdbench"] < high  # what is withheld: one seed knows of no other
        assert all(rate["asdbench"] <= 0.08 for seeds, rate in by_seeds.items() if seeds > 2)
        assert by_seeds[5]["asdbench"] >= 0.03  # nor is it far too wide
    assert by_seeds[3]["plain bootstrap"] > 0.09 > by_seeds[3]["asdbench"]
    below_three = [with_seeds(case, seeds) for case in cases for seeds in (1, 2)]
    assert not any(case.is_sure(0, 1) for case in below_three)


def test_an_interval_without_seeds_is_that_of_the_percentiles():
    values = np.random.default_rng(0).gamma(4, size=5000)
    ends = interval_around(float(values.mean()), values, [], confidence=0.9)
    assert ends == pytest.approx(np.quantile(values, [0.05, 0.95]))


def test_an_interval_of_seeds_alone_is_students():
    scores = np.array([0.6, 0.62, 0.65, 0.61])
    case = Resampled([scores], np.full((100, 1), scores.mean()))
    expected = stats.t.interval(0.9, 3, scores.mean(), stats.sem(scores))
    assert case.interval(0, confidence=0.9) == pytest.approx(expected)


def test_a_difference_is_paired_or_by_welch_for_other_numbers_of_seeds():
    first, second = np.array([0.6, 0.65, 0.7, 0.72]), np.array([0.62, 0.66, 0.73])
    still = np.tile([first.mean(), second.mean()], (10, 1))
    welch = stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    assert Resampled([first, second], still).difference_interval(0, 1) == pytest.approx(tuple(welch))
    paired = Resampled([first[:3], second], np.tile([first[:3].mean(), second.mean()], (10, 1)))
    expected = stats.ttest_rel(second, first[:3]).confidence_interval(0.95)
    assert paired.difference_interval(0, 1) == pytest.approx(tuple(expected))


def test_no_difference_is_sure_below_three_seeds():
    for n_seeds in (1, 2, 3):
        case = resampled(seeds=[np.full(n_seeds, 0.6), np.full(n_seeds, 0.9)])
        assert case.difference_interval(0, 1)[0] > 0.2
        assert case.is_sure(0, 1) == (n_seeds == 3) == case.has_enough_seeds(0, 1)


def test_a_p_value_is_that_of_the_interval_that_touches_zero():
    case = resampled(sd=0.012)
    p = case.p_value(0, 1)
    assert 0.01 < p < 0.3
    assert case.difference_interval(0, 1, confidence=1 - p * 1.01)[0] > 0
    assert case.difference_interval(0, 1, confidence=1 - p * 0.99)[0] < 0
    assert case.p_value(1, 0) == pytest.approx(p, rel=0.01)
    assert resampled(seeds=[np.full(3, 0.6), np.full(3, 0.9)]).p_value(0, 1) == 1 / 4001
    assert resampled(seeds=[np.full(3, 0.6)] * 2, sd=0).p_value(0, 1) == 1


def test_an_interval_stays_within_what_a_score_can_be():
    perfect = Resampled([np.array([1.0, 0.9, 1.0])], np.full((10, 1), 0.96))
    low, high = perfect.interval(0)
    assert 0 < low < high == 1


def test_a_confidence_outside_its_range_is_refused():
    with pytest.raises(InputError, match="confidence is 95; give a fraction"):
        interval_around(0.5, np.zeros(3), [Part(0.1, 2)], confidence=95)


# Machines like these


def machine_types(rng, n_types, *, between=0.6, clips=40):
    anomalous, target = np.arange(clips) % 2 == 1, np.arange(clips) < clips // 2
    shifts = 1 + between * rng.normal(size=(n_types, 1, 1, 1))
    scores = rng.normal(size=(n_types, 1, 1, clips)) + shifts * anomalous
    return [SectionScores(f"type {k}", scores[k], anomalous, target) for k in range(n_types)]


@pytest.mark.parametrize("rule", [OFFICIAL, IN_DOMAIN])
def test_there_is_an_interval_for_machines_like_these_from_three_types_on(rule):
    for n_types in (1, 2, 3):
        sections = machine_types(np.random.default_rng(0), n_types)
        overall, by_type = bootstrap(sections, np.random.default_rng(1), rule=rule, resamples=300)
        assert (overall.interval_like_these(0) is None) == (n_types < 3)
        assert all(of.interval_like_these(0) is None for of in by_type.values())
    ends, wide = overall.interval(0), overall.interval_like_these(0)
    assert wide[0] < ends[0] < overall.observed[0] < ends[1] < wide[1]
    assert overall.difference_interval_like_these(0, 0) == (0, 0)


def test_the_interval_for_machines_like_these_contains_the_score_of_all_machines():
    """Machine types are drawn from many; that on these machines says nothing about the others."""
    rule = Rule(auc_of=("section",), pauc_of=(), mean="arithmetic")
    rng = np.random.default_rng(2)
    truth = stats.norm.cdf(1 / math.sqrt(2 + 0.6**2))  # mean of Φ((1 + 0.6 z)/√2)
    covered = {"these": 0, "like these": 0}
    for _ in range(150):
        overall, _ = bootstrap(machine_types(rng, 5), rng, rule=rule, resamples=200)
        for name, (low, high) in (
            ("these", overall.interval(0)),
            ("like these", overall.interval_like_these(0)),
        ):
            covered[name] += low <= truth <= high
    assert covered["like these"] / 150 >= 0.92
    assert covered["these"] / 150 < 0.85
