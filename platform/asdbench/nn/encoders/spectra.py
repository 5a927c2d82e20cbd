"""Spectrograms as the published encoders were trained with.

* :class:`KaldiFbank`: log-mel filter banks by Kaldi's rules (``compute-fbank-feats``), with the options
  that BEATs and EAT use: frames of 25 ms every 10 ms without padding, each with its mean removed and
  pre-emphasis 0.97, padded to 512 samples, power spectrum, triangles that are linear in mel =
  1127 ln(1 + f / 700) from 20 Hz to 8 kHz, natural logarithm of max(energy, 2^-23), no dither. Equal to
  ``torchaudio.compliance.kaldi.fbank``.
* :class:`MelSpectrogram`: mel power spectrogram in dB as ``torchaudio.transforms`` has it by default: frames
  of 512 samples, centered with reflected edges, periodic Hann window, triangles that are linear in Hz between
  corners on HTK's mel scale, 10·log10(max(·, 1e-10)), at most 120 dB below the clip's maximum.

Known departure: torchaudio takes the maximum over all clips of a batch, here it is each clip's own, so that a
clip's tokens do not depend on its neighbors.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asdbench.spec import SAMPLE_RATE_HZ

Numbers = NDArray[np.float64]

_KALDI_FRAME, _HOP, _FFT = 400, 160, 512


class KaldiFbank(nn.Module):
    """Log-mel filter banks by Kaldi's rules, natural logarithm.

    Parameters
    ----------
    n_mels : number of bands
    window : ``"povey"`` (Hann to the power 0.85) or ``"hanning"``, both symmetric

    Examples
    --------
    >>> KaldiFbank(128, "povey")(torch.zeros(2, 16_000)).shape
    torch.Size([2, 98, 128])
    """

    def __init__(self, n_mels: int, window: str) -> None:
        super().__init__()
        hann = torch.hann_window(_KALDI_FRAME, periodic=False, dtype=torch.float64)
        power = {"povey": 0.85, "hanning": 1.0}[window]
        self.window: Tensor
        self.bands: Tensor
        self.register_buffer("window", (hann**power).float(), persistent=False)
        self.register_buffer("bands", _kaldi_bands(n_mels), persistent=False)

    @staticmethod
    def frames(samples: int) -> int:
        """Return the number of frames of so many samples."""
        return max(0, (samples - _KALDI_FRAME) // _HOP + 1)

    def forward(self, waveform: Tensor) -> Tensor:
        """Map Float[Tensor, "row sample"] to Float[Tensor, "row frame mel"]."""
        with torch.autocast(waveform.device.type, enabled=False):
            frames = waveform.float().unfold(-1, _KALDI_FRAME, _HOP)
            frames = frames - frames.mean(-1, keepdim=True)
            before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
            spectrum = torch.fft.rfft((frames - 0.97 * before) * self.window, n=_FFT)
            power = torch.view_as_real(spectrum).square().sum(-1)
            return (power @ self.bands).clamp_min(torch.finfo(torch.float32).eps).log()


class MelSpectrogram(nn.Module):
    """Mel power spectrogram in dB, 64 bands from 0 to 8 kHz by default.

    Examples
    --------
    >>> MelSpectrogram()(torch.zeros(2, 16_000)).shape
    torch.Size([2, 101, 64])
    """

    def __init__(self, n_mels: int = 64) -> None:
        super().__init__()
        self.window: Tensor
        self.bands: Tensor
        self.register_buffer("window", torch.hann_window(_FFT), persistent=False)
        self.register_buffer("bands", _htk_bands(n_mels), persistent=False)

    @staticmethod
    def frames(samples: int) -> int:
        """Return the number of frames of so many samples."""
        return samples // _HOP + 1 if samples > _FFT // 2 else 0

    def forward(self, waveform: Tensor) -> Tensor:
        """Map Float[Tensor, "row sample"] to Float[Tensor, "row frame mel"]."""
        with torch.autocast(waveform.device.type, enabled=False):
            padded = nn.functional.pad(waveform.float(), (_FFT // 2, _FFT // 2), mode="reflect")
            spectrum = torch.fft.rfft(padded.unfold(-1, _FFT, _HOP) * self.window)
            power = torch.view_as_real(spectrum).square().sum(-1)
            decibels = (power @ self.bands).clamp_min(1e-10).log10() * 10
            return torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - 120)


def _kaldi_bands(n_mels: int) -> Tensor:
    low, high = _mel(np.array([20.0, SAMPLE_RATE_HZ / 2]), 1127.0)
    bins = _mel(np.arange(_FFT // 2 + 1) * SAMPLE_RATE_HZ / _FFT, 1127.0)
    bands = _triangles(bins, np.linspace(low, high, n_mels + 2))
    bands[-1] = 0  # Kaldi leaves the Nyquist bin out
    return torch.from_numpy(bands).float()


def _htk_bands(n_mels: int) -> Tensor:
    scale = 2595.0 / np.log(10)
    low, high = _mel(np.array([0.0, SAMPLE_RATE_HZ / 2]), scale)
    corners = np.linspace(low, high, n_mels + 2)
    corners_hz = 700 * (np.exp(corners / scale) - 1)
    return torch.from_numpy(_triangles(np.linspace(0, SAMPLE_RATE_HZ / 2, _FFT // 2 + 1), corners_hz)).float()


def _mel(hz: Numbers, scale: float) -> Numbers:
    mel: Numbers = scale * np.log(1 + hz / 700)
    return mel


def _triangles(places: Numbers, corners: Numbers) -> Numbers:
    """Return weights, Float["place band"]: 1 at a band's middle corner, 0 at its neighbors."""
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    rising = (places[:, None] - low) / (middle - low)
    falling = (high - places[:, None]) / (high - middle)
    weights: Numbers = np.clip(np.minimum(rising, falling), 0, None)
    return weights
