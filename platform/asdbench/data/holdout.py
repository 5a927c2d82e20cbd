"""The hold-out: normal training clips that are scored by a model that has not seen them or their like.

Standardization and decision thresholds need scores of normal clips as fresh as test clips. A clip whose
recording, or whose near copy, is in training is not fresh: its score is too low, and fresh normal clips then
stand many deviations above it. Source-domain training clips are therefore held out in groups:

- ``recordings``: the clips of a recording are a group, where a recording has several clips and none has more
  than half of all. A clip of unknown recording stands for itself.
- ``blocks``: otherwise, five blocks of similar clips. Clips are ordered along the first principal component
  of their mean spectra, within each combination of attribute values, so that every block has its share of all
  operating conditions: fresh clips share these, and only what the attributes do not tell makes clips alike.
- ``clips``: where a registration holds no spectra, every clip is a group.

There are two ways to hold groups out:

- `folds`, for cross-fitting: up to five folds of whole groups. Every clip is scored by a model that was
  fitted without its fold, and the model that scores test clips is fitted to all clips.
- `hold_out`, for a single training: a tenth of the clips (a fifth where there are fewer than 80), never fewer
  than 9, which is what a threshold of 10 % false alarms takes. Whole recordings in random order until there
  are enough clips, and nine of them if a third of all clips suffices; of blocks both ends of the order, since
  the clips in between have their like on either side in training.

Target-domain clips are too few to be held out of a single training. Those of a cross-fitting are divided
among its folds (`target_folds`): by recording where recordings are known, one by one elsewhere, and together
with the source clips of the same recording. Where there are no domains, every clip counts as source.
docs/metrics.md has the measurements behind these rules.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from asdbench.errors import InputError

LEAST_CLIPS = 9  # the fewest with a threshold that one in ten fresh clips exceeds
N_FOLDS = 5

_LEAST_DEVIATION = 1e-6
_MOST_COMPARED = 2000  # clips of a machine type, each with each
_DESCRIBED = {
    "machine_type": pl.Utf8(),
    "groups_are": pl.Utf8(),
    "groups": pl.Int64(),
    "clips": pl.Int64(),
    "largest": pl.Int64(),
    "z_low": pl.Float64(),
    "z_median": pl.Float64(),
    "z_high": pl.Float64(),
    "z_if_random": pl.Float64(),
}

Kind = Literal["recordings", "blocks", "clips"]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """The source-domain training clips of a machine type, in groups that are held out whole.

    Attributes
    ----------
    kind : what a group is
    clip_ids : shape (clip,), sorted
    group : shape (clip,), index of the clip's group
    order : shape (clip,), positions of the clips, each next to its like; by ``clip_ids`` without spectra
    """

    kind: Kind
    clip_ids: IntArray
    group: IntArray
    order: IntArray

    @property
    def sizes(self) -> IntArray:
        """Number of clips of each group."""
        return np.bincount(self.group)

    def of(self, clip_ids: IntArray) -> IntArray:
        """Return the group of each of these clips, which must be among ``clip_ids``."""
        return self.group[np.searchsorted(self.clip_ids, clip_ids)]


def groups(clips: pl.DataFrame) -> Groups:
    """Return the groups of the training clips of one machine type, rows of the clip table in any order.

    Raises :class:`InputError` where there are too few source-domain clips to hold any out.
    """
    source = clips.filter(pl.col("domain").ne_missing("target")).sort("clip_id")
    hold_out_size(source.height)
    ids = source["clip_id"].to_numpy()
    positions = np.arange(len(ids))
    has_spectra = not source["spectrum"].has_nulls()
    order = (
        _similar_order(np.array(source["spectrum"].to_list()), _combinations(source))
        if has_spectra
        else positions
    )
    by_recording = _recordings(source["recording"].to_list())
    if by_recording is not None:
        return Groups("recordings", ids, by_recording, order)
    if not has_spectra:
        return Groups("clips", ids, positions, order)
    group = np.empty_like(positions)
    group[order] = positions * N_FOLDS // len(ids)
    return Groups("blocks", ids, group, order)


def hold_out_size(source_clips: int) -> int:
    """Return how many of ``source_clips`` clips are held out of a single training.

    Raises :class:`InputError` where that would leave nothing to train on.
    """
    if source_clips <= LEAST_CLIPS:
        raise InputError(
            f"{source_clips} source-domain training clips are too few: {LEAST_CLIPS} are held out of "
            f"training for standardization and thresholds, so at least {LEAST_CLIPS + 1} are needed"
        )
    share = 0.2 if source_clips < 80 else 0.1
    return max(LEAST_CLIPS, round(share * source_clips))


def hold_out(clips: pl.DataFrame, *, generator: np.random.Generator) -> IntArray:
    """Return the ids of the clips that a single training leaves out, sorted; shape (clip,).

    Parameters
    ----------
    clips
        The training clips of one machine type: rows of the clip table.
    generator
        Decides which groups are drawn; the order of ``clips`` does not matter.
    """
    of_type = groups(clips)
    wanted = hold_out_size(len(of_type.clip_ids))
    if of_type.kind != "blocks":
        drawn = np.isin(of_type.group, _drawn(of_type.sizes, wanted, generator))
        if drawn.sum() <= max(wanted, len(drawn) / 3):
            return np.sort(of_type.clip_ids[drawn])
    ends = [of_type.order[: wanted // 2], of_type.order[wanted // 2 - wanted :]]
    return np.sort(of_type.clip_ids[np.concatenate(ends)])


def _drawn(sizes: IntArray, wanted: int, generator: np.random.Generator) -> list[int]:
    """Return which groups of these sizes have about as many clips as wanted, and at least `LEAST_CLIPS`."""
    shuffled, chosen, clips = generator.permutation(len(sizes)), list[int](), 0
    for group in shuffled:
        if clips < wanted and clips + sizes[group] <= 1.5 * wanted:
            chosen.append(int(group))
            clips += sizes[group]
    if clips >= min(LEAST_CLIPS, wanted):
        return _enough_groups(chosen, sizes, shuffled)
    enough = [int(group) for group in shuffled if clips + sizes[group] >= LEAST_CLIPS]
    return [*chosen, min(enough, key=lambda group: sizes[group])]


def _enough_groups(chosen: list[int], sizes: IntArray, shuffled: IntArray) -> list[int]:
    """Add the smallest groups until a threshold can be set, if a third of the clips suffices."""
    rest = [int(group) for group in shuffled if group not in chosen]
    more = sorted(rest, key=lambda group: int(sizes[group]))[: max(0, LEAST_CLIPS - len(chosen))]
    enough = [*chosen, *more]
    return enough if len(enough) >= LEAST_CLIPS and sizes[enough].sum() <= sizes.sum() / 3 else chosen


def folds(clips: pl.DataFrame, *, generator: np.random.Generator) -> list[IntArray]:
    """Return the ids of the source-domain clips in up to five folds of whole groups, each sorted.

    The parameters are those of `hold_out`. Folds have as many clips as whole groups allow.
    """
    of_type = groups(clips)
    sizes = of_type.sizes
    shuffled = generator.permutation(len(sizes))
    n_folds = min(N_FOLDS, len(sizes))
    clips_in_fold = np.zeros(n_folds, np.int64)
    fold_of = np.empty(len(sizes), np.int64)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:  # the largest first
        fold_of[group] = fold = clips_in_fold.argmin()
        clips_in_fold[fold] += sizes[group]
    return [of_type.clip_ids[fold_of[of_type.group] == fold] for fold in range(n_folds)]


def target_folds(clips: pl.DataFrame, source_folds: Sequence[IntArray]) -> list[IntArray]:
    """Return the ids of the target-domain clips, divided among folds of source clips; each sorted.

    A recording is in one fold; one that source clips were cut from, too, is in theirs. All folds are empty
    where that would leave nothing of the target domain to fit to.

    Parameters
    ----------
    clips
        The training clips of one machine type: rows of the clip table.
    source_folds
        The `folds` of the same clips.
    """
    if not source_folds:
        return []
    ids = clips.filter(domain="target")["clip_id"].sort().to_numpy()
    fold_of = np.full(len(ids), -1)
    group = group_of_targets(clips, ids)
    recordings = dict(clips.select("clip_id", "recording").iter_rows())
    source_fold = {
        recordings[clip_id]: fold for fold, part in enumerate(source_folds) for clip_id in part.tolist()
    }
    for index in range(group.max() + 1 if len(group) else 0):
        rows = group == index
        counts = np.bincount(fold_of[fold_of >= 0], minlength=len(source_folds))
        name = recordings[int(ids[rows][0])]
        shared = source_fold.get(name) if name else None
        fold_of[rows] = counts.argmin() if shared is None else shared
    is_divided = len(np.unique(fold_of)) > 1
    return [ids[(fold_of == fold) & is_divided] for fold in range(len(source_folds))]


def group_of_targets(clips: pl.DataFrame, clip_ids: IntArray) -> IntArray:
    """Return the group of each of these target-domain clips: its recording; the clip where that is unknown.

    Examples
    --------
    >>> clips = pl.DataFrame({"clip_id": [1, 2, 3, 4], "recording": ["a", None, "a", None]})
    >>> group_of_targets(clips, np.array([1, 2, 3, 4])).tolist()
    [2, 0, 2, 1]
    """
    recordings = dict(clips.select("clip_id", "recording").iter_rows())
    names = [recordings[clip_id] or f"\0{clip_id}" for clip_id in clip_ids.tolist()]
    return np.unique(names, return_inverse=True)[1] if names else np.empty(0, np.int64)


def fresh_z_scores(distances_db: NDArray[np.float64], group: IntArray) -> NDArray[np.float64]:
    """Return how many deviations each clip stands above held-out clips of other groups; shape (clip,).

    The control behind it needs no training and no labels: a clip's score is the distance to the nearest clip
    of another group. Values near 0 say that the scores of one group tell those of a fresh one.

    Parameters
    ----------
    distances_db : shape (clip, clip), between the mean spectra of the clips
    group : shape (clip,), of at least two groups

    Examples
    --------
    >>> place = np.array([0.0, 1.0, 3.0, 4.0, 9.0])
    >>> fresh_z_scores(np.abs(place[:, None] - place), np.array([0, 0, 1, 1, 2])).round(1)
    array([-0.3, -1.1, -1.1, -0.3,  5. ])
    """
    score = _nearest(distances_db, group)
    z = np.empty_like(score)
    for index in np.unique(group):
        others = score[group != index]
        z[group == index] = (score[group == index] - others.mean()) / max(others.std(), _LEAST_DEVIATION)
    return z


def describe(clips: pl.DataFrame) -> pl.DataFrame:
    """Return how clips are held out, and z-scores of fresh normal clips, by machine type.

    Parameters
    ----------
    clips : training clips of any machine types, rows of the clip table

    Returns
    -------
    pl.DataFrame
        ``machine_type``; ``groups_are`` (recordings, blocks or clips); ``groups``, ``clips`` and
        ``largest``; ``z_low``, ``z_median`` and ``z_high``, the 5, 50 and 95 % quantiles of
        `fresh_z_scores`; ``z_if_random``, the median z-score of the same clips against the scores of clips
        held out one by one. Null where clips are too few, and z-scores where no spectra are known.
    """
    rows = [
        {"machine_type": str(kind), **_described(of_type)}
        for (kind,), of_type in sorted(clips.group_by("machine_type"), key=lambda item: str(item[0][0]))
    ]
    return pl.DataFrame(rows, schema=_DESCRIBED)


def _described(clips: pl.DataFrame) -> dict[str, str | int | float]:
    try:
        of_type = groups(clips)
    except InputError:
        return {}
    sizes = of_type.sizes
    row: dict[str, str | int | float] = {
        "groups_are": of_type.kind,
        "groups": len(sizes),
        "clips": len(of_type.group),
        "largest": int(sizes.max()),
    }
    if clips["spectrum"].has_nulls() or len(sizes) < 2:
        return row
    levels_db = dict(clips.select("clip_id", "spectrum").iter_rows())
    chosen = np.linspace(0, len(of_type.group) - 1, min(len(of_type.group), _MOST_COMPARED)).astype(int)
    spectra = np.array([levels_db[clip_id] for clip_id in of_type.clip_ids[chosen].tolist()])
    group = of_type.group[chosen]
    distances_db = cdist(spectra, spectra) / math.sqrt(spectra.shape[1])
    low, median, high = np.quantile(fresh_z_scores(distances_db, group), [0.05, 0.5, 0.95])
    single = _nearest(distances_db, np.arange(len(spectra)))
    fresh = np.median(_nearest(distances_db, group))
    z_if_random = (fresh - single.mean()) / max(single.std(), _LEAST_DEVIATION)
    return row | {"z_low": low, "z_median": median, "z_high": high, "z_if_random": float(z_if_random)}


def _nearest(distances_db: NDArray[np.float64], group: IntArray) -> NDArray[np.float64]:
    """Return each clip's distance to the nearest clip of another group."""
    within = group[:, None] == group
    nearest: NDArray[np.float64] = np.where(within, np.inf, distances_db).min(axis=1)
    return nearest


