"""Time stretching and pitch shifting of many crops at once, by a phase vocoder.

Laroche & Dolson, 1999, "Improved phase vocoder time-scale modification of audio". The vocoder takes two
frames, a hop apart, at each place of the clip that an output frame shows. Output frames lie a hop apart too:
from one to the next the phase of a bin advances by what it advances between the two. That is a product of
complex numbers of modulus one; no angle is computed or unwrapped. A pitch is changed by stretching the clip,
then resampling it by hop/h with a whole number h. As in every vocoder that does not lock the phases of
neighboring bins, tones keep their level, noise loses 3 to 4 dB (up to 5 at the highest pitch, with what
leaves the band), and a click is blurred over a frame.
"""

from typing import overload

import torch
from torch import Tensor

FFT = 1024  # samples of a frame
HOP = FFT // 4
LOWEST_RATE, HIGHEST_RATE = 0.5, 2.0
SMALLEST_HOP, LARGEST_HOP = 144, 456  # of a pitch shifted by 10 semitones up, down
_HANN_SQUARED = 1.5  # sum of squared Hann windows a quarter of their length apart


@overload
def blocks(length: int, hop: int) -> int: ...
@overload
def blocks(length: int, hop: Tensor) -> Tensor: ...
def blocks(length: int, hop: int | Tensor) -> int | Tensor:
    """Return how many blocks of ``hop`` samples cover ``length`` samples."""
    return -(-length // hop)


def place(frame: Tensor, step: Tensor) -> Tensor:
    """Return the place in its context of a frame of the vocoder, if frames are ``step`` samples apart."""
    return HOP + (frame.float() * step).round().long()


def longest_stretch(length: int) -> int:
    """Return the samples that a stretched crop is computed from at the highest rate."""
    return HOP + round(HIGHEST_RATE * HOP) * (blocks(length, HOP) + 2) + FFT


def longest_pitch(length: int) -> int:
    """Return at least as many samples as a pitch-shifted crop is computed from, whatever the pitch."""
    return HOP + length - 1 + 3 * LARGEST_HOP + FFT


def stretched(contexts: Tensor, step: Tensor, offset: Tensor, length: int) -> Tensor:
    """Return crops of which every ``HOP`` samples show ``step`` samples of the context.

    Parameters
    ----------
    contexts : Int16[Tensor, "row context"]
    step : Float[Tensor, "row"], in samples
    offset : Long[Tensor, "row"], where in its context a row begins
    length : samples of a crop

    Returns
    -------
    Float[Tensor, "row sample"], in units of ``contexts``
    """
    spectra = _spectra(contexts, step, offset, blocks(length, HOP) + 3)
    pieces = torch.fft.irfft(spectra) * (_hann(contexts) / _HANN_SQUARED)
    quarters = pieces.unflatten(2, (4, HOP))
    added = quarters[:, 3:, 0] + quarters[:, 2:-1, 1] + quarters[:, 1:-2, 2] + quarters[:, :-3, 3]
    crops: Tensor = added.flatten(1)[:, :length]
    return crops


def shifted(contexts: Tensor, hop: Tensor, offset: Tensor, length: int) -> Tensor:
    """Return crops whose frequencies are ``HOP / hop`` times those of the context; see :func:`stretched`."""
    spectra = _spectra(contexts, hop.float(), offset, blocks(length, SMALLEST_HOP) + 3)
    sample = torch.arange(4 * LARGEST_HOP, device=hop.device)
    bins = torch.arange(FFT // 2 + 1, device=hop.device)
    turns = (bins[:, None] * sample % (4 * hop[:, None, None])) / (4 * hop[:, None, None])
    weight = torch.where((bins == 0) | (bins == 2 * hop[:, None]), 1.0, 2.0) * (bins <= 2 * hop[:, None])
    basis = torch.polar(weight[:, :, None].expand_as(turns).contiguous(), 2 * torch.pi * turns)
    basis = torch.view_as_real(basis.conj().resolve_conj()).transpose(2, 3).flatten(1, 2)
    window = 0.5 - 0.5 * torch.cos(2 * torch.pi * sample / (4 * hop[:, None]))
    pieces = torch.view_as_real(spectra).flatten(2) @ basis
    pieces = pieces * window[:, None] / FFT / _HANN_SQUARED
    place = torch.arange(length, device=hop.device)
    block, within = place // hop[:, None], place % hop[:, None]
    first = (block + 3) * pieces.shape[2] + within
    quarters = [first + quarter * (hop[:, None] - pieces.shape[2]) for quarter in range(4)]
    return torch.stack([pieces.flatten(1).gather(1, index) for index in quarters]).sum(dim=0)


def _spectra(contexts: Tensor, step: Tensor, offset: Tensor, frames: int) -> Tensor:
    """Return the spectra of output frames, Complex[Tensor, "row frame bin"]."""
    places = place(torch.arange(frames, device=step.device), step[:, None]) + offset[:, None]
    places = places.clamp(max=contexts.shape[1] - FFT)
    places = places + torch.arange(len(contexts), device=step.device)[:, None] * contexts.shape[1]
    every_frame = contexts.flatten().unfold(0, FFT, 1)

    def spectra_at(places: Tensor) -> Tensor:
        frames = every_frame.index_select(0, places.flatten()).view(*places.shape, FFT)
        spectra: Tensor = torch.fft.rfft(frames * _hann(contexts))
        return spectra

    spectra = spectra_at(places)
    advance = spectra_at(places - HOP).conj() * spectra
    advance = torch.cat([spectra[:, :1], advance[:, 1:]], dim=1) + 1e-12  # silence has no phase: any will do
    phases: Tensor = advance.sgn().cumprod(1)
    moduli: Tensor = spectra.abs()
    return phases * moduli


def _hann(contexts: Tensor) -> Tensor:
    return torch.hann_window(FFT, device=contexts.device)
