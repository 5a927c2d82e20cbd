"""Each transform of one row, as plainly as possible: the reference of the batched ones. Draws are given."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from asdbench.features.mel import _constants
from asdbench.spec import MelSpec

FFT = 1024
HOP = FFT // 4
HANN_SQUARED = 1.5
FULL_SCALE = 32768.0

Clip = NDArray[np.int16]
Crop = NDArray[np.float32]

# gain of a fade at x = 0 (silent) to 1, as in torchaudio's Fade
FADES: tuple[Callable[[Crop], Crop], ...] = (
    lambda x: x,
    lambda x: np.sin(x * (np.pi / 2)),
    lambda x: (1 - np.cos(x * np.pi)) / 2,
    lambda x: np.minimum(1 + np.log10(0.1 + x), 1),
    lambda x: x * np.exp2(x - 1),
)


def identity(clip: Clip, start: int, length: int) -> Crop:
    return _crop(clip, start, length)[0] / np.float32(FULL_SCALE)


def noise(clip: Clip, start: int, length: int, *, gain: float, values: Crop) -> Crop:
    crop, inside = _crop(clip, start, length)
    power = float(inside @ inside) / max(len(inside), 1)
    first = max(-start, 0)
    inside += values[first : first + len(inside)] * np.float32(np.sqrt(power) * gain)
    return crop / np.float32(FULL_SCALE)


def fade(clip: Clip, start: int, length: int, *, into: int, out: int, shape: int) -> Crop:
    crop, inside = _crop(clip, start, length)
    first = max(start, 0)
    _fade(inside, into - first, into, FADES[shape])
    _fade(inside[::-1], out - (len(clip) - first - len(inside)), out, FADES[shape])
    return crop / np.float32(FULL_SCALE)


def shift(clip: Clip, start: int, length: int, *, by: int) -> Crop:
    crop, inside = _crop(clip, start, length)
    inside[:] = _circular(clip, max(start, 0) - by, len(inside))
    return crop / np.float32(FULL_SCALE)


def stretch(clip: Clip, start: int, length: int, *, step: float) -> Crop:
    return _vocoded(clip, start, length, step_samples=step, hop_samples=HOP) / np.float32(FULL_SCALE)


def pitch(clip: Clip, start: int, length: int, *, hop: int) -> Crop:
    return _vocoded(clip, start, length, step_samples=hop, hop_samples=hop) / np.float32(FULL_SCALE)


def mask(window: torch.Tensor, axis: int, *, begin: int, width: int) -> torch.Tensor:
    window.narrow(axis, begin, width).zero_()
    return window


def _crop(clip: Clip, start: int, length: int) -> tuple[Crop, Crop]:
    """Return the crop, and the view of what lies inside the clip."""
    crop = np.zeros(length, np.float32)
    first = max(start, 0)
    inside = crop[first - start : max(len(clip), first) - start]
    inside[:] = clip[first : first + len(inside)]
    return crop, inside


def _fade(samples: Crop, faded: int, length: int, gain: Callable[[Crop], Crop]) -> None:
    """Multiply samples, in place, by the last ``faded`` gains of a fade-in over ``length`` samples."""
    if faded > 0:
        ramp = np.arange(length - faded, length, dtype=np.float32)[: len(samples)]
        ramp /= max(length - 1, 1)
        samples[: len(ramp)] *= gain(ramp)


def _circular(clip: NDArray[np.int16], first: int, samples: int) -> NDArray[np.int16]:
    """Return samples [first, first + samples) of a clip that is repeated end to end."""
    first %= len(clip)
    if first + samples <= len(clip):
        return clip[first : first + samples]
    return clip[np.arange(first, first + samples) % len(clip)]


def _vocoded(
    clip: NDArray[np.int16], start: int, length: int, *, step_samples: float, hop_samples: int
) -> NDArray[np.float32]:
    """Return ``length`` samples of the clip from ``start``; ``step_samples`` become ``hop_samples``.

    Frequencies are multiplied by HOP / hop_samples, whatever the step.
    """
    blocks = -(-length // hop_samples)
    positions = HOP + torch.arange(blocks + 3).mul(step_samples).round_().long()
    samples = int(positions[-1]) + FFT
    first = start - int(positions[1]) - FFT // 2  # the first whole block begins amid frame 1
    if samples <= len(clip):
        first = min(max(first, 0), len(clip) - samples)
    context = torch.from_numpy(_circular(clip, first, samples).astype(np.float32))
    frames = context.unfold(0, FFT, 1)
    window = torch.hann_window(FFT)
    spectra = torch.fft.rfft(frames.index_select(0, positions) * window)
    advance = torch.fft.rfft(frames.index_select(0, positions - HOP) * window).conj_physical_().mul_(spectra)
    advance[0] = spectra[0]
    advance += 1e-12  # silence has no phase: any will do
    modulus = torch.addcmul(spectra.real.square(), spectra.imag, spectra.imag).sqrt_()  # abs is slower
    spectra = advance.sgn_().cumprod(0).mul_(modulus)
    scale = 4 * hop_samples / FFT / HANN_SQUARED
    pieces = torch.fft.irfft(spectra, n=4 * hop_samples) * torch.hann_window(4 * hop_samples).mul_(scale)
    quarters = pieces.unflatten(1, (4, hop_samples))
    added = quarters[3:, 0] + quarters[2:-1, 1] + quarters[1:-2, 2] + quarters[:-3, 3]
    crop: NDArray[np.float32] = added.flatten()[:length].numpy()
    return crop


def log_mel_of_padded(samples: torch.Tensor, spec: MelSpec) -> torch.Tensor:
    """Return log-mel spectrograms, row by row and 128 frames at a time, Float[Tensor, "row frame mel"]."""
    window, blocks = _constants(spec, samples.device)
    frames = samples.unfold(1, spec.n_fft, spec.hop_samples)
    mels = samples.new_empty(*frames.shape[:2], spec.n_mels)
    for row, mel in zip(frames, mels, strict=True):
        for some, out in zip(row.split(128), mel.split(128), strict=True):
            squares = torch.view_as_real(torch.fft.rfft(some * window)).square_().flatten(1)
            torch.cat([squares[:, stretch] @ bands for stretch, bands in blocks], dim=1, out=out)
    return mels.clamp_(min=spec.floor).log10_().mul_(10.0)
