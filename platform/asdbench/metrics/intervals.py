"""Jackknife half-widths: how far an AUC or pAUC moves when one clip, or one recording, is left out.

Idea: with θ₍ᵢ₎ the metric of all clips but clip i, and n clips, the half-width of the interval is
t · sqrt(Σ(θ₍ᵢ₎ − mean θ₍ᵢ₎)² / (n(n − 1))), t being the (1 + confidence)/2 quantile of Student's t with n − 1
degrees of freedom. Counted pairs and sums over sorted anomalies give all n values θ₍ᵢ₎ in O(n log n), instead
of n computations over the clips.

That formula is the official evaluator's. The textbook has sqrt((n − 1)/n · Σ(θ₍ᵢ₎ − mean θ₍ᵢ₎)²): there, the
sum divided by n(n − 1) is over pseudo-values n·θ̂ − (n − 1)·θ₍ᵢ₎, which vary n − 1 times as much as the θ₍ᵢ₎
that the evaluator takes. **The evaluator's half-width is thus n − 1 times too narrow for a confidence
interval.** It is the default because the challenge reports it; ``scale="textbook"`` gives the interval that
contains the true value with about the stated confidence.

Clips cut from one recording resemble one another, so that the textbook's interval leaves out whole recordings
where they are known (`asdbench.metrics.units`): n is then their number. A clip without a recording is left
out alone. Where a domain lacks a class without one of its recordings there is no half-width.

Conventions: ``scores`` has shape (clip,), higher = more anomalous; ``anomalous`` has shape (clip,), bool.

Sources: nttcslab/dcase2023_task2_evaluator, ``jackknife_estimate``, after A. Mesaros et al., "Sound event
detection in the DCASE 2017 challenge", IEEE/ACM TASLP 27(6), 2019, section IV; for the textbook, B. Efron and
C. Stein, "The jackknife estimate of variance", Annals of Statistics 9(3), 1981.
"""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from asdbench.errors import InputError, unknown_name
from asdbench.metrics.official import OFFICIAL, Rule, metric_clips
from asdbench.metrics.roc import (
    BoolArray,
    FloatArray,
    areas,
    check_max_fpr,
    clip_flags,
    clip_scores,
    normals_above_and_tied,
    partial_auc,
    scored_clips,
    standardized,
)
from asdbench.metrics.units import Groups, IntArray, unit_of_clip

Scale = Literal["evaluator", "textbook"]


def jackknife_half_width(
    scores: npt.ArrayLike,
    anomalous: npt.ArrayLike,
    *,
    metric: Literal["auc", "pauc"],
    confidence: float = 0.95,
    max_fpr: float = 0.1,
    scale: Scale = "evaluator",
    groups: Groups | None = None,
) -> float:
    """Return the half-width of the jackknife interval of an AUC or pAUC.

    Parameters
    ----------
    scores : shape (clip,)
        Anomaly scores, finite.
    anomalous : shape (clip,), bool
        True for an anomaly.
    metric : "auc" or "pauc"
        The metric.
    confidence : float
        The confidence of the interval, between 0 and 1.
    max_fpr : float
        The largest false positive rate of the pAUC; not used for the AUC.
    scale : "evaluator" or "textbook"
        The divisor of the official evaluator or of the literature; the module docstring gives both.
    groups : shape (clip,), optional
        The recording of each clip, ``None`` where it is unknown; for the textbook's scale only.

    Returns
    -------
    float
        The half-width, in the unit of the metric.

    Raises
    ------
    InputError
        As for `asdbench.metrics.partial_auc`; there are fewer than two anomalies or normal clips, or none
        without one of the recordings; ``confidence`` is outside (0, 1); or there is no such metric or scale.

    Examples
    --------
    >>> anomalous = [False, False, False, True, True, True]
    >>> round(jackknife_half_width([1, 2, 3, 2.5, 4, 5], anomalous, metric="auc"), 3)
    0.09
    """
    if metric not in ("auc", "pauc"):
        raise unknown_name("metric with a jackknife interval", metric, ("auc", "pauc"))
    _check_groups(groups, scale)
    left_out = leave_one_out(scores, anomalous, max_fpr=1.0 if metric == "auc" else max_fpr, groups=groups)
    return _half_width(left_out, confidence, scale)


def section_half_widths(
    scores: npt.ArrayLike,
    anomalous: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    rule: Rule = OFFICIAL,
    confidence: float = 0.95,
    scale: Scale = "evaluator",
    groups: Groups | None = None,
) -> dict[str, float]:
    """Return the jackknife half-width of each metric of `asdbench.metrics.section_metrics`.

    Each metric is recomputed without each of its clips, or recordings. The parameters and errors are those of
    `asdbench.metrics.section_metrics` and `jackknife_half_width`, but a metric that lacks a class without one
    of the recordings is absent.
    """
    _check_groups(groups, scale)
    scored = clip_scores(scores)
    flags = clip_flags("anomalous", anomalous, count=scored.size)
    units = unit_of_clip(groups, count=scored.size)
    return {
        name: _half_width(
            leave_one_out(scored[clips], flags[clips], max_fpr=max_fpr, groups=units[clips]),
            confidence,
            scale,
        )
        for name, (clips, max_fpr) in metric_clips(flags, target, rule=rule).items()
        if not _is_class_of_one_recording(flags[clips], units[clips])
    }


