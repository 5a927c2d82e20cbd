"""What a resample draws of the test clips of a section: whole recordings where they are known, else clips.

Idea: clips cut from one recording resemble one another, so that many clips of few recordings say less than as
many recordings. What was sampled from the world is the recording: all its clips are drawn or left out
together. A clip without a recording stands for itself; if every recording has one clip, nothing changes.

Units (recordings, or clips that stand for themselves) are drawn with replacement among those that hold clips
of the same domains and labels. Every domain and label that has clips thus has some in every resample, and
every AUC exists. Units that are the only ones of their kind are drawn together; a draw that leaves a domain
and label without clips is repeated, and a unit that alone has the clips of one is in every resample.

Of n units, n − 1 are drawn, each with weight n/(n − 1). A plain bootstrap draws n, and its variance is that
of the sample, (n − 1)/n of an unbiased one: negligible for 50 clips, a third too small for three recordings.

Sources: A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application", Cambridge 1997, section
3.8 (whole clusters are drawn, what is in them is kept); P. J. McCarthy and C. B. Snowden, "The bootstrap and
finite population sampling", Vital and Health Statistics 2(95), 1985 (n − 1 of n are drawn).

Known limits: from fewer than :data:`FEW_RECORDINGS` recordings of a domain and label, no method tells how far
recordings differ; such an interval is rough and tends to be too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from asdbench.errors import InputError
from asdbench.metrics.roc import BoolArray

IntArray: TypeAlias = npt.NDArray[np.int64]
WeightArray: TypeAlias = npt.NDArray[np.float32]
Groups: TypeAlias = Sequence[object] | npt.NDArray[np.generic]
Kind = Literal["recordings", "clips"]

FEW_RECORDINGS = 5  # with fewer in a domain and label, an interval is marked as rough
_CELLS = 4  # a domain and a label: normal and anomaly of the source domain, then of the target domain


@dataclass(frozen=True, eq=False)
class Units:
    """What is drawn of the test clips of a section.

    Attributes
    ----------
    of_clip : shape (clip,)
        The unit of each clip.
    has : shape (unit, domain and label), bool
        Whether a unit has a clip of a domain and label.
    strata : sequence of int arrays
        Units that are drawn among one another.
    kind : "recordings" or "clips"
        "recordings" if a unit has several clips.

    Examples
    --------
    >>> anomalous, target = np.array([False, False, True, True]), np.zeros(4, bool)
    >>> units = Units.from_clips(["a", "b", "c", "c"], anomalous, target)
    >>> units.kind, units.fewest
    ('recordings', 1)
    >>> units.draw(2, np.random.default_rng(0))
    array([[0., 2., 1., 1.],
           [0., 2., 1., 1.]], dtype=float32)
    """

    of_clip: IntArray
    has: BoolArray
    strata: tuple[IntArray, ...]
    kind: Kind

    @classmethod
    def from_clips(cls, groups: Groups | None, anomalous: BoolArray, target: BoolArray) -> "Units":
        """Return the units of clips; ``groups`` are their recordings, ``None`` for a clip without one.

        Raises
        ------
        InputError
            There is not one group for each clip.
        """
        of_clip = unit_of_clip(groups, count=anomalous.size)
        has = np.zeros((int(of_clip.max()) + 1, _CELLS), dtype=bool)
        has[of_clip, 2 * target + anomalous] = True
        return cls(of_clip, has, tuple(_strata(has)), "recordings" if len(has) < of_clip.size else "clips")

    @property
    def fewest(self) -> int:
        """The number of units of the domain and label that has fewest."""
        counts = self.has.sum(axis=0)
        return int(counts[counts > 0].min())

    @property
    def freedom(self) -> int:
        """The degrees of freedom of a variance over units: one fewer than each stratum has, at least 1."""
        return max(1, sum(stratum.size - 1 for stratum in self.strata))

    def draw(self, resamples: int, generator: np.random.Generator) -> WeightArray:
        """Return the weight of each clip in each resample, shape (resample, clip)."""
        weights = self._drawn(resamples, generator)
        while (lacking := self._lacks_clips(weights)).any():
            weights[lacking] = self._drawn(int(lacking.sum()), generator)
        return weights[:, self.of_clip]

    def _drawn(self, resamples: int, generator: np.random.Generator) -> WeightArray:
        weights = np.empty((resamples, len(self.has)), dtype=np.float32)
        for stratum in self.strata:
            weights[:, stratum] = draw_weights(stratum.size, resamples, generator)
        return weights

    def _lacks_clips(self, weights: WeightArray) -> BoolArray:
        has = self.has[:, self.has.any(axis=0)].astype(np.float32)
        lacks: BoolArray = (weights @ has == 0).any(axis=1)
        return lacks


def unit_of_clip(groups: Groups | None, *, count: int) -> IntArray:
    """Return the number of the unit of each clip; a clip whose group is ``None`` is one of its own.

    >>> unit_of_clip(["a", None, "a", None], count=4)
    array([0, 1, 0, 2])
    """
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise InputError(
            f"there are {len(groups)} recordings for {count} clips; give one for each clip, "
            f"None where it is unknown"
        )
    numbers: dict[object, int] = {}
    for clip, group in enumerate(groups):
        numbers.setdefault((clip,) if group is None else group, len(numbers))
    return np.array([numbers[(clip,) if group is None else group] for clip, group in enumerate(groups)])


def draw_weights(units: int, resamples: int, generator: np.random.Generator) -> WeightArray:
    """Draw ``units`` − 1 units with replacement; return the weight of each, shape (resample, unit).

    The weights of a resample sum to ``units``. A single unit is always drawn.
    """
    if units == 1:
        return np.ones((resamples, 1), dtype=np.float32)
    drawn = generator.integers(units, size=(resamples, units - 1))
    drawn += units * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * units).reshape(resamples, units)
    weights: WeightArray = counts.astype(np.float32) * np.float32(units / (units - 1))
    return weights


def _strata(has: BoolArray) -> list[IntArray]:
    """Return the units with the same domains and labels; of those that are unlike any other, one stratum.

    A unit that alone has the clips of a domain and label is a stratum of its own.
    """
    kinds = has @ (1 << np.arange(_CELLS))
    strata = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    is_needed = np.asarray(has[:, has.sum(axis=0) == 1].any(axis=1))
    lone = [stratum for stratum in strata if stratum.size == 1 and not is_needed[stratum[0]]]
    if len(lone) < 2:
        return strata
    numbers = np.concatenate(lone)
    return [*(stratum for stratum in strata if not np.isin(stratum, numbers).any()), numbers]
