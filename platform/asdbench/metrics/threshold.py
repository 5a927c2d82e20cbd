"""Decision thresholds by name: the score that a share of normal clips does not exceed.

Idea: a clip is classified as anomalous if its score exceeds the scores of all but, say, 10 % of normal clips.
Three methods estimate this threshold from a few normal clips:

- ``gamma``: the quantile of a gamma distribution fitted to all scores.
- ``empirical``: the quantile of the scores themselves, at rank percentile · (n + 1). Of n + 1 clips drawn
  alike, any is equally likely to have any rank, so a further normal clip exceeds the k-th of n scores with
  chance 1 − k/(n + 1), whatever the distribution. Between ranks it is interpolated; beyond the last it is the
  largest score, and the false alarm rate then is 1/(n + 1) at best. Clips of one recording are not drawn
  independently: recordings are, so n counts recordings, and the clips of each share its weight.
- ``tail``: the quantile of a generalized Pareto distribution fitted to the scores in the upper tail alone,
  which is the limit of the tail of nearly all distributions; what the bulk of the scores looks like does not
  matter, and the threshold may lie beyond all scores.

Nobody knows the domain of a clip that is scored, so one threshold must do for all domains: the largest of
those of each domain, `shared_threshold`. It promises at most the nominal rate in each, and keeps it in the
domain whose scores are higher. A rate of 1 − percentile takes at least `least_groups` recordings (or clips,
where recordings are unknown) of a domain: with fewer, even the largest score is exceeded more often.

Conventions: ``scores`` has shape (clip,), of either sign; a clip is classified as anomalous if its score is
*above* the threshold. Scaling and shifting the scores scales and shifts the threshold. Equal scores, or a
single one, give that score, so that none of them is classified as anomalous. 1 − percentile is the nominal
false alarm rate.

Sources: for ``gamma`` the official baseline (N. Harada et al., "First-shot anomaly sound detection for
machine condition monitoring: a domain generalization baseline", EUSIPCO 2023), which fits shape, location and
scale by maximum likelihood and takes the 0.9 quantile. For ``tail`` J. Pickands, "Statistical inference using
extreme order statistics", Annals of Statistics 3(1), 1975; its parameters are estimated by
probability-weighted moments, J. R. M. Hosking and J. R. Wallis, "Parameter and quantile estimation for the
generalized Pareto distribution", Technometrics 29(3), 1987, which vary less than maximum likelihood in
samples this small.

Departure: the gamma distribution's location is fixed at one standard deviation of the scores below their
minimum; shape and scale are fitted. Standardized scores are negative for half of the clips, so 0 cannot be
the location, and a free location leaves the likelihood without a maximum (it is unbounded near the smallest
score), so that the result depends on where the optimizer starts. The distance matters: a location immediately
below the minimum lets that one score rule the fit. With 99 scores and a nominal false alarm rate of 10 %, a
distance of 1e-6 of the mean excess over the minimum gave 1.6 % for Gaussian scores and 5.9 % for gamma scores
of shape 5; one standard deviation gave 8.1 % and 10.7 %.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from asdbench.errors import InputError, unknown_name
from asdbench.metrics.roc import BoolArray, FloatArray, clip_scores

_LEAST_TAIL = 10  # scores that a tail is fitted to, where there are as many


def gamma_threshold(scores: npt.ArrayLike, *, percentile: float = 0.9) -> float:
    """Return the score that a share ``percentile`` of normal clips does not exceed, by a gamma distribution.

    Parameters
    ----------
    scores : shape (clip,)
        Anomaly scores of normal clips, finite, of either sign.
    percentile : float
        The share, a fraction between 0 and 1.

    Returns
    -------
    float
        The threshold, finite, in the unit of the scores.

    Raises
    ------
    InputError
        There is no score, a score is NaN or infinite, or ``percentile`` is outside (0, 1).

    Examples
    --------
    >>> scores = np.random.default_rng(0).gamma(5.0, size=1000)
    >>> round(gamma_threshold(scores, percentile=0.9), 1)
    7.9
    """
    scored = _checked(scores, percentile)
    lowest = scored.min()
    spread = scored.max() - lowest
    if spread == 0:
        return float(lowest)
    from scipy import stats  # here, because it takes half a second, which a leaderboard does without

    # In units of the spread first: the squares of the scores themselves could overflow or vanish.
    relative = (scored - lowest) / spread
    deviation = relative.std()
    shape, _, size = stats.gamma.fit(relative / deviation + 1, floc=0)
    quantile = stats.gamma.ppf(percentile, shape, scale=size)
    return float(lowest + spread * deviation * (quantile - 1))


def empirical_threshold(
    scores: npt.ArrayLike, *, percentile: float = 0.9, groups: npt.ArrayLike | None = None
) -> float:
    """Return the score that a share ``percentile`` of normal clips does not exceed, by the scores' ranks.

    Parameters
    ----------
    scores, percentile
        As for `gamma_threshold`.
    groups : shape (clip,)
        Group of each clip, such as its recording. Groups count alike, however many clips they have. By
        default every clip is a group.

    Returns
    -------
    float
        As for `gamma_threshold`.

    Raises
    ------
    InputError
        As for `gamma_threshold`, and where not every score has a group.

    Examples
    --------
    >>> round(empirical_threshold(range(1, 100), percentile=0.9), 6)
    90.0
    >>> empirical_threshold([1, 2, 3, 8], percentile=0.5, groups=["a", "a", "a", "b"])
    5.5
    """
    scored = _checked(scores, percentile)
    group = _indices(groups, scored.size)
    sizes = np.bincount(group)
    share = 1 / (sizes[group] * (sizes.size + 1))
    order = np.argsort(scored, kind="stable")
    return float(np.interp(percentile, np.cumsum(share[order]), scored[order]))


def tail_threshold(scores: npt.ArrayLike, *, percentile: float = 0.9, tail_share: float = 0.25) -> float:
    """Return the score that a share ``percentile`` of normal clips does not exceed, by their upper tail.

    Parameters
    ----------
    scores, percentile
        As for `gamma_threshold`.
    tail_share : float
        The share of the highest scores that a generalized Pareto distribution is fitted to; at least ten
        scores, or all but one if there are fewer.

    Returns
    -------
    float
        As for `gamma_threshold`.

    Raises
    ------
    InputError
        As for `gamma_threshold`, and if ``tail_share`` is not between 1 − percentile and 1.

    Examples
    --------
    >>> round(tail_threshold(np.arange(1.0, 100.0), percentile=0.9), 1)
    90.0
    """
    scored = np.sort(_checked(scores, percentile))
    if not 1 - percentile <= tail_share < 1:
        raise InputError(
            f"tail_share is {tail_share}; the tail must contain the threshold, so give a fraction from "
            f"{1 - percentile:.4g} (1 − percentile) to below 1"
        )
    spread = scored[-1] - scored[0]
    if spread == 0:
        return float(scored[0])
    count = min(max(math.ceil(tail_share * scored.size), _LEAST_TAIL), scored.size - 1)
    start = scored[-count - 1]
    excess = (scored[-count:] - start) / spread
    # A further clip exceeds ``start`` with chance (count + 1)/(n + 1), as in `empirical_threshold`.
    beyond = min((1 - percentile) * (scored.size + 1) / (count + 1), 1.0)
    return float(start + spread * _pareto_quantile(excess, beyond))


DEFAULT_THRESHOLD = "empirical"  # the best calibrated of them: see docs/metrics.md

THRESHOLDS: dict[str, Callable[..., float]] = {
    "gamma": gamma_threshold,
    "empirical": empirical_threshold,
    "tail": tail_threshold,
}


def threshold(
    scores: npt.ArrayLike, *, method: str, percentile: float = 0.9, groups: npt.ArrayLike | None = None
) -> float:
    """Return the threshold by the method of that name in ``THRESHOLDS``.

    ``groups`` are those of `empirical_threshold`; the other methods fit all scores alike.

    Raises
    ------
    InputError
        There is no such method, or as for `empirical_threshold`.

    Examples
    --------
    >>> round(threshold(range(1, 100), method="empirical"), 6)
    90.0
    """
    if method not in THRESHOLDS:
        raise unknown_name("threshold method", method, THRESHOLDS)
    grouped = {"groups": groups} if method == "empirical" else {}
    return THRESHOLDS[method](scores, percentile=percentile, **grouped)


def shared_threshold(
    scores: npt.ArrayLike,
    domains: npt.ArrayLike,
    *,
    method: str,
    percentile: float = 0.9,
    groups: npt.ArrayLike | None = None,
) -> float:
    """Return the largest of the thresholds of each domain, for clips whose domain is unknown.

    Parameters
    ----------
    scores, method, percentile, groups
        As for `threshold`.
    domains : shape (clip,)
        Domain of each clip.

    Examples
    --------
    >>> shared_threshold([1, 2, 3, 10, 11, 12], ["source"] * 3 + ["target"] * 3, method="empirical")
    12.0
    """
    scored, domain = np.asarray(scores), np.asarray(domains)
    group = _indices(groups, scored.size)
    return max(
        threshold(scored[domain == name], method=method, percentile=percentile, groups=group[domain == name])
        for name in np.unique(domain)
    )


def least_groups(percentile: float = 0.9) -> int:
    """Return how many clips or recordings a threshold takes that one more exceeds with chance 1 − percentile.

    Examples
    --------
    >>> least_groups(0.9), least_groups(0.95)
    (9, 19)
    """
    return math.ceil(round(1 / (1 - percentile), 9)) - 1


def _indices(groups: npt.ArrayLike | None, n_scores: int) -> npt.NDArray[np.int64]:
    """Return the group of each score as an index."""
    if groups is None:
        return np.arange(n_scores)
    index = np.unique(groups, return_inverse=True)[1]
    if index.shape != (n_scores,):
        raise InputError(f"there are {n_scores} scores and {index.size} groups; give each score its group")
    return index


def _checked(scores: npt.ArrayLike, percentile: float) -> FloatArray:
    scored = clip_scores(scores)
    if not 0 < percentile < 1:
        raise InputError(f"percentile is {percentile}; give a fraction between 0 and 1, such as 0.9")
    return scored


def _pareto_quantile(excess: FloatArray, beyond: float) -> float:
    """Return the value that a share ``beyond`` of a distribution fitted to ``excess`` (sorted, ≥ 0) exceeds.

    With α_s the mean of (1 − F)^s · excess, the shape (positive: heavy tail) is 2 − α_0 / (α_0 − 2α_1) and
    the scale 2α_0α_1 / (α_0 − 2α_1): equation 12 of Hosking and Wallis with the opposite sign of the shape.
    """
    count = excess.size
    mean = float(excess.mean())
    if count == 1 or excess[0] == excess[-1]:
        return mean
    weighted = float((np.arange(count - 1, -1, -1) / (count - 1) * excess).mean())
    scatter = mean - 2 * weighted
    shape = 2 - mean / scatter
    scale = 2 * mean * weighted / scatter
    return scale * (math.expm1(-shape * math.log(beyond)) / shape if shape else -math.log(beyond))


def left_out_alarms(
    scores: npt.ArrayLike,
    *,
    method: str,
    percentile: float = 0.9,
    groups: npt.ArrayLike | None = None,
    domains: npt.ArrayLike | None = None,
    units: npt.ArrayLike | None = None,
    folds: int = 10,
) -> BoolArray | None:
    """Return whether each normal clip exceeds the threshold from clips of other groups.

    The scores of each fold are compared with the threshold from all other folds. Compare the share of false
    alarms with the nominal 1 − percentile.

    Parameters
    ----------
    scores : shape (clip,)
        Anomaly scores of normal clips; at least two.
    method, percentile
        As for `threshold`.
    groups : shape (clip,)
        Group of each clip, such as its recording: a threshold from clips of the same recording would be too
        good. By default every clip is a group.
    domains : shape (clip,)
        Domain of each clip, as for `shared_threshold`. By default there is one.
    units : shape (clip,)
        What ranks count, the ``groups`` of `empirical_threshold`. By default every clip.
    folds : int
        Number of folds of whole groups; every ``folds``-th group, in sorted order, is in the same one.

    Returns
    -------
    Bool[ndarray, "clip"]
        ``None`` where there is a single group: no other recording tells a threshold.

    Raises
    ------
    InputError
        As for `threshold`, for a single score, and where not every score has a group.

    Examples
    --------
    >>> int(left_out_alarms(range(1, 100), method="empirical", percentile=0.9).sum())
    9
    >>> left_out_alarms([1, 2, 3, 11, 12, 13], method="empirical", groups=[0, 0, 0, 1, 1, 1])
    array([False, False, False,  True,  True,  True])
    """
    scored = _checked(scores, percentile)
    if scored.size < 2:
        raise InputError("a cross-fitted threshold needs the scores of other clips; give at least two scores")
    fold = _indices(groups, scored.size) % folds
    if not fold.any():
        return None
    domain = np.zeros(scored.size) if domains is None else np.asarray(domains)
    unit = _indices(units, scored.size)
    exceeds = np.zeros(scored.size, bool)
    for left_out in np.unique(fold):
        kept = fold != left_out
        limit = shared_threshold(
            scored[kept], domain[kept], method=method, percentile=percentile, groups=unit[kept]
        )
        exceeds[~kept] = scored[~kept] > limit
    return exceeds


def binomial_interval(count: int, n_trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval of a probability after ``count`` successes (Clopper and Pearson, 1934).

    Examples
    --------
    >>> low, high = binomial_interval(10, 100)
    >>> round(low, 3), round(high, 3)
    (0.049, 0.176)
    """
    from scipy import stats

    interval = stats.binomtest(count, n_trials).proportion_ci(confidence)
    return float(interval.low), float(interval.high)
