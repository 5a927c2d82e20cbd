"""The official evaluator's AUC, pAUC and jackknife, to the last digit.

Idea: the evaluator writes floating-point numbers in full, and equal formulas in another order of operations
differ in the last digits. `asdbench.metrics.roc` counts pairs, which is exact and quick; what the evaluator
prints comes from a ROC curve with its corners kept and the trapezoids under it summed. This module does those
operations in that order, so that its results equal the evaluator's bit by bit. To leave one clip out it drops
it from the sorted scores instead of starting anew, which gives the same curve.

Conventions: ``scores`` has shape (clip,), higher = more anomalous; ``anomalous`` has shape (clip,), bool.

Sources: nttcslab/dcase2023_task2_evaluator, which takes ``sklearn.metrics.roc_auc_score`` for AUC and pAUC;
`asdbench.metrics.intervals` says what its jackknife is worth.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import integrate, stats

from asdbench.errors import InputError
from asdbench.metrics.roc import BoolArray, FloatArray, check_max_fpr, scored_clips, standardized


def roc_area(scores: npt.ArrayLike, anomalous: npt.ArrayLike, *, max_fpr: float = 1.0) -> float:
    """Return the AUC, or the standardized partial AUC, with the digits of ``roc_auc_score``.

    The parameters and the errors are those of `asdbench.metrics.partial_auc`; 1 gives the AUC.
    """
    scored, flags = scored_clips(scores, anomalous)
    check_max_fpr(max_fpr)
    order = np.argsort(-scored, kind="stable")
    return _area(scored[order], flags[order], max_fpr)


def jackknife(
    scores: npt.ArrayLike, anomalous: npt.ArrayLike, *, max_fpr: float = 1.0, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the jackknife estimate of that area and the half-width of its interval, as the evaluator does.

    Parameters
    ----------
    scores, anomalous, max_fpr
        As for `roc_area`; the last digits depend on the order of the clips.
    confidence : float
        The confidence of the interval, between 0 and 1.

    Returns
    -------
    tuple
        The mean of the pseudo-values, and the half-width; the half-width is too narrow for what it is called
        (see `asdbench.metrics.intervals`).

    Raises
    ------
    InputError
        As for `roc_area`, and where there are fewer than two anomalies or normal clips.
    """
    scored, flags = scored_clips(scores, anomalous)
    if min(np.count_nonzero(flags), np.count_nonzero(~flags)) < 2:
        raise InputError(
            f"there are {np.count_nonzero(flags)} anomalies and {np.count_nonzero(~flags)} normal clips; "
            "leaving each clip out in turn needs two of each or more"
        )
    order = np.argsort(-scored, kind="stable")
    ranked, labels = scored[order], flags[order]
    count = scored.size
    left_out = np.empty(count)
    for place, clip in enumerate(order):
        left_out[clip] = _area(np.delete(ranked, place), np.delete(labels, place), max_fpr)
    whole = _area(ranked, labels, max_fpr)
    estimate = np.mean([count * whole - (count - 1) * without for without in left_out])
    mean = np.mean(left_out)
    # Python's power of each number: an array's differs in the last digit now and then.
    squares = np.sum([(without - mean) ** 2 for without in left_out])
    t = abs(stats.t.ppf((1 - confidence) / 2, count - 1))
    return float(estimate), float(t * math.sqrt(squares / (count * (count - 1))))


def _area(scores: FloatArray, flags: BoolArray, max_fpr: float) -> float:
    """Return the area of clips sorted by falling score; both classes are there."""
    last = np.append(np.flatnonzero(np.diff(scores)), scores.size - 1)  # of each group of equal scores
    hits = np.cumsum(flags, dtype=np.float64)[last]
    alarms = 1 + last.astype(np.float64) - hits
    if last.size > 2:
        corner = np.ones(last.size, dtype=bool)
        corner[1:-1] = (np.diff(alarms, 2) != 0) | (np.diff(hits, 2) != 0)
        hits, alarms = hits[corner], alarms[corner]
    fpr = np.append(0.0, alarms) / alarms[-1]
    tpr = np.append(0.0, hits) / hits[-1]
    if max_fpr == 1:
        return float(integrate.trapezoid(tpr, fpr))
    stop = int(np.searchsorted(fpr, max_fpr, side="right"))
    end = np.interp(max_fpr, fpr[stop - 1 : stop + 1], tpr[stop - 1 : stop + 1])
    area = float(integrate.trapezoid(np.append(tpr[:stop], end), np.append(fpr[:stop], max_fpr)))
    return standardized(area, max_fpr)
