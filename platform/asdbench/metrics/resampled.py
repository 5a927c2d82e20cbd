"""Intervals of official scores and of their differences, from resampled clips, seeds and machine types.

Idea: a score is uncertain because other clips, other seeds or other machine types would have given another
one. Each source has a variance and degrees of freedom:

- clips or recordings: the variance of the resampled scores, with as many degrees of freedom as there are
  units to draw, less one for each stratum (`asdbench.metrics.units`);
- S seeds: s²/S, s being the standard deviation (n − 1) over seeds of the score, or of the paired difference,
  with S − 1 degrees of freedom;
- T machine types, for machines like these: the variance of scores for which machine types were drawn too,
  T − 1 of T, with T − 1 degrees of freedom. Clips within each drawn type are resampled as well. As the spread
  between machine types contains that of their clips, the interval is a little wider than needed.

The distances from the score to the percentiles of the resampled scores, and that of the seeds, are multiplied
by t/z: the quantiles of Student's t and of the normal distribution, with the degrees of freedom of the sum of
variances by Satterthwaite's formula. The squares of both distances are added, so that an interval keeps the
lopsided shape that resampled clips give it.

Why seeds are not resampled: a bootstrap of S values finds (S − 1)/S of their variance, and its percentiles
are those of a normal distribution where t is needed. Where only seeds matter, three seeds give 0.82 ·
1.96/4.30 of the width that is needed, three eighths. ``docs/metrics.md`` says how often that calls a true
zero difference sure.

With one seed nothing tells how far seeds differ, and with two hardly anything: below :data:`LEAST_SEEDS` no
difference is called sure.

Known limits: intervals from few recordings are too narrow all the same, as percentiles of so few values are;
`asdbench.metrics.bootstrap.few_recordings` names those. A seed's luck with single clips is counted twice, as
clips and as seeds.

Sources: F. E. Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics
Bulletin 2(6), 1946; for adding squared distances, G. Y. Zou and A. Donner, "Construction of confidence limits
about effect measures: a general approach", Statistics in Medicine 27(10), 2008.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from asdbench.errors import InputError
from asdbench.metrics.roc import FloatArray

LEAST_SEEDS = 3  # with fewer, no difference is called sure
LEAST_TYPES = 3  # with fewer, there is no interval for machines like these
_STEPS = 30  # halvings in the search for a p-value

Interval = tuple[float, float]


class Part(NamedTuple):
    """A part of a score's variance, and the degrees of freedom of its estimate."""

    variance: float
    freedom: float


@dataclass(frozen=True, eq=False)
class Resampled:
    """Observed and resampled official scores.

    Attributes
    ----------
    per_seed : for each system, shape (seed,)
        The official score of each seed.
    resampled : shape (resample, system)
        The mean over seeds of the official score, for each resample of clips or recordings.
    freedom : for each system, optional
        The degrees of freedom of the variance of ``resampled``; by default infinity.
    machine_types : int
        The number of machine types.
    like_these : shape (resample, system), or None
        The same as ``resampled``, with machine types resampled too; None for fewer than `LEAST_TYPES` types.
    """

    per_seed: Sequence[FloatArray]
    resampled: FloatArray
    freedom: Sequence[float] = ()
    machine_types: int = 1
    like_these: FloatArray | None = None

    @property
    def observed(self) -> FloatArray:
        """The mean over seeds of the official score, shape (system,)."""
        return np.array([scores.mean() for scores in self.per_seed])

    def interval(self, system: int, *, confidence: float = 0.95) -> Interval:
        """Return the lower and upper end of the interval of a system's score on these machines."""
        return self._score_interval(system, self.resampled, self._least_freedom(system), confidence)

    def interval_like_these(self, system: int, *, confidence: float = 0.95) -> Interval | None:
        """Return the interval of a system's score on machines like these, ``None`` for few types."""
        if self.like_these is None:
            return None
        return self._score_interval(system, self.like_these, self.machine_types - 1, confidence)

    def difference(self, system: int, other: int) -> float:
        """Return the score of ``other`` minus that of ``system``."""
        return float(self.observed[other] - self.observed[system])

    def difference_interval(self, system: int, other: int, *, confidence: float = 0.95) -> Interval:
        """Return the lower and upper end of the interval of that difference on these machines."""
        freedom = self._least_freedom(system, other)
        return self._difference_interval(system, other, self.resampled, freedom, confidence)

    def difference_interval_like_these(
        self, system: int, other: int, *, confidence: float = 0.95
    ) -> Interval | None:
        """Return the interval of that difference on machines like these, ``None`` for few types."""
        if self.like_these is None:
            return None
        return self._difference_interval(system, other, self.like_these, self.machine_types - 1, confidence)

    def has_enough_seeds(self, system: int, other: int) -> bool:
        """Return whether both systems have the seeds that a sure difference needs."""
        return min(self.per_seed[system].size, self.per_seed[other].size) >= LEAST_SEEDS

    def is_sure(self, system: int, other: int, *, confidence: float = 0.95) -> bool:
        """Return whether the interval of the difference excludes zero, and there are enough seeds."""
        return self.has_enough_seeds(system, other) and self._excludes_zero(system, other, confidence)

    def p_value(self, system: int, other: int) -> float:
        """Return the least p for which the interval of confidence 1 − p of the difference excludes zero.

        It is two-sided, on these machines, and does not look at the number of seeds. Resamples do not tell a
        p below 1/(number of resamples + 1) from that, which is what is returned.
        """
        low, high = 1 / (len(self.resampled) + 1), 1.0
        if self._excludes_zero(system, other, 1 - low):
            return low
        for _ in range(_STEPS):
            middle = math.sqrt(low * high)
            is_excluded = middle < 1 and self._excludes_zero(system, other, 1 - middle)
            low, high = (low, middle) if is_excluded else (middle, high)
        return high

    def _least_freedom(self, *systems: int) -> float:
        return min(self.freedom[system] for system in systems) if self.freedom else math.inf

    def _excludes_zero(self, system: int, other: int, confidence: float) -> bool:
        low, high = self.difference_interval(system, other, confidence=confidence)
        return low > 0 or high < 0

    def _score_interval(
        self, system: int, resampled: FloatArray, freedom: float, confidence: float
    ) -> Interval:
        scores = self.per_seed[system]
        ends = interval_around(
            scores.mean(), resampled[:, system], seed_parts([scores]), freedom=freedom, confidence=confidence
        )
        return max(ends[0], 0.0), min(ends[1], 1.0)

    def _difference_interval(
        self, system: int, other: int, resampled: FloatArray, freedom: float, confidence: float
    ) -> Interval:
        first, second = self.per_seed[system], self.per_seed[other]
        parts = seed_parts([second - first] if first.size == second.size else [first, second])
        ends = interval_around(
            self.difference(system, other),
            resampled[:, other] - resampled[:, system],
            parts,
            freedom=freedom,
            confidence=confidence,
        )
        return max(ends[0], -1.0), min(ends[1], 1.0)


