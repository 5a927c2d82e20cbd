import numpy as np
import pytest
from scipy import stats

from asdbench.errors import InputError
from asdbench.metrics.rank_tests import critical_difference, friedman, groups, holm, ranks, wilcoxon


def test_friedman_is_the_formula_of_demsar() -> None:
    # Table 6 of Demsar 2006: C4.5 with and without tuning of m and cf, over 14 data sets; here its ranks.
    average = np.array([3.143, 2.000, 2.893, 1.964])
    statistic = 12 * 14 / (4 * 5) * ((average**2).sum() - 4 * 5**2 / 4)
    assert statistic == pytest.approx(9.28, abs=0.01)  # the paper prints 9.28
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.01)  # and 1.25
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(4, 14))
    by_type = ranks(scores).mean(axis=1)
    expected = 12 * 14 / (4 * 5) * ((by_type**2).sum() - 4 * 5**2 / 4)
    assert friedman(scores).statistic == pytest.approx(expected)


@pytest.mark.parametrize(("n_systems", "quantile"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_has_demsars_quantiles(n_systems: int, quantile: float) -> None:
    difference = critical_difference(n_systems, 6)
    assert difference == pytest.approx(quantile * (n_systems * (n_systems + 1) / 36) ** 0.5, abs=0.002)


def test_equal_systems_are_called_different_at_the_nominal_rate() -> None:
    generator = np.random.default_rng(1)
    p_values = [friedman(generator.normal(size=(4, 12))).p_value for _ in range(400)]
    assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.08


def test_systems_that_are_equal_everywhere_do_not_differ() -> None:
    assert friedman(np.full((3, 5), 0.7)).p_value == 1
    assert wilcoxon([0.7, 0.6], [0.7, 0.6]) == 1
    assert ranks(np.full((3, 2), 0.7)).tolist() == [[2, 2]] * 3


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.ones((2, 4)), "takes at least 3 systems and 2 machine types, not 2 and 4"),
        (np.ones((3, 1)), "takes at least 3 systems and 2 machine types, not 3 and 1"),
        (np.ones(3), r"scores have shape \(3,\)"),
        (np.array([[0.1, np.nan]] * 3), "a score is not finite"),
    ],
)
def test_what_cannot_be_tested_is_an_error(scores: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        friedman(scores)


def test_groups_are_the_largest_that_differ_by_less() -> None:
    assert groups([1.0, 1.5, 2.0], 3) == [(0, 2)]
    assert groups([1.0, 2.0, 3.0], 1.0) == []
    assert groups([1.0, 1.8, 2.6, 5.0, 5.1], 0.9) == [(0, 1), (1, 2), (3, 4)]


def test_holm_keeps_the_order_and_is_never_below_the_value_itself() -> None:
    p_values = np.random.default_rng(2).uniform(size=9).tolist()
    corrected = holm(p_values)
    assert np.array_equal(np.argsort(corrected, kind="stable")[:1], np.argsort(p_values)[:1])
    assert all(new >= old for new, old in zip(corrected, p_values, strict=True))
    assert min(corrected) == pytest.approx(9 * min(p_values))
    assert (holm([]), holm([0.3]), holm([0.9, 0.8])) == ([], [0.3], [1.0, 1.0])


def test_wilcoxon_leaves_ties_out() -> None:
    scores, others = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [0.8, 0.8, 0.5, 0.3, 0.1, 0.0]
    expected = stats.wilcoxon([0.1, 0.2, 0.3, 0.4, 0.4], method="auto").pvalue
    assert wilcoxon(scores, others) == pytest.approx(expected)
