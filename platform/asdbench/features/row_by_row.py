"""The transforms row by row, which the loader calls until it takes :mod:`asdbench.features.augment`."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench.errors import unknown_name
from asdbench.features.augment import TRANSFORMS
from asdbench.spec import SAMPLE_RATE_HZ

_FULL_SCALE = 32768.0
_FFT = 1024  # samples of a vocoder frame
_HOP = _FFT // 4
_HANN_SQUARED = 1.5  # sum of squared Hann windows a quarter of their length apart

# gain of a fade at x = 0 (silent) to 1, as in torchaudio's Fade
_FADES: tuple[Callable[[NDArray[np.float32]], NDArray[np.float32]], ...] = (
    lambda x: x,
    lambda x: np.sin(x * (np.pi / 2)),
    lambda x: (1 - np.cos(x * np.pi)) / 2,
    lambda x: np.minimum(1 + np.log10(0.1 + x), 1),
    lambda x: x * np.exp2(x - 1),
)


def augmented_crops(
    clips: Sequence[NDArray[np.int16]],
    starts: Sequence[int],
    length: int,
    *,
    transforms: Sequence[str],
    keys: Sequence[int],
) -> Tensor:
    """Return samples [start, start + length) of clips, each after one transform.

    Samples before the start and after the end of a clip are zero. A stretched or pitched crop has no such
    padding: it begins at sample ``start``, or at the nearest sample from which it needs none beyond the ends
    of the clip. A clip that is too short for that is repeated end to end.

    White noise is added at a signal-to-noise ratio of U(-6, 6) dB to the power of the crop. A clip of N
    samples fades in over U(0, N/2) of them and out over U(0, N/2), in one of five shapes. It is shifted
    circularly, later by U(0, 5) s; played U(0.5, 2) times as fast; or U(-10, 10) semitones higher. The ratio,
    the speed and the semitones are the first draw of ``numpy.random.default_rng(key)``.

    Parameters
    ----------
    clips : Int16[NDArray, "sample"] each, 16 kHz, of at least one sample; only read
    starts : first sample of each crop; may be negative (frames of a spectrogram are centered)
    length : samples of a crop
    transforms : a name in ``TRANSFORMS`` for each row; the masks do not change the waveform
    keys : seed of each row, integers from 0

    Returns
    -------
    Float[Tensor, "row sample"], full scale = 1

    Raises
    ------
    InputError : a transform is not in ``TRANSFORMS``

    Examples
    --------
    >>> clip = np.arange(16_000, dtype=np.int16)
    >>> crops = augmented_crops([clip, clip], [0, 100], 512, transforms=["identity", "noise"], keys=[1, 2])
    >>> crops.shape
    torch.Size([2, 512])
    >>> float(crops[0, 3] * 32768)
    3.0
    """
    crops = np.zeros((len(clips), length), np.float32)
    for crop, clip, start, transform, key in zip(crops, clips, starts, transforms, keys, strict=True):
        generator = np.random.default_rng(key)
        first = max(start, 0)
        inside = crop[first - start : max(len(clip), first) - start]
        inside[:] = clip[first : first + len(inside)]
        match transform:
            case "noise":
                _add_noise(inside, snr_db=generator.uniform(-6, 6), generator=generator)
            case "fade":
                into, out = generator.integers(0, len(clip) // 2, endpoint=True, size=2).tolist()
                gain = _FADES[generator.integers(len(_FADES))]
                _fade(inside, into - first, into, gain)
                _fade(inside[::-1], out - (len(clip) - first - len(inside)), out, gain)
            case "shift":
                by = int(generator.integers(0, 5 * SAMPLE_RATE_HZ, endpoint=True))
                inside[:] = _circular(clip, first - by, len(inside))
            case "stretch":
                rate = generator.uniform(0.5, 2)
                crop[:] = _vocoded(clip, start, length, step_samples=rate * _HOP, hop_samples=_HOP)
            case "pitch":
                hop = round(_HOP / 2 ** (generator.uniform(-10, 10) / 12))
                crop[:] = _vocoded(clip, start, length, step_samples=hop, hop_samples=hop)
            case "frequency_mask" | "time_mask" | "identity":
                pass
            case _:
                raise unknown_name("augmentation", transform, TRANSFORMS)
    return torch.from_numpy(crops).mul_(1 / _FULL_SCALE)


def mask_windows(windows: Tensor, *, transforms: Sequence[str], keys: Sequence[int]) -> None:
    """Blank a stripe of each row whose transform is a mask, in place; keep the other rows.

    A frequency mask covers 1 to M/10 of the M mel bands, a time mask 1 to T/10 of the T frames, anywhere. It
    is filled with 0, the mean of a standardized window.

    Parameters
    ----------
    windows : Float[Tensor, "row frame mel"], standardized
    transforms : a name in ``TRANSFORMS`` for each row
    keys : seed of each row, integers from 0

    Examples
    --------
    >>> windows = torch.ones(1, 64, 128)
    >>> mask_windows(windows, transforms=["time_mask"], keys=[0])
    >>> bool((windows == 0).all(dim=2).any())
    True
    """
    for window, transform, key in zip(windows, transforms, keys, strict=True):
        if transform not in ("frequency_mask", "time_mask"):
            continue
        axis = 0 if transform == "time_mask" else 1
        size = window.shape[axis]
        generator = np.random.default_rng(key)
        width = int(generator.integers(1, max(size // 10, 1), endpoint=True))
        window.narrow(axis, int(generator.integers(0, size - width, endpoint=True)), width).zero_()


def _add_noise(samples: NDArray[np.float32], *, snr_db: float, generator: np.random.Generator) -> None:
    """Add white Gaussian noise, in place, ``snr_db`` below the power of ``samples``."""
    power = float(samples @ samples) / max(len(samples), 1)
    noise = generator.standard_normal(len(samples), dtype=np.float32)
    samples += noise * np.float32(np.sqrt(power * 10 ** (-snr_db / 10)))


def _fade(
    samples: NDArray[np.float32],
    faded: int,
    length: int,
    gain: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> None:
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

    Frequencies are multiplied by _HOP / hop_samples, whatever the step.
    """
    blocks = -(-length // hop_samples)
    positions = _HOP + torch.arange(blocks + 3).mul(step_samples).round_().long()
    samples = int(positions[-1]) + _FFT
    first = start - int(positions[1]) - _FFT // 2  # the first whole block begins amid frame 1
    if samples <= len(clip):
        first = min(max(first, 0), len(clip) - samples)
    context = torch.from_numpy(_circular(clip, first, samples).astype(np.float32))
    frames = context.unfold(0, _FFT, 1)
    window = torch.hann_window(_FFT)
    spectra = torch.fft.rfft(frames.index_select(0, positions) * window)
    advance = torch.fft.rfft(frames.index_select(0, positions - _HOP) * window).conj_physical_().mul_(spectra)
    advance[0] = spectra[0]
    advance += 1e-12  # silence has no phase: any will do
    modulus = torch.addcmul(spectra.real.square(), spectra.imag, spectra.imag).sqrt_()  # abs is slower
    spectra = advance.sgn_().cumprod(0).mul_(modulus)
    scale = 4 * hop_samples / _FFT / _HANN_SQUARED
    pieces = torch.fft.irfft(spectra, n=4 * hop_samples) * torch.hann_window(4 * hop_samples).mul_(scale)
    quarters = pieces.unflatten(1, (4, hop_samples))
    added = quarters[3:, 0] + quarters[2:-1, 1] + quarters[1:-2, 2] + quarters[:-3, 3]
    crop: NDArray[np.float32] = added.flatten()[:length].numpy()
    return crop
