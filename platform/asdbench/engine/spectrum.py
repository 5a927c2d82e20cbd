"""The short-time spectrum in which an explanation masks parts of a clip."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

N_FFT, HOP_SAMPLES = 1024, 256
_FLOOR = 1e-10  # of a power
_FULL_SCALE = 32768


def to_spectrum(samples: NDArray[np.int16]) -> Tensor:
    """Return the short-time spectrum of a clip, ComplexFloat[Tensor, "frequency time"], full scale 1."""
    wave = torch.from_numpy(samples.astype(np.float32)).div_(_FULL_SCALE)
    if len(wave) < N_FFT:
        wave = torch.nn.functional.pad(wave, (0, N_FFT - len(wave)))
    return torch.stft(
        wave, N_FFT, HOP_SAMPLES, window=torch.hann_window(N_FFT), return_complex=True, pad_mode="constant"
    )


def to_samples(spectrum: Tensor, samples: int) -> NDArray[np.int16]:
    """Return the clip of ``samples`` samples with this spectrum.

    Examples
    --------
    >>> clip = (1000 * np.sin(np.arange(4000) / 5)).astype(np.int16)
    >>> int(abs(to_samples(to_spectrum(clip), 4000) - clip).max())
    0
    """
    wave = torch.istft(spectrum, N_FFT, HOP_SAMPLES, window=torch.hann_window(N_FFT), length=samples)
    return wave.mul_(_FULL_SCALE).round_().clamp_(-_FULL_SCALE, _FULL_SCALE - 1).numpy().astype(np.int16)


def level_db(spectrum: Tensor) -> Tensor:
    """Return the level of each frequency and time in dB, Float[Tensor, "frequency time"]."""
    return spectrum.abs().square().clamp(min=_FLOOR).log10().mul(10)


def mean_level_db(clips: Sequence[NDArray[np.int16]]) -> Tensor:
    """Return the mean level of each frequency over clips, at least one, Float[Tensor, "frequency"].

    Examples
    --------
    >>> mean_level_db([np.zeros(16_000, np.int16)]).unique()
    tensor([-100.])
    """
    return torch.stack([level_db(to_spectrum(clip)).mean(dim=1) for clip in clips]).mean(dim=0)
