"""Area under the ROC curve, full or up to a false positive rate, from counted pairs of clips.

Idea: the ROC curve is a sum over anomalies. With the horizontal axis counted in normal clips, an anomaly adds
a step that rises after the normal clips scored above it; if normal clips tie with it, it rises linearly over
them. The area left of a limit is therefore a sum of one closed form per anomaly: no curve is built, ties are
exact, and `asdbench.metrics.intervals` leaves out a clip without recomputing the rest.

Conventions: ``scores`` has shape (clip,), higher = more anomalous; ``anomalous`` has shape (clip,), bool.

Source: D. K. McClish, "Analyzing a portion of the ROC curve", Medical Decision Making 9(3), 1989, for the
standardization of the partial area; a tie counts one half (Mann-Whitney).

Departure: ``sklearn.metrics.roc_auc_score``, with and without ``max_fpr``, gives the same values, but NaN
if a class is missing; here that is an error.
"""

from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from asdbench.errors import InputError

FloatArray: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
CountArray: TypeAlias = npt.NDArray[np.intp]
AnyCount: TypeAlias = CountArray | npt.NDArray[np.float32]
Area = TypeVar("Area", float, FloatArray)


def auc(scores: npt.ArrayLike, anomalous: npt.ArrayLike) -> float:
    """Return the area under the ROC curve: the probability that an anomaly scores above a normal clip.

    Parameters
    ----------
    scores : shape (clip,)
        Anomaly scores, finite.
    anomalous : shape (clip,), bool
        True for an anomaly.

    Returns
    -------
    float
        Between 0 and 1; chance level is 0.5. A tied pair counts one half.

    Raises
    ------
    InputError
        A score is NaN or infinite, the lengths differ, or all clips are normal or all anomalous.

    Examples
    --------
    >>> auc([0.1, 0.4, 0.4, 0.8], [False, False, True, True])
    0.875
    """
    return partial_auc(scores, anomalous, max_fpr=1.0)


def partial_auc(scores: npt.ArrayLike, anomalous: npt.ArrayLike, *, max_fpr: float = 0.1) -> float:
    """Return the area under the ROC curve up to a false positive rate, standardized as by McClish.

    With A the area over false positive rates 0 to p = ``max_fpr``, the value is ½(1 + (A − p²/2)/(p − p²/2)):
    1 for perfect scores, 0.5 by chance, and (1 − p)/(2 − p), 0.4737 for p = 0.1, where A is 0. At p = 1 it is
    the AUC.

    Parameters
    ----------
    scores : shape (clip,)
        Anomaly scores, finite.
    anomalous : shape (clip,), bool
        True for an anomaly.
    max_fpr : float
        The largest false positive rate p, above 0 and at most 1.

    Returns
    -------
    float
        The standardized area, between (1 − p)/(2 − p) and 1.

    Raises
    ------
    InputError
        As for `auc`, and if ``max_fpr`` is outside (0, 1].

    Examples
    --------
    >>> partial_auc([0.1, 0.2, 0.3, 0.25, 0.9], [False, False, False, True, True], max_fpr=0.5)
    0.777...
    """
    scored, flags = scored_clips(scores, anomalous)
    check_max_fpr(max_fpr)
    anomaly = scored[flags]
    normal_count = scored.size - anomaly.size
    above, tied = normals_above_and_tied(np.sort(scored[~flags]), anomaly)
    area = float(areas(above, tied, limit=max_fpr * normal_count).sum())
    return standardized(area / (normal_count * anomaly.size), max_fpr)


def normals_above_and_tied(normal: FloatArray, anomaly: FloatArray) -> tuple[CountArray, CountArray]:
    """Return for each anomaly the number of normal clips scored above it and of those tied with it.

    ``normal`` has shape (normal,) and is sorted; ``anomaly`` and both results have shape (anomaly,).

    Examples
    --------
    >>> normals_above_and_tied(np.array([1.0, 2.0, 2.0, 3.0]), np.array([2.0, 4.0]))
    (array([1, 0]), array([2, 0]))
    """
    not_above = np.searchsorted(normal, anomaly, side="right")
    return normal.size - not_above, not_above - np.searchsorted(normal, anomaly, side="left")


def areas(above: AnyCount, tied: AnyCount, *, limit: float | AnyCount) -> FloatArray:
    """Return the area that each anomaly adds left of ``limit``, a number of normal clips; shape (anomaly,).

    The step of an anomaly is 0 over the first ``above`` normal clips, rises to 1 over the next ``tied`` and
    stays at 1. Clips may be weighted, each with at least 1; the counts may have axes before the last.

    Examples
    --------
    >>> areas(np.array([1, 0]), np.array([2, 0]), limit=4)
    array([2., 4.])
    """
    reached = limit - above
    ramp: FloatArray = np.clip(reached, 0, tied)
    past: FloatArray = np.maximum(reached - tied, 0)
    area: FloatArray = ramp * ramp / (2 * np.maximum(tied, 1)) + past
    return area


def standardized(area: Area, max_fpr: float) -> Area:
    """Standardize a partial area of the unit square: chance level becomes 0.5, the largest area 1.

    Examples
    --------
    >>> standardized(0.5, max_fpr=1.0), standardized(0.1, max_fpr=0.1)
    (0.5, 1.0)
    """
    chance = max_fpr**2 / 2
    return 0.5 * (1 + (area - chance) / (max_fpr - chance))


def clip_scores(scores: npt.ArrayLike) -> FloatArray:
    """Return ``scores`` as float64 of shape (clip,), or raise `InputError` if they are not finite."""
    scored = np.asarray(scores, dtype=np.float64)
    if scored.ndim != 1 or scored.size == 0:
        raise InputError(f"scores have shape {scored.shape}; give one score per clip, for at least one clip")
    if not np.isfinite(scored).all():
        index = int(np.flatnonzero(~np.isfinite(scored))[0])
        raise InputError(f"the score of clip {index} is {scored[index]}; every clip needs a finite score")
    return scored


def clip_flags(name: str, flags: npt.ArrayLike, *, count: int) -> BoolArray:
    """Return ``flags``, shape (clip,), or raise `InputError` if they are not ``count`` booleans."""
    flagged = np.asarray(flags)
    if flagged.shape != (count,):
        raise InputError(f"{name} has shape {flagged.shape} for {count} clips; give one value per clip")
    if flagged.dtype != np.bool_:
        raise InputError(f"{name} holds {flagged.dtype} values; give booleans, such as {name} == 1")
    return flagged


def scored_clips(scores: npt.ArrayLike, anomalous: npt.ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Return both arrays if they are valid and both classes are present, or raise `InputError`."""
    scored = clip_scores(scores)
    flags = clip_flags("anomalous", anomalous, count=scored.size)
    check_classes(flags, "the clips given")
    return scored, flags


def check_classes(anomalous: BoolArray, subset: str) -> None:
    """Raise `InputError` unless there are a normal clip and an anomaly in ``subset``."""
    anomaly_count = int(np.count_nonzero(anomalous))
    if anomaly_count in (0, anomalous.size):
        missing = "no anomaly" if anomaly_count == 0 else "no normal clip"
        raise InputError(
            f"there is {missing} among the {anomalous.size} clips of {subset}; an AUC needs both"
        )


def check_max_fpr(max_fpr: float) -> None:
    """Raise `InputError` unless ``max_fpr`` is in (0, 1]."""
    if not 0 < max_fpr <= 1:
        raise InputError(
            f"max_fpr is {max_fpr}; give a false positive rate above 0 and at most 1, such as 0.1"
        )
