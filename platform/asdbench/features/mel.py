"""Log-mel spectrograms of clips and of crops.

Hann window (periodic), power spectrum, Slaney mel scale and norm, 10·log10(max(·, floor)): the convention of
the DCASE 2023 Task 2 baseline (Harada et al., 2023, arXiv:2303.00455). The clip is zero-padded by n_fft/2 at
each end; frame t covers padded samples [hop·t, hop·t + n_fft). Agrees with librosa's ``melspectrogram``
(``center=True, pad_mode="constant"``) to float32 rounding.

A CPU computes a few frames at a time, which fit into its cache; a GPU computes all at once. A mel band is
zero over most of the spectrum: the filter bank is stored as a few blocks of neighboring bands, each over its
own range of bins. It applies to the interleaved squares of real and imaginary parts, which saves the pass
that would add them.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench.spec import SAMPLE_RATE_HZ, MelSpec

_CHUNK_FRAMES = 128
_CHUNK_ROWS = 2
_BLOCKS = 4

_Constants = tuple[Tensor, list[tuple[slice, Tensor]]]  # window; bins and weights of each block of bands


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _constants(spec: MelSpec, device: torch.device) -> _Constants:
    return _constants_on(spec, device)


@lru_cache(maxsize=16)
def _constants_on(spec: MelSpec, device: torch.device) -> _Constants:
    from asdbench.features.torchaudio_import import torchaudio

    window = torch.hann_window(spec.n_fft, periodic=True)
    bank = torchaudio.functional.melscale_fbanks(
        n_freqs=spec.n_fft // 2 + 1,
        f_min=spec.f_min_hz,
        f_max=spec.f_max_hz,
        n_mels=spec.n_mels,
        sample_rate=SAMPLE_RATE_HZ,
        norm="slaney",
        mel_scale="slaney",
    )
    interleaved = bank.repeat_interleave(2, dim=0)  # rows: real, imaginary part of bin 0, of bin 1, ...
    blocks = []
    for bands in interleaved.tensor_split(min(_BLOCKS, spec.n_mels), dim=1):
        rows = bands.any(dim=1).nonzero().flatten().tolist() or [0]
        stretch = slice(rows[0], rows[-1] + 1)
        blocks.append((stretch, bands[stretch].contiguous().to(device)))
    return window.to(device), blocks


def hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return frequencies on the Slaney mel scale: linear up to 1 kHz, logarithmic above.

    Examples
    --------
    >>> hz_to_mel(np.array([0.0, 500.0, 1000.0, 6400.0])).round(3).tolist()
    [0.0, 7.5, 15.0, 42.0]
    """
    logarithmic = 15 + 27 * np.log(np.maximum(hz, 1000.0) / 1000) / np.log(6.4)
    return np.where(hz < 1000, hz * 3 / 200, logarithmic)


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the frequencies in Hz of values on the Slaney mel scale; the inverse of `hz_to_mel`."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def log_mel(waveform: Tensor, spec: MelSpec, *, min_frames: int = 1) -> Tensor:
    """Return the log-mel spectrogram of one clip.

    Parameters
    ----------
    waveform : Float[Tensor, "sample"], full scale = 1, 16 kHz
    spec : parameters
    min_frames : a shorter clip is repeated end to end until it fills this many frames

    Returns
    -------
    Float[Tensor, "frame mel"], in dB

    Examples
    --------
    >>> log_mel(torch.zeros(16_000), MelSpec(n_mels=64)).shape
    torch.Size([101, 64])
    """
    least = (min_frames - 1) * spec.hop_samples
    if len(waveform) < least:
        waveform = waveform.repeat(-(-least // len(waveform)))[:least]
    return log_mels(waveform[None], spec)[0]


def log_mels(waveforms: Tensor, spec: MelSpec) -> Tensor:
    """Return the log-mel spectrograms of clips of equal length, Float[Tensor, "clip frame mel"], in dB.

    Parameters and values are those of `log_mel`, with Float[Tensor, "clip sample"]. Two devices give the same
    up to float32 rounding, which is that of the strongest of a frame's frequencies.
    """
    before = spec.n_fft // 2
    padded = torch.nn.functional.pad(waveforms, (before, spec.n_fft - before))
    return log_mel_of_padded(padded, spec)


def log_mel_of_padded(samples: Tensor, spec: MelSpec) -> Tensor:
    """Return the log-mel spectrograms of crops that contain all samples of their frames.

    Parameters
    ----------
    samples : Float[Tensor, "row sample"], full scale = 1, 16 kHz; frame t covers [hop·t, hop·t + n_fft)
    spec : parameters

    Returns
    -------
    Float[Tensor, "row frame mel"], in dB

    Examples
    --------
    >>> log_mel_of_padded(torch.zeros(2, 1024 + 160), MelSpec()).shape
    torch.Size([2, 2, 128])
    """
    frames = samples.unfold(1, spec.n_fft, spec.hop_samples)
    if samples.is_cpu and not torch.compiler.is_compiling():
        mels = samples.new_empty(*frames.shape[:2], spec.n_mels)
        for some, out in zip(_chunks(frames), _chunks(mels), strict=True):
            _mels(some, spec, out=out)
    else:
        mels = _mels(frames, spec)
    return mels.clamp_(min=spec.floor).log10_().mul_(10.0)


def _chunks(frames: Tensor) -> Iterator[Tensor]:
    """Yield parts of a tensor of rows and frames that a CPU computes at once."""
    for rows in torch.split(frames, _CHUNK_ROWS):
        yield from torch.split(rows, _CHUNK_FRAMES // len(rows), dim=1)


def _mels(frames: Tensor, spec: MelSpec, *, out: Tensor | None = None) -> Tensor:
    """Return the power of frames in each band, Float[Tensor, "row frame mel"]."""
    window, blocks = _constants(spec, frames.device)
    squares = torch.view_as_real(torch.fft.rfft(frames * window)).square_().flatten(2)
    return torch.cat([squares[..., stretch] @ bands for stretch, bands in blocks], dim=2, out=out)
