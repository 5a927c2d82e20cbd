"""Area under the ROC curve, whole or up to a false positive rate, from counted pairs of clips.

Idea: the ROC curve is a sum over anomalies. With the horizontal axis counted in normal clips, an anomaly adds
a step that rises after the normal clips scored above it; where normal clips tie with it, it rises linearly
over them. The area left of a limit is therefore a sum of one closed form an anomaly: no curve is built, ties
are exact, and `asdbench.metrics.intervals` leaves a clip out without starting anew.

Conventions: ``scores`` has shape (clip,), higher = more anomalous; ``anomalous`` has shape (clip,), bool.

Source: D. K. McClish, "Analyzing a portion of the ROC curve", Medical Decision Making 9(3), 1989, for the
standardization of the partial area; a tie counts one half (Mann-Whitney).

Departure: ``sklearn.metrics.roc_auc_score``, with and without ``max_fpr``, gives the same values, but NaN
where a class is missing; here that is an error.
"""

from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from asdbench.errors import InputError

FloatArray: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
CountArray: TypeAlias = npt.NDArray[np.intp]
Area = TypeVar("Area", float, FloatArray)


def auc(scores: npt.ArrayLike, anomalous: npt.ArrayLike) -> float:
    """Return the area under the ROC curve: the chance that an anomaly scores above a normal clip.

    Parameters
    ----------
    scores : shape (clip,)
        Anomaly scores, finite.
    anomalous : shape (clip,), bool
        True for an anomaly.

    Returns
    -------
    float
        Between 0 and 1; chance is 0.5. A tied pair counts one half.

    Raises
    ------
    InputError
        A score is NaN or infinite, the lengths differ, or all clips are normal or all anomalous.
    """
    return partial_auc(scores, anomalous, max_fpr=1.0)


def partial_auc(scores: npt.ArrayLike, anomalous: npt.ArrayLike, *, max_fpr: float = 0.1) -> float:
    """Return the area under the ROC curve up to a false positive rate, standardized after McClish.

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
        As for `auc`, and where ``max_fpr`` lies outside (0, 1].
    """
    scored, flags = scored_clips(scores, anomalous)
    check_max_fpr(max_fpr)
    anomaly = scored[flags]
    normal_count = scored.size - anomaly.size
    above, tied = normals_above_and_tied(np.sort(scored[~flags]), anomaly)
    area = float(areas(above, tied, limit=max_fpr * normal_count).sum())
    return standardized(area / (normal_count * anomaly.size), max_fpr)


def normals_above_and_tied(normal: FloatArray, anomaly: FloatArray) -> tuple[CountArray, CountArray]:
    """Count for each anomaly the normal clips scored above it and those tied with it.

    ``normal`` has shape (normal,) and is sorted, ``anomaly`` has shape (anomaly,), as have both results.
    """
    not_above = np.searchsorted(normal, anomaly, side="right")
    return normal.size - not_above, not_above - np.searchsorted(normal, anomaly, side="left")


def areas(above: npt.NDArray[Any], tied: npt.NDArray[Any], *, limit: float) -> FloatArray:
    """Return the area that each anomaly adds left of ``limit``, a number of normal clips; shape (anomaly,).

    Its step is 0 over the first ``above`` normal clips, rises to 1 over the next ``tied`` and stays there.
    Clips may count several times; the counts may have axes before the last.
    """
    reached = limit - above
    ramp: FloatArray = np.clip(reached, 0, tied)
    past: FloatArray = np.maximum(reached - tied, 0)
    area: FloatArray = ramp * ramp / (2 * np.maximum(tied, 1)) + past
    return area


def standardized(area: Area, max_fpr: float) -> Area:
    """Standardize a partial area of the unit square after McClish: chance becomes 0.5, the largest area 1."""
    chance = max_fpr**2 / 2
    return 0.5 * (1 + (area - chance) / (max_fpr - chance))


def clip_scores(scores: npt.ArrayLike) -> FloatArray:
    """Return ``scores`` as float64 of shape (clip,), or raise `InputError` where they are not finite."""
    scored = np.asarray(scores, dtype=np.float64)
    if scored.ndim != 1 or scored.size == 0:
        raise InputError(f"scores have shape {scored.shape}; give one score a clip, of at least one clip")
    if not np.isfinite(scored).all():
        index = int(np.flatnonzero(~np.isfinite(scored))[0])
        raise InputError(f"the score of clip {index} is {scored[index]}; every clip needs a finite score")
    return scored


def clip_flags(name: str, flags: npt.ArrayLike, *, count: int) -> BoolArray:
    """Return ``flags``, shape (clip,), or raise `InputError` where they are not ``count`` booleans."""
    flagged = np.asarray(flags)
    if flagged.shape != (count,):
        raise InputError(f"{name} has shape {flagged.shape} beside {count} clips; give one value a clip")
    if flagged.dtype != np.bool_:
        raise InputError(f"{name} holds {flagged.dtype} values; give booleans, for instance {name} == 1")
    return flagged


def scored_clips(scores: npt.ArrayLike, anomalous: npt.ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Return both arrays checked, or raise `InputError`; both classes are present in the result."""
    scored = clip_scores(scores)
    flags = clip_flags("anomalous", anomalous, count=scored.size)
    check_classes(flags, "the clips given")
    return scored, flags


def check_classes(anomalous: BoolArray, place: str) -> None:
    """Raise `InputError` unless there are a normal clip and an anomaly in ``place``."""
    anomaly_count = int(np.count_nonzero(anomalous))
    if anomaly_count in (0, anomalous.size):
        missing = "no anomaly" if anomaly_count == 0 else "no normal clip"
        raise InputError(f"there is {missing} among the {anomalous.size} clips of {place}; an AUC needs both")


def check_max_fpr(max_fpr: float) -> None:
    """Raise `InputError` unless ``max_fpr`` lies in (0, 1]."""
    if not 0 < max_fpr <= 1:
        raise InputError(
            f"max_fpr is {max_fpr}; give a false positive rate above 0 and at most 1, such as 0.1"
        )
