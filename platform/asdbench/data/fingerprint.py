"""Fingerprints of sound, by which a copy is found that was trimmed, shifted, scaled, resampled or re-coded.

Idea
----
J. Haitsma and T. Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002: for each frame n and band
m, a bit is 1 if (E(n, m) - E(n, m + 1)) - (E(n - d, m) - E(n - d, m + 1)) > 0, where E is the log energy.
What is steady cancels; what stays are the fluctuations of the noise, which two moments of the same machine do
not share. So about half of the bits of two recordings differ, and few of those of a recording and its copy.

Known departures
----------------
33 bands of equal width in mel from 100 Hz to 3.8 kHz, so that a clip at 8 kHz has them all; frames of 64 ms
every 8 ms, so that clips of a second have enough of them; log in place of linear energy; d is four frames.
Frames start at the sample next to a multiple of 8 ms, so that sample rates need no resampling. At a sample
rate below 8 kHz the bands end lower: such clips compare only with clips of their own rate. A copy at another
speed is not found.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

FRAME_S = 0.064
HOP_S = 0.008
N_BITS = 32
_LOWEST_HZ, _HIGHEST_HZ = 100.0, 3800.0
_HIGHEST_SHARE = 0.475  # of a lower sample rate
_DELAY_FRAMES = 4
_SILENCE = 1e-20  # power of a frame, full scale 1
_FLOOR = 1e-30
_FRAMES_AT_ONCE = 128

Words = npt.NDArray[np.uint32]


class SoundFingerprint:
    """Computes the fingerprint of a clip from its blocks.

    A clip of several channels has three tracks: their mean, the first and the last channel, so that a copy of
    any of them is found.

    Examples
    --------
    >>> fingerprint = SoundFingerprint(16000)
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (16000, 1)).astype(np.float32)
    >>> fingerprint.add(noise[:9000])
    >>> fingerprint.add(noise[9000:])
    >>> fingerprint.words().shape
    (1, 114)
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self._rate_hz = sample_rate_hz
        self._frame = round(FRAME_S * sample_rate_hz)
        self._n_fft = fft.next_fast_len(self._frame, real=True)
        self._window = np.hanning(self._frame).astype(np.float32)
        self._bands = _bands(sample_rate_hz, self._n_fft)
        self._n_frames = self._n_dropped = 0
        self._rest = np.zeros((0, 0), np.float32)
        self._levels: list[npt.NDArray[np.float32]] = []
        self._silent: list[npt.NDArray[np.bool_]] = []

    def add(self, block: npt.NDArray[np.float32]) -> None:
        """Take a block into account, Float32[ndarray, "sample channel"], full scale 1."""
        tracks = _tracks(block)
        wave = np.concatenate([self._rest, tracks], axis=1) if self._rest.size else tracks
        while len(starts := self._next_starts(wave.shape[1])):
            self._add_frames(wave, starts)
        n_dropped = max(0, self._start(self._n_frames) - self._n_dropped)
        self._rest, self._n_dropped = wave[:, n_dropped:], self._n_dropped + n_dropped

    def to_bytes(self) -> bytes:
        """Return the words, track by track, as :func:`words_from_bytes` reads them."""
        return self.words().astype("<u4").tobytes()

    def words(self) -> Words:
        """Return the bits, UInt32[ndarray, "track frame"]; a word is 0 where there is no sound."""
        if self._n_frames <= _DELAY_FRAMES:
            return np.zeros((len(self._rest), 0), np.uint32)
        slopes = -np.diff(np.concatenate(self._levels, axis=1), axis=2)
        bits = slopes[:, _DELAY_FRAMES:] > slopes[:, :-_DELAY_FRAMES]
        words = np.packbits(bits, axis=2, bitorder="little").view("<u4")[..., 0].astype(np.uint32)
        silent = np.concatenate(self._silent, axis=1)
        words[silent[:, _DELAY_FRAMES:] | silent[:, :-_DELAY_FRAMES]] = 0
        return words

    def _start(self, frame: int) -> int:
        return round(frame * HOP_S * self._rate_hz)

    def _next_starts(self, n_samples: int) -> npt.NDArray[np.int64]:
        """Return the starts of the next frames that are complete, relative to what is kept of the clip."""
        frames = np.arange(self._n_frames, self._n_frames + _FRAMES_AT_ONCE)
        hop = HOP_S * self._rate_hz
        starts: npt.NDArray[np.int64] = np.rint(frames * hop).astype(np.int64) - self._n_dropped
        return starts[starts + self._frame <= n_samples]

    def _add_frames(self, wave: npt.NDArray[np.float32], starts: npt.NDArray[np.int64]) -> None:
        frames = np.lib.stride_tricks.sliding_window_view(wave, self._frame, axis=1)[:, starts]
        spectrum: Any = fft.rfft(frames * self._window, self._n_fft, axis=2)
        spectrum = spectrum[..., : len(self._bands)]
        power = spectrum.real**2 + spectrum.imag**2
        self._silent.append(power.sum(axis=2) < _SILENCE)
        self._levels.append(np.log(power @ self._bands + np.float32(_FLOOR)))
        self._n_frames += len(starts)


def words_from_bytes(content: bytes, *, channels: int) -> Words:
    """Return the fingerprint, UInt32[ndarray, "track frame"], of a clip of so many channels."""
    return np.frombuffer(content, "<u4").astype(np.uint32).reshape(1 if channels == 1 else 3, -1)


def _tracks(block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the tracks of (sample, channel) that get fingerprints, (track, sample)."""
    if block.shape[1] == 1:
        return block.T
    return np.stack([block.mean(axis=1), block[:, 0], block[:, -1]])


def _bands(sample_rate_hz: int, n_fft: int) -> npt.NDArray[np.float32]:
    """Return the share of each bin in each band, (bin, band); bins above the bands are left out."""
    highest_hz = min(_HIGHEST_HZ, _HIGHEST_SHARE * sample_rate_hz)
    low, high = (np.log1p(f / 700) for f in (_LOWEST_HZ, highest_hz))
    edges = np.expm1(np.linspace(low, high, N_BITS + 2)) * 700 * n_fft / sample_rate_hz
    bins = np.arange(np.ceil(edges[-1]) + 1)[:, None]
    shares = np.minimum(bins + 0.5, edges[1:]) - np.maximum(bins - 0.5, edges[:-1])
    return np.asarray(np.clip(shares, 0, 1), np.float32)