def official_half_width(
    scores: npt.ArrayLike, anomalous: npt.ArrayLike, *, rule: Rule = OFFICIAL, confidence: float = 0.95
) -> float:
    """Return the value that the official evaluator prints as "official score ci95".

    It is the mean of the half-widths of AUC and pAUC over the pooled clips of all machine types, sections and
    domains, although scores of different types share no scale and the official score is a different number.
    It is not an interval of the official score.

    Parameters
    ----------
    scores : shape (clip,)
        Anomaly scores of all machine types and sections, finite.
    anomalous : shape (clip,), bool
        True for an anomaly.
    rule : Rule
        Its ``max_fpr`` is that of the pAUC.
    confidence : float
        The confidence, between 0 and 1.

    Raises
    ------
    InputError
        As for `jackknife_half_width`.
    """
    widths = (
        _half_width(leave_one_out(scores, anomalous, max_fpr=max_fpr), confidence, "evaluator")
        for max_fpr in (1.0, rule.max_fpr)
    )
    return sum(widths) / 2


def leave_one_out(
    scores: npt.ArrayLike, anomalous: npt.ArrayLike, *, max_fpr: float, groups: Groups | None = None
) -> FloatArray:
    """Return the partial AUC without each clip in turn; shape (clip,), in the order of the clips.

    With ``groups`` it is that without each recording in turn, shape (recording,), in order of their first
    clips. ``max_fpr=1`` gives the AUC. Raises `InputError` as `asdbench.metrics.partial_auc` does, and if
    there are fewer than two anomalies or normal clips, because one of each must remain.

    Examples
    --------
    >>> leave_one_out([1.0, 2.0, 1.5, 3.0], [False, False, True, True], max_fpr=1.0)
    array([0.5, 1. , 1. , 0.5])
    """
    scored, flags = scored_clips(scores, anomalous)
    check_max_fpr(max_fpr)
    units = unit_of_clip(groups, count=scored.size)
    if units.max() + 1 < units.size:
        return _leave_recording_out(scored, flags, units, max_fpr)
    normal = scored[~flags]
    order = np.argsort(scored[flags])
    anomaly = scored[flags][order]
    if min(normal.size, anomaly.size) < 2:
        raise InputError(
            f"there are {anomaly.size} anomalies and {normal.size} normal clips; "
            "leaving out each clip in turn needs at least two of each"
        )
    above, tied = normals_above_and_tied(np.sort(normal), anomaly)
    values = np.empty(scored.size)

    # Without an anomaly, its area is missing from the sum.
    area = areas(above, tied, limit=max_fpr * normal.size)
    without_anomaly = np.empty(anomaly.size)
    without_anomaly[order] = (area.sum() - area) / (normal.size * (anomaly.size - 1))
    values[flags] = without_anomaly

    # Without a normal clip, anomalies scored below it have one normal clip fewer above them, anomalies tied
    # with it one fewer tied, and the limit moves for all of them.
    limit = max_fpr * (normal.size - 1)
    below = np.searchsorted(anomaly, normal, side="left")
    up_to = np.searchsorted(anomaly, normal, side="right")
    if_below = _sums(areas(above - 1, tied, limit=limit))
    if_tied = _sums(areas(above, np.maximum(tied - 1, 0), limit=limit))
    if_above = _sums(areas(above, tied, limit=limit))
    total = if_below[below] + (if_tied[up_to] - if_tied[below]) + (if_above[-1] - if_above[up_to])
    values[~flags] = total / ((normal.size - 1) * anomaly.size)
    return standardized(values, max_fpr)


def _leave_recording_out(
    scores: FloatArray, anomalous: BoolArray, units: IntArray, max_fpr: float
) -> FloatArray:
    if _is_class_of_one_recording(anomalous, units):
        raise InputError(
            f"all anomalies or all normal clips of {units.max() + 1} recordings are of a single one; leaving "
            f"out each recording in turn needs at least two with each"
        )
    kept = (units != unit for unit in range(units.max() + 1))
    return np.array([partial_auc(scores[clips], anomalous[clips], max_fpr=max_fpr) for clips in kept])


def _is_class_of_one_recording(anomalous: BoolArray, units: IntArray) -> bool:
    """Return whether all anomalies, or all of several normal clips, are of one recording."""
    return any(
        clips.size > 1 and (clips == clips[0]).all() for clips in (units[anomalous], units[~anomalous])
    )


def _check_groups(groups: Groups | None, scale: Scale) -> None:
    if groups is not None and scale == "evaluator":
        raise InputError(
            "the evaluator's jackknife leaves out clips, not recordings; give scale='textbook' with groups"
        )


def _sums(terms: FloatArray) -> FloatArray:
    """Return the sums of the first 0, 1, ... terms."""
    return np.concatenate(([0.0], np.cumsum(terms)))


def _half_width(left_out: FloatArray, confidence: float, scale: Scale) -> float:
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; give a fraction between 0 and 1, such as 0.95")
    if scale not in ("evaluator", "textbook"):
        raise unknown_name("scale of a jackknife interval", scale, ("evaluator", "textbook"))
    from scipy import special  # here, because a leaderboard does without it

    n = left_out.size
    squares = float(np.square(left_out - left_out.mean()).sum())
    variance = squares / (n * (n - 1)) if scale == "evaluator" else squares * (n - 1) / n
    return float(special.stdtrit(n - 1, (1 + confidence) / 2)) * math.sqrt(variance)
