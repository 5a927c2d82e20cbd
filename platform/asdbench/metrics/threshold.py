"""The decision threshold: a quantile of the gamma distribution fitted to the scores of normal clips.

Idea: a clip is called an anomaly where its score exceeds what all but, say, 10 % of normal clips reach. The
gamma distribution turns that into a number from few clips.

Source: the official baseline (N. Harada et al., "First-shot anomaly sound detection for machine condition
monitoring: a domain generalization baseline", EUSIPCO 2023) fits shape, location and scale by maximum
likelihood and takes the 0.9 quantile.

Departure: the location is fixed at one standard deviation of the scores below their minimum; shape and scale
are fitted. Standardised scores are negative for half of the clips, so 0 cannot be the location, and a free
location leaves the likelihood without a maximum (it is unbounded near the smallest score), so that the result
depends on where the optimiser starts. The distance matters: a location immediately below the minimum lets
that one score rule the fit. With 99 scores and a nominal false alarm rate of 10 %, a distance of 1e-6 of
the mean excess over the minimum gave 1.6 % for Gaussian scores and 5.9 % for gamma scores of shape 5; one
standard deviation gave 8.1 % and 10.7 %.
"""

import numpy.typing as npt
from scipy import stats

from asdbench.errors import InputError
from asdbench.metrics.roc import clip_scores


def gamma_threshold(scores: npt.ArrayLike, *, percentile: float = 0.9) -> float:
    """Return the score that a share ``percentile`` of normal clips does not exceed.

    A clip is decided anomalous where its score is *above* the threshold. Scores that are scaled and shifted
    give the threshold scaled and shifted. Equal scores, or a single one, give that score, so that none of
    them is called an anomaly.

    Parameters
    ----------
    scores : shape (clip,)
        Anomaly scores of normal clips, finite, of either sign.
    percentile : float
        The share, a fraction between 0 and 1; 1 − percentile is the nominal false alarm rate.

    Returns
    -------
    float
        The threshold, finite, in the unit of the scores.

    Raises
    ------
    InputError
        There is no score, a score is NaN or infinite, or ``percentile`` lies outside (0, 1).
    """
    scored = clip_scores(scores)
    if not 0 < percentile < 1:
        raise InputError(f"percentile is {percentile}; give a fraction between 0 and 1, such as 0.9")
    lowest = scored.min()
    spread = scored.max() - lowest
    if spread == 0:
        return float(lowest)
    # In units of the spread first: the squares of the scores themselves could overflow or vanish.
    relative = (scored - lowest) / spread
    deviation = relative.std()
    shape, _, size = stats.gamma.fit(relative / deviation + 1, floc=0)
    quantile = stats.gamma.ppf(percentile, shape, scale=size)
    return float(lowest + spread * deviation * (quantile - 1))
