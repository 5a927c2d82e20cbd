"""The official evaluator's AUC, pAUC and jackknife, to the last digit.

Idea: the evaluator prints all digits, and equal formulas with a different order of operations differ in the
last digits. `asdbench.metrics.roc` counts pairs, which is exact and fast; the evaluator builds a ROC curve,
keeps its corners and sums the trapezoids below it. This module performs those operations in that order, so
that its results equal the evaluator's bit by bit. To leave out a clip it deletes the clip from the sorted
scores instead of sorting again, which gives the same curve.

Conventions: ``scores`` has shape (clip,), higher = more anomalous; ``anomalous`` has shape (clip,), bool.

Sources: nttcslab/dcase2023_task2_evaluator, which takes ``sklearn.metrics.roc_auc_score`` for AUC and pAUC;
`asdbench.metrics.intervals` discusses the validity of its jackknife.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import integrate, stats

from asdbench.errors import InputError
from asdbench.metrics.roc import BoolArray, FloatArray, check_max_fpr, scored_clips, standardized


def roc_area(scores: npt.ArrayLike, anomalous: npt.ArrayLike, *, max_fpr: float = 1.0) -> float:
    """Return the AUC, or the standardized partial AUC, with the digits of ``roc_auc_score``.

    The parameters and errors are those of `asdbench.metrics.partial_auc`; ``max_fpr=1`` gives the AUC.

    Examples
    --------
    >>> roc_area([0.1, 0.4, 0.4, 0.8], [False, False, True, True])
    0.875
    """
    scored, flags = scored_clips(scores, anomalous)
    check_max_fpr(max_fpr)
    order = np.argsort(-scored, kind="stable")
    return _area(scored[order], flags[order], max_fpr)


def jackknife(
    scores: npt.ArrayLike, anomalous: npt.ArrayLike, *, max_fpr: float = 1.0, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the jackknife estimate of the area and the half-width of its interval, as the evaluator does.

    Parameters
    ----------
    scores, anomalous, max_fpr
        As for `roc_area`; the last digits depend on the order of the clips.
    confidence : float
        The confidence of the interval, between 0 and 1.

    Returns
    -------
    tuple
        The mean of the pseudo-values, and the half-width, which is too narrow for a confidence interval
        (see `asdbench.metrics.intervals`).

    Raises
    ------
    InputError
        As for `roc_area`, and if there are fewer than two anomalies or normal clips.

    Examples
    --------
    >>> estimate, half_width = jackknife([1, 2, 3, 2.5, 4, 5], [False, False, False, True, True, True])
    >>> round(estimate, 3), round(half_width, 3)
    (0.889, 0.09)
    """
    scored, flags = scored_clips(scores, anomalous)
    if min(np.count_nonzero(flags), np.count_nonzero(~flags)) < 2:
        raise InputError(
            f"there are {np.count_nonzero(flags)} anomalies and {np.count_nonzero(~flags)} normal clips; "
            "leaving out each clip in turn needs at least two of each"
        )
    order = np.argsort(-scored, kind="stable")
    ranked, labels = scored[order], flags[order]
    count = scored.size
    left_out = np.empty(count)
    for rank, clip in enumerate(order):
        left_out[clip] = _area(np.delete(ranked, rank), np.delete(labels, rank), max_fpr)
    full = _area(ranked, labels, max_fpr)
    estimate = np.mean([count * full - (count - 1) * without for without in left_out])
    mean = np.mean(left_out)
    # Python's power of each number: that of an array sometimes differs in the last digit.
    squares = np.sum([(without - mean) ** 2 for without in left_out])
    t = abs(stats.t.ppf((1 - confidence) / 2, count - 1))
    return float(estimate), float(t * math.sqrt(squares / (count * (count - 1))))


def _area(scores: FloatArray, flags: BoolArray, max_fpr: float) -> float:
    """Return the area for clips sorted by descending score; both classes are present."""
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