def seed_parts(values: Sequence[FloatArray]) -> list[Part]:
    """Return the variance that seeds give to the mean of each of ``values``, shape (seed,).

    A single seed has no part. Systems of different numbers of seeds have one each, paired ones have that of
    their difference.

    >>> [(round(part.variance, 6), part.freedom) for part in seed_parts([np.array([0.6, 0.62, 0.64])])]
    [(0.000133, 2)]
    """
    return [Part(float(each.var(ddof=1)) / each.size, each.size - 1) for each in values if each.size > 1]


def interval_around(
    center: float,
    resampled: FloatArray,
    seeds: Sequence[Part],
    *,
    freedom: float = math.inf,
    confidence: float = 0.95,
) -> Interval:
    """Return the interval of a value from its resamples and from the parts of its variance due to seeds.

    Parameters
    ----------
    center
        The value.
    resampled : shape (resample,)
        The value of each resample.
    seeds
        What seeds add to its variance.
    freedom
        Degrees of freedom of the variance of the resamples.
    confidence
        The confidence of the interval, between 0 and 1.

    Examples
    --------
    >>> resampled = np.random.default_rng(0).normal(0.6, 0.01, 10_000)
    >>> [round(end, 3) for end in interval_around(0.6, resampled, [])]
    [0.58, 0.62]
    >>> [round(end, 3) for end in interval_around(0.6, resampled, [Part(0.0001, 2)])]
    [0.567, 0.633]
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; give a fraction between 0 and 1, such as 0.95")
    of_resamples = Part(float(resampled.var()), freedom)
    quantile = student(degrees_of_freedom([of_resamples, *seeds]), confidence)
    stretch = quantile / student(math.inf, confidence)
    of_seeds = quantile * math.sqrt(sum(part.variance for part in seeds))
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    below, above = max(float(center - low), 0.0), max(float(high - center), 0.0)
    return (
        float(center - math.hypot(below * stretch, of_seeds)),
        float(center + math.hypot(above * stretch, of_seeds)),
    )


def degrees_of_freedom(parts: Sequence[Part]) -> float:
    """Return the degrees of freedom of a sum of variances, by Satterthwaite; infinity for a sum of 0.

    >>> degrees_of_freedom([Part(1, 4), Part(1, 4)]), degrees_of_freedom([Part(1, 4), Part(0, 1)])
    (8.0, 4.0)
    """
    total = sum(part.variance for part in parts)
    uncertain = sum(part.variance**2 / part.freedom for part in parts)
    return total**2 / uncertain if uncertain > 0 else math.inf


def student(freedom: float, confidence: float) -> float:
    """Return the (1 + confidence)/2 quantile of Student's t; of the normal distribution for infinity."""
    from scipy import special  # here, because a leaderboard does without it

    share = (1 + confidence) / 2
    return float(special.ndtri(share) if math.isinf(freedom) else special.stdtrit(freedom, share))