def _recordings(recordings: Sequence[str | None]) -> IntArray | None:
    """Return the group of each clip by recording; ``None`` where recordings cannot be groups."""
    known = [recording for recording in recordings if recording]
    if len(set(known)) == len(known):
        return None
    names = [recording or f"\0{position}" for position, recording in enumerate(recordings)]
    group = np.unique(names, return_inverse=True)[1]
    return group if np.bincount(group).max() <= len(names) / 2 else None


def _combinations(source: pl.DataFrame) -> IntArray:
    """Return the combination of attribute values of each clip, as an index."""
    values = [repr([(a["name"], a["value"]) for a in row or []]) for row in source["attributes"].to_list()]
    return np.unique(values, return_inverse=True)[1]


def _similar_order(spectra: NDArray[np.float64], combination: IntArray) -> IntArray:
    """Return positions of clips, each next to its like: by the rank within its combination, as a share."""
    centered = spectra.astype(np.float64)
    for index in range(combination.max() + 1):
        rows = combination == index
        centered[rows] -= centered[rows].mean(axis=0)
    along = centered @ np.linalg.svd(centered, full_matrices=False)[2][0]
    along = along.round(6) * np.sign(along[np.abs(along).argmax()])  # an axis has no direction of its own
    share = np.empty(len(along))
    for index in range(combination.max() + 1):
        rows = np.flatnonzero(combination == index)
        ranks = np.argsort(np.argsort(along[rows], kind="stable"))
        share[rows] = (ranks + 0.5) / len(rows)
    return np.lexsort((along, share))
