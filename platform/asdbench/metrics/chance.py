"""Areas under the ROC curve that are so far below chance that the labels may be swapped.

Conventions
-----------
Scores that say nothing about n normal clips and m anomalies have an AUC of 0.5 with the standard deviation
sqrt((n + m + 1) / (12 n m)), the one of the Mann-Whitney statistic. An AUC is far below chance if it is more
than four of these below 0.5, and below 0.25: a detector that ranks a domain shift above the anomalies is
often somewhat below chance, with correct labels.

Source
------
Mann, H. B., & Whitney, D. R. (1947). On a test of whether one of two random variables is stochastically
larger than the other. Annals of Mathematical Statistics, 18(1), 50-60.
"""

from collections.abc import Mapping
from math import sqrt

import numpy as np
import numpy.typing as npt

from asdbench.metrics.official import Rule, metric_clips
from asdbench.metrics.roc import clip_flags

_FAR_BELOW = 0.25
_N_DEVIATIONS = 4.0


def is_far_below_chance(auc: float, *, n_normal: int, n_anomalous: int) -> bool:
    """Return whether an AUC is so low that noise does not explain it.

    Examples
    --------
    >>> is_far_below_chance(0.08, n_normal=50, n_anomalous=50)
    True
    >>> is_far_below_chance(0.08, n_normal=4, n_anomalous=4)
    False
    """
    deviation = sqrt((n_normal + n_anomalous + 1) / (12 * n_normal * n_anomalous))
    return auc < min(_FAR_BELOW, 0.5 - _N_DEVIATIONS * deviation)


def aucs_far_below_chance(
    metrics: Mapping[str, float], anomalous: npt.ArrayLike, target: npt.ArrayLike, *, rule: Rule
) -> list[str]:
    """Return the names of the AUCs among a rule's metrics that are far below chance; pAUCs do not count.

    Parameters
    ----------
    metrics : mapping
        Metrics by name, of one section or their mean over sections.
    anomalous, target : shape (clip,), bool
        True for an anomaly; True for the target domain.
    rule : Rule
        The rule of the metrics.

    Raises
    ------
    InputError
        A metric lacks a normal clip or an anomaly.
    """
    flags = clip_flags("anomalous", anomalous, count=np.size(anomalous))
    below = []
    for name, (clips, _) in metric_clips(flags, target, rule=rule).items():
        n_anomalous = int(flags[clips].sum())
        n_normal = int(clips.sum()) - n_anomalous
        is_auc = name.startswith("auc") and name in metrics
        if is_auc and is_far_below_chance(metrics[name], n_normal=n_normal, n_anomalous=n_anomalous):
            below.append(name)
    return below
