"""Probable copies: test clips that are the same recording as a training clip, in another form.

Idea
----
Fingerprints (see `asdbench.data.fingerprint`) are aligned where they share bits, as Haitsma and Kalker do
(ISMIR 2002); the share of different bits over the overlap decides. It is near 0.5 for two moments of the same
machine, and at most 0.2 for a copy that was trimmed, shifted, scaled, resampled, re-coded or mixed with noise
at 20 dB.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asdbench.data.fingerprint import FRAME_S, HOP_S, N_BITS, Words

MOST_ERRORS = 0.3  # share of different bits, as long as clips count as copies
_LEAST_WORDS = 40  # of an overlap: about 0.4 s
_KEY_SHIFTS = (np.uint32(0), np.uint32(8))  # the 24 lowest and the 24 highest bands are looked up
_KEY_MASK = np.uint32(0xFF_FFFF)
_MOST_HITS = 64  # of a key
_MOST_ALIGNMENTS = 256  # of a track that are compared in full
_NEAR = np.array([*range(-36, -8, 4), *range(12, 40, 4)])  # words that a hit is checked by
_NEAR_ERRORS = 0.4
_MARGIN = 40  # words between tracks, so that the near words of a hit exist


@dataclass(frozen=True)
class ProbableCopy:
    """A clip that is probably the same recording as another one.

    Attributes
    ----------
    original : name of the other clip
    shared_s : seconds that both have
    errors : share of different bits in it
    """

    original: str
    shared_s: float
    errors: float


def probable_copies(tested: Mapping[str, Words], trained: Mapping[str, Words]) -> dict[str, ProbableCopy]:
    """Return the tested clips that are probably copies of trained ones, with the most similar of these.

    Parameters
    ----------
    tested, trained : fingerprints by the name of the clip, UInt32[ndarray, "track word"]

    Examples
    --------
    >>> words = np.random.default_rng(0).integers(1, 2**32, (1, 500), np.uint32)
    >>> probable_copies({"a": words[:, 100:]}, {"b": words})
    {'a': ProbableCopy(original='b', shared_s=3.264, errors=0.0)}
    """
    index = _FingerprintIndex(trained)
    found = {name: index.most_similar(fingerprint) for name, fingerprint in tested.items()}
    return {name: copy for name, copy in found.items() if copy is not None}


class _FingerprintIndex:
    """The fingerprints of clips, to be searched by 24 of the bits of a word."""

    def __init__(self, clips: Mapping[str, Words]) -> None:
        tracks = [(name, track) for name, fingerprint in clips.items() for track in fingerprint]
        self._names = [name for name, _ in tracks]
        self._tracks = [track for _, track in tracks]
        padded = [np.pad(track, (_MARGIN, 0)) for track in self._tracks]
        ends = np.cumsum([len(track) for track in padded], dtype=np.int64)
        self._starts = ends - [len(track) for track in self._tracks]
        self._words = np.concatenate([*padded, np.zeros(_MARGIN, np.uint32)])
        self._sorted = [_sorted_keys(self._words, shift) for shift in _KEY_SHIFTS]

    def most_similar(self, fingerprint: Words) -> ProbableCopy | None:
        """Return the clip that a fingerprint is probably a copy of; ``None`` if there is none."""
        found = [copy for track in fingerprint for copy in self._copies(track)]
        return min(found, key=lambda copy: copy.errors, default=None)

    def _copies(self, track: Words) -> list[ProbableCopy]:
        compared = (self._compared(track, number, lag) for number, lag in self._alignments(track))
        return [copy for copy in compared if copy is not None]

    def _compared(self, track: Words, number: int, lag: int) -> ProbableCopy | None:
        """Compare a track with one of the index; its first word is aligned with word ``lag`` of the other."""
        other = self._tracks[number]
        first, end = max(0, -lag), min(len(track), len(other) - lag)
        mine, theirs = track[first:end], other[first + lag : end + lag]
        is_sound = (mine != 0) & (theirs != 0)
        n_words = int(is_sound.sum())
        if n_words < _LEAST_WORDS:
            return None
        errors = float(np.bitwise_count(mine ^ theirs)[is_sound].sum()) / (N_BITS * n_words)
        if errors > MOST_ERRORS:
            return None
        return ProbableCopy(self._names[number], round(n_words * HOP_S + FRAME_S, 3), round(errors, 3))

    def _alignments(self, track: Words) -> list[tuple[int, int]]:
        """Return the tracks and lags at which a track may be a copy, those with the most hits first."""
        positions, words = self._hits(track)
        mine = np.pad(track, _MARGIN)[words[:, None] + _MARGIN + _NEAR]
        differing = np.bitwise_count(self._words[positions[:, None] + _NEAR] ^ mine)
        is_near = differing.mean(axis=1) <= _NEAR_ERRORS * N_BITS
        positions, words = positions[is_near], words[is_near]
        numbers = np.searchsorted(self._starts, positions, side="right") - 1
        lags = positions - self._starts[numbers] - words
        pairs, counts = np.unique(np.stack([numbers, lags], axis=1), axis=0, return_counts=True)
        most = np.argsort(-counts, kind="stable")[:_MOST_ALIGNMENTS]
        return [(int(number), int(lag)) for number, lag in pairs[most]]

    def _hits(self, track: Words) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return positions in the index whose key a word of a track has, and the word's number."""
        numbers = np.flatnonzero(track)
        found = [_looked_up(track[numbers] >> shift & _KEY_MASK, *keys)
                 for shift, keys in zip(_KEY_SHIFTS, self._sorted, strict=True)]  # fmt: skip
        positions = np.concatenate([position for position, _ in found])
        return positions, numbers[np.concatenate([word for _, word in found])]


def _sorted_keys(words: Words, shift: np.uint32) -> tuple[Words, npt.NDArray[np.int64]]:
    """Return the keys of all words that are not zero, sorted, and the positions of these words."""
    positions = np.flatnonzero(words)
    keys: Words = words[positions] >> shift & _KEY_MASK
    order = np.argsort(keys, kind="stable")
    return keys[order], positions[order]


def _looked_up(
    keys: Words, sorted_keys: Words, positions: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the positions that have one of the keys, at most 64 of each, and the number of the key."""
    first = np.searchsorted(sorted_keys, keys)
    counts = np.minimum(np.searchsorted(sorted_keys, keys, side="right") - first, _MOST_HITS)
    number = np.repeat(np.arange(len(keys)), counts)
    offset = np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts, counts)
    return positions[first[number] + offset], number
