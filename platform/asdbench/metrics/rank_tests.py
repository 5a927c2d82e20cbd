"""Ranks of systems over machine types, and the tests of whether they differ.

Idea: a mean of scores lets one machine type decide. Ranks give every machine type one vote: on each, the
system with the highest score has rank 1. Friedman's test asks whether the average ranks could be those of
equal systems; if not, Nemenyi's critical difference says how far two average ranks must be apart. Wilcoxon's
signed-rank test, with Holm's correction, asks the same of pairs and takes the size of differences into
account.

Conventions: ``scores`` has shape (system, machine type), higher is better. Machine types are the independent
cases of all tests. Ties get the mean of their ranks. Tests are two-sided.

Sources: M. Friedman, "The use of ranks to avoid the assumption of normality implicit in the analysis of
variance", Journal of the American Statistical Association 32, 1937; J. Demsar, "Statistical comparisons of
classifiers over multiple data sets", Journal of Machine Learning Research 7, 2006, section 3.2, for the
critical difference and its diagram; S. Holm, "A simple sequentially rejective multiple test procedure",
Scandinavian Journal of Statistics 6, 1979.

Known limits: Friedman's statistic is compared with a chi-squared distribution, which fits for ten machine
types or more; with fewer than five the tests hardly ever find a difference, however large it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asdbench.errors import InputError
from asdbench.metrics.roc import FloatArray


@dataclass(frozen=True)
class Friedman:
    """Friedman's test.

    Attributes
    ----------
    statistic
        Friedman's chi-squared, corrected for ties; 0 where all systems are equal on all machine types.
    p_value
        The probability of so large a statistic if the systems were equal.
    """

    statistic: float
    p_value: float


def ranks(scores: npt.ArrayLike) -> FloatArray:
    """Return the rank of each system on each machine type, in the shape of ``scores``.

    Raises :class:`InputError` if ``scores`` is not of shape (system, machine type) or not finite.

    >>> ranks([[0.7, 0.6], [0.8, 0.5], [0.7, 0.4]]).tolist()
    [[2.5, 1.0], [1.0, 2.0], [2.5, 3.0]]
    """
    from scipy.stats import rankdata

    checked: FloatArray = rankdata(-_checked(scores), axis=0)
    return checked


def friedman(scores: npt.ArrayLike) -> Friedman:
    """Return Friedman's test of whether some systems are better than others.

    Raises :class:`InputError` as `ranks` does, and for fewer than three systems or two machine types.

    >>> test = friedman([[0.9, 0.9, 0.8, 0.9], [0.7, 0.8, 0.7, 0.8], [0.6, 0.5, 0.6, 0.7]])
    >>> test.statistic, round(test.p_value, 4)
    (8.0, 0.0183)
    """
    from scipy.stats import friedmanchisquare

    checked = _checked(scores)
    if checked.shape[0] < 3 or checked.shape[1] < 2:
        raise InputError(
            f"Friedman's test takes at least 3 systems and 2 machine types, not {checked.shape[0]} and "
            f"{checked.shape[1]}"
        )
    if (checked == checked[0]).all():
        return Friedman(0.0, 1.0)
    test = friedmanchisquare(*checked)
    return Friedman(float(test.statistic), float(test.pvalue))


def critical_difference(n_systems: int, n_types: int, *, confidence: float = 0.95) -> float:
    """Return the difference of two average ranks that Nemenyi's test calls significant.

    Demsar's table 5 has 2.343 for three systems: the quantile of the studentized range over the root of 2.

    >>> round(critical_difference(3, 14), 3) == round(2.343 * (3 * 4 / (6 * 14)) ** 0.5, 3)
    True
    """
    from scipy.stats import studentized_range

    quantile = studentized_range.ppf(confidence, n_systems, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(n_systems * (n_systems + 1) / (6 * n_types)))


def groups(average_ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """Return the largest groups of systems whose average ranks differ by less than ``difference``.

    ``average_ranks`` are sorted, the best first. A group is the places of its first and last system; a system
    that differs from both its neighbors is in no group.

    >>> groups([1.2, 1.9, 2.1, 4.8], 0.8)
    [(0, 1), (1, 2)]
    """
    found: list[tuple[int, int]] = []
    for first, best in enumerate(average_ranks):
        last = max(place for place, rank in enumerate(average_ranks) if rank - best < difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def wilcoxon(scores: npt.ArrayLike, others: npt.ArrayLike) -> float:
    """Return the p value of Wilcoxon's signed-rank test of two systems on the same machine types.

    Machine types on which both have the same score are left out; without any others the p value is 1.

    >>> wilcoxon([0.9, 0.8, 0.7, 0.9, 0.8], [0.8, 0.6, 0.4, 0.5, 0.3])
    0.0625
    """
    from scipy import stats

    both = _checked(np.stack([scores, others]))
    differences = both[0] - both[1]
    differences = differences[differences != 0]
    return float(stats.wilcoxon(differences).pvalue) if differences.size else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number by Holm's method, in the same order.

    The chance that any true null hypothesis has a corrected value below a level is at most that level.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for step, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - step) * p_values[place]))
        corrected[place] = largest
    return corrected


def _checked(scores: npt.ArrayLike) -> FloatArray:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise InputError(f"scores have shape {array.shape}; give (system, machine type)")
    if not np.isfinite(array).all():
        raise InputError("a score is not finite; every system needs one on every machine type")
    return array
