"""Time stretching and pitch shifting of many crops at once, by a phase vocoder.

Laroche & Dolson, 1999, "Improved phase vocoder time-scale modification of audio". The vocoder takes two
frames, a hop apart, at each place of the clip that an output frame shows. Output frames lie a hop apart too:
from one to the next the phase of a bin advances by what it advances between the two. That is a product of
complex numbers of modulus one; no angle is computed or unwrapped. A pitch is changed by stretching the clip,
then resampling it by hop/h with a whole number h. As in every vocoder that does not lock the phases of
neighboring bins, tones keep their level, noise loses 3 to 4 dB (up to 5 at the highest pitch, with what
leaves the band), and a click is blurred over a frame.
"""

from functools import lru_cache
from typing import NamedTuple, overload

import torch
from torch import Tensor

FFT = 1024  # samples of a frame
HOP = FFT // 4
LOWEST_RATE, HIGHEST_RATE = 0.5, 2.0
SMALLEST_HOP, LARGEST_HOP = 144, 456  # of a pitch shifted by 10 semitones up, down
_HANN_SQUARED = 1.5  # sum of squared Hann windows a quarter of their length apart
_FINE_HOPS = 256, 320, 384  # at 1.5 times the sampling rate that a band needs
_PARTS = 4  # of a block, for the filter that resamples
_TAPS, _PHASES, _KAISER_BETA = 24, 4096, 12.1


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
    spectra = _spectra(contexts, step, offset, blocks(length, HOP) + 3, FFT // 2 + 1)
    pieces = torch.fft.irfft(spectra).mul_(_constants(contexts.device).output_window)
    crops: Tensor = _overlapped(pieces, HOP).flatten(1)[:, :length]
    return crops


def shifted(contexts: Tensor, hop: Tensor, offset: Tensor, length: int) -> Tensor:
    """Return crops whose frequencies are ``HOP / hop`` times those of the context.

    Output frames are computed at 1.5 times the sampling rate, and resampled by a short filter. It depends on
    the place in a block of ``hop`` samples alone. So it is a matrix for each row, made of four bands.

    Parameters
    ----------
    contexts, offset, length : as of :func:`stretched`
    hop : Long[Tensor, "row"], in samples
    """
    smallest, largest = _bounds(hop)
    frames, bins = blocks(length, smallest) + 3, min(FFT // 2, 2 * largest) + 1
    spectra = _spectra(contexts, hop.float(), offset, frames, bins, _band(hop, bins))
    fine_hop = next(fine for fine in _FINE_HOPS if 4 * fine >= 3 * (bins - 1))
    window = _constants(contexts.device).fine_windows[_FINE_HOPS.index(fine_hop)]
    pieces = torch.fft.irfft(spectra, n=4 * fine_hop).mul_(window)
    circular = torch.cat([pieces[..., 1 - _TAPS // 2 :], pieces, pieces[..., : _TAPS // 2]], dim=2)
    filtered = _filtered(_overlapped(circular, fine_hop, _TAPS - 1), hop, fine_hop, smallest, largest)
    return _laid_out(filtered, hop, length)


def _overlapped(pieces: Tensor, hop: int, beyond: int = 0) -> Tensor:
    """Return the sum of the four pieces that overlap in each block of ``hop`` samples, and some beyond."""
    quarters = pieces.unfold(2, hop + beyond, hop)
    return (quarters[:, 3:, 0] + quarters[:, 2:-1, 1]).add_(quarters[:, 1:-2, 2]).add_(quarters[:, :-3, 3])


def _bounds(hop: Tensor) -> tuple[int, int]:
    """Return bounds of ``hop``, which decide shapes: tight ones where that neither waits nor recompiles."""
    if hop.is_cpu and not torch.compiler.is_compiling():
        smallest, largest = hop.aminmax()
        return int(smallest), int(largest)
    return SMALLEST_HOP, LARGEST_HOP


def _band(hop: Tensor, bins: int) -> Tensor:
    """Return the weight of each bin: nothing above the band's end, one of its two frequencies at it."""
    which = torch.arange(bins, device=hop.device)
    return ((which < 2 * hop[:, None]).float() + (which <= 2 * hop[:, None]).float()) / 2


def _filtered(fine: Tensor, hop: Tensor, fine_hop: int, smallest: int, largest: int) -> Tensor:
    """Return blocks at the sampling rate of crops, Float[Tensor, "row block sample"], ``hop`` samples each.

    Parameters
    ----------
    fine : Float[Tensor, "row block sample"], with the samples beyond a block that the filter needs
    hop : Long[Tensor, "row"], from ``smallest`` to ``largest``
    """
    width = -(-largest // _PARTS)
    height = width * fine_hop // smallest + _TAPS + 1
    fine = torch.nn.functional.pad(fine, (0, max(height - fine.shape[2], 0)))
    rows, blocks, samples = fine.shape
    out = torch.arange(_PARTS * width, device=hop.device)
    whole = out * fine_hop // hop[:, None]
    start = whole[:, ::width].clamp(max=samples - height)
    block = torch.arange(rows * blocks, device=hop.device).view(rows, 1, blocks) * samples
    windows = fine.flatten().unfold(0, height, 1).index_select(0, (block + start[..., None]).flatten())
    taps = _taps((out * fine_hop - whole * hop[:, None]) / hop[:, None])
    line = (whole - start.repeat_interleave(width, dim=1)).clamp(max=height - _TAPS)
    first = (out // width * height + line) * width + out % width
    index = first[..., None] + torch.arange(0, _TAPS * width, width, device=hop.device)
    filters = torch.zeros(rows, _PARTS * height * width, device=hop.device)
    filters.scatter_(1, index.flatten(1), taps.flatten(1))
    parts = windows.view(rows, _PARTS, blocks, height) @ filters.view(rows, _PARTS, height, width)
    return parts.transpose(1, 2).flatten(2)


def _taps(phase: Tensor) -> Tensor:
    """Return the filter at phases from 0 to 1, Float[Tensor, "row out tap"]."""
    kernel = _constants(phase.device).kernel
    place = phase * _PHASES
    low = place.int()
    below, above = (kernel.index_select(0, which.flatten()) for which in (low, low + 1))
    return torch.lerp(below, above, (place - low).view(-1, 1)).view(*phase.shape, _TAPS)


def _laid_out(blocks: Tensor, hop: Tensor, length: int) -> Tensor:
    """Return the first ``hop`` samples of every block, Float[Tensor, "row block sample"], in a line."""
    rows, count, width = blocks.shape
    sample = torch.arange(length, dtype=torch.int32, device=hop.device)
    block = ((sample + 0.5) / hop[:, None].float()).int()
    first = torch.arange(rows, dtype=torch.int32, device=hop.device)[:, None] * (count * width)
    index = block * (width - hop[:, None]).int() + (sample + first)
    return blocks.flatten().index_select(0, index.flatten()).view(rows, length)


def _spectra(
    contexts: Tensor, step: Tensor, offset: Tensor, frames: int, bins: int, weight: Tensor | None = None
) -> Tensor:
    """Return the lower bins of the spectra of output frames, Complex[Tensor, "row frame bin"], weighted.

    An output frame is the frame at its place, turned. The turn is the phase of the frame at the place before,
    minus that of the frame a hop before this place, added up over all places. Silence has no phase: any will
    do.
    """
    places = place(torch.arange(frames, device=step.device), step[:, None]) + offset[:, None]
    places = places.clamp(max=contexts.shape[1] - FFT)
    places = places + torch.arange(len(contexts), device=step.device)[:, None] * contexts.shape[1]
    spectra = _spectra_at(contexts, places)[..., :bins]
    before = _spectra_at(contexts, places[:, 1:] - HOP)[..., :bins]
    turns = before.conj_physical_().mul_(spectra[:, :-1]).add_(1e-12)
    square = torch.view_as_real(turns).square()
    turns.mul_((square[..., 0] + square[..., 1]).rsqrt_())
    if weight is not None:  # the first turn is a factor of all
        turns[:, 0].mul_(weight)
        spectra[:, 0].mul_(weight)
    spectra[:, 1:].mul_(turns.cumprod_(1))
    return spectra


def _spectra_at(contexts: Tensor, places: Tensor) -> Tensor:
    found = contexts.flatten().unfold(0, FFT, 1).index_select(0, places.flatten())
    frames = found.float().mul_(_constants(contexts.device).window)
    spectra: Tensor = torch.fft.rfft(frames.view(*places.shape, FFT))
    return spectra


class _Constants(NamedTuple):
    window: Tensor
    output_window: Tensor
    fine_windows: tuple[Tensor, ...]
    kernel: Tensor


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _constants(device: torch.device) -> _Constants:
    return _constants_on(device)


@lru_cache
def _constants_on(device: torch.device) -> _Constants:
    window = torch.hann_window(FFT)
    fine = [torch.hann_window(4 * hop) * (hop / HOP / _HANN_SQUARED) for hop in _FINE_HOPS]
    return _Constants(
        window.to(device),
        (window / _HANN_SQUARED).to(device),
        tuple(values.to(device) for values in fine),
        _kernel().to(device),
    )


def _kernel() -> Tensor:
    """Return the interpolation filter by phase, Float[Tensor, "phase tap"]: sinc in a Kaiser window."""
    phase = torch.arange(_PHASES + 1, dtype=torch.float64)[:, None] / _PHASES
    distance = torch.arange(_TAPS) - (_TAPS // 2 - 1) - phase
    window = torch.special.i0(_KAISER_BETA * (1 - (2 * distance / _TAPS).square()).clamp(min=0).sqrt())
    highest = torch.special.i0(torch.tensor(_KAISER_BETA, dtype=torch.float64))
    kernel: Tensor = torch.sinc(distance) * window / highest
    return kernel.float()
