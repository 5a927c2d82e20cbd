"""Which times and frequencies of a clip carry its anomaly score, for any system: occlusion.

Idea: replace a patch of the clip's short-time spectrum by what is normal there, score the clip again, and
note by how much the score drops. "Normal" is the mean level of each frequency over normal training clips; the
phase of the clip is kept. The changed spectrum becomes sound again before it is scored, so that a system is
treated as a whole, whatever its features.

Limits: a patch smaller than the system's own windows cannot change the score by much. Scores are not
additive: if two patches each suffice to call a clip anomalous, masking one of them changes little. A machine
whose normal sound starts and stops has no single normal level, so its pauses may stand out.

Source: M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section
4.2 (occlusion of images).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench.engine.detection import Array
from asdbench.engine.machine_detector import Clip, MachineDetector
from asdbench.engine.spectrum import HOP_SAMPLES, N_FFT, to_samples, to_spectrum
from asdbench.features.mel import hz_to_mel, mel_to_hz
from asdbench.spec import SAMPLE_RATE_HZ

_BANDS, _TIMES = 12, 20
_SHORTEST_S = 0.1  # of a patch
_TOGETHER = 16  # masked clips scored at once

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Explanation:
    """What carries the score of a clip.

    Attributes
    ----------
    score : of the clip
    drop : by how much the score drops when a patch is masked, Float[ndarray, "band time"]
    drop_of_times : the same when all bands of a time are masked, Float[ndarray, "time"]
    band_edges_hz, time_edges_s : edges of the patches, one more than patches
    """

    score: float
    drop: Array
    drop_of_times: Array
    band_edges_hz: Array
    time_edges_s: Array

    @property
    def strongest(self) -> tuple[float, float, float, float]:
        """Start and end in s, lowest and highest frequency in Hz, of the patch with the largest drop."""
        band, time = np.unravel_index(int(self.drop.argmax()), self.drop.shape)
        return (
            float(self.time_edges_s[time]),
            float(self.time_edges_s[time + 1]),
            float(self.band_edges_hz[band]),
            float(self.band_edges_hz[band + 1]),
        )


def explain(
    detector: MachineDetector,
    clip: Clip,
    *,
    bands: int | None = None,
    times: int | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Return what carries the score of a clip of 16-bit samples at 16 kHz.

    Parameters
    ----------
    detector : of the clip's machine type
    clip : its samples
    bands : number of frequency bands, of equal width on the mel scale (default: 12)
    times : number of stretches of time (default: 20); fewer if they would be shorter than 0.1 s
    progress : called with the number of scored patches and of all
    """
    spectrum = to_spectrum(clip)
    duration_s = len(clip) / SAMPLE_RATE_HZ
    times = max(1, min(times or _TIMES, int(duration_s / _SHORTEST_S)))
    frame_edges = _edges(np.linspace(0, spectrum.shape[1], times + 1))
    bin_edges = _edges(_mel_spaced_hz(bands or _BANDS) * N_FFT / SAMPLE_RATE_HZ)
    bin_edges[-1] = len(spectrum)
    of_time = _pairs(frame_edges)
    patches = [(*band, *time) for band in _pairs(bin_edges) for time in of_time]
    patches += [(0, len(spectrum), *time) for time in of_time]
    normal = torch.pow(10.0, detector.normal_level_db / 20)[:, None]
    score = float(detector.scores([clip]).score[0])
    masked = (to_samples(_masked(spectrum, normal, patch), len(clip)) for patch in patches)
    scores = np.concatenate(list(_scored(detector, masked, len(patches), progress)))
    n_patches = (len(bin_edges) - 1) * times
    return Explanation(
        score,
        score - scores[:n_patches].reshape(-1, times),
        score - scores[n_patches:],
        bin_edges * SAMPLE_RATE_HZ / N_FFT,
        np.minimum(frame_edges * HOP_SAMPLES / SAMPLE_RATE_HZ, duration_s),
    )


def _masked(spectrum: Tensor, normal: Tensor, patch: tuple[int, int, int, int]) -> Tensor:
    low, high, begin, end = patch
    changed = spectrum.clone()
    part = changed[low:high, begin:end]
    changed[low:high, begin:end] = torch.polar(normal[low:high].expand(part.shape).contiguous(), part.angle())
    return changed


def _scored(
    detector: MachineDetector, clips: Iterator[Clip], count: int, progress: Progress | None
) -> Iterator[Array]:
    for done in range(0, count, _TOGETHER):
        group = [next(clips) for _ in range(min(_TOGETHER, count - done))]
        yield detector.scores(group).score
        if progress is not None:
            progress(done + len(group), count)


def _mel_spaced_hz(bands: int) -> Array:
    """Return edges of bands of equal width on the mel scale, from 0 to half the sample rate."""
    top = float(hz_to_mel(np.array(SAMPLE_RATE_HZ / 2)))
    return mel_to_hz(np.linspace(0, top, bands + 1))


def _edges(positions: Array) -> NDArray[np.int64]:
    return np.unique(np.rint(positions).astype(np.int64))


def _pairs(edges: NDArray[np.int64]) -> list[tuple[int, int]]:
    return [(int(low), int(high)) for low, high in pairwise(edges)]
