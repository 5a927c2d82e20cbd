"""Augmentations of training windows, which a system can also learn to classify; many rows at once.

Five of the eight transforms change a clip's waveform before a window is cropped from it, two blank a stripe
of the standardized log-mel window, one does nothing. They are the eight classes of AADCL, which Zhang & Li
adopt (DCASE 2023 Task 2, "Anomalous sound detection via multitask learning and adversarial learning"). Each
is computed only for the crop, never for a whole clip. All randomness of a row comes from the row's key, so
that a row is the same in every batch: :mod:`asdbench.features.transform_draws` draws on the host what this
module computes on the device.

Samples of a crop before the start and after the end of a clip are zero. A stretched or pitched crop
(:mod:`asdbench.features.vocoder`) has no such padding: it begins at the crop's first sample, or at the
nearest from which it needs none beyond the ends of the clip. A clip that is too short for that is repeated.

- noise: white, at a signal-to-noise ratio of U(-6, 6) dB to the power of the crop;
- fade: of a clip of N samples, in over U(0, N/2) of them and out over U(0, N/2), in one of five shapes;
- shift: circular, later by U(0, 5) s;
- stretch: U(0.5, 2) times as fast;
- pitch: U(-10, 10) semitones higher;
- frequency mask: 1 to M/10 of the M mel bands; time mask: 1 to T/10 of the T frames, anywhere, filled with 0,
  the mean of a standardized window.

Departures from AADCL: it stretches by resampling, which changes the pitch, so that two of its classes are
one; here a stretched clip keeps its pitch. Masks are at least one band or frame wide, for an empty mask would
be the identity by another name. The pitch is that of the nearest h, at most 6 cents off what was drawn. A
batch has as many rows of one transform as of another.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from asdbench import random_by_row
from asdbench.features import vocoder

TRANSFORMS = ("noise", "fade", "frequency_mask", "time_mask", "shift", "identity", "stretch", "pitch")
ON_WAVEFORM = frozenset({"noise", "fade", "shift", "stretch", "pitch"})
FADES = ("linear", "quarter sine", "half sine", "logarithmic", "exponential")

_FULL_SCALE = 32768.0
_FADE_CELLS = 16_384
_VOCODED = frozenset({"stretch", "pitch"})


@dataclass(frozen=True)
class Group:
    """The rows of a batch that pass through one transform, in slots.

    Attributes
    ----------
    transform
        Name in ``TRANSFORMS``.
    rows
        Long[Tensor, "slot"], place in the batch of the row that takes the slot; the number of rows of the
        batch, if none does.
    sources
        Long[Tensor, "slot"], place in the batch of the row whose clip the slot is computed from.
    first
        Long[Tensor, "slot"], any integers: sample p of a slot's context is sample (first + p) modulo N of its
        clip of N samples.
    samples
        Number of samples of a context; 0 for a mask, which needs none.
    drawn
        Tensor[Tensor, "slot"] by name: what the transform does.
    """

    transform: str
    rows: Tensor
    sources: Tensor
    first: Tensor
    samples: int
    drawn: Mapping[str, Tensor]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Group":
        """Return the group with every tensor changed, for instance pinned or moved to a device."""
        drawn = {name: change(value) for name, value in self.drawn.items()}
        rows, sources, first = map(change, (self.rows, self.sources, self.first))
        return replace(self, rows=rows, sources=sources, first=first, drawn=drawn)


def transformed(contexts: Tensor, group: Group, length: int) -> Tensor:
    """Return the crops of a group whose transform is one of the waveform.

    Parameters
    ----------
    contexts : Int16[Tensor, "slot context"], 16 kHz, the samples that ``group.first`` tells
    group : what was drawn
    length : samples of a crop

    Returns
    -------
    Float[Tensor, "slot sample"], full scale = 1
    """
    if not contexts.is_cpu or torch.compiler.is_compiling():
        return _crops(contexts, group, length)
    crops = torch.empty(len(contexts), length)
    rows = 1 if group.transform in _VOCODED else 4  # at once, which fit into a CPU's cache
    for first in range(0, len(contexts), rows):
        chunk = slice(first, first + rows)
        of_chunk = group.map(lambda values, chunk=chunk: values[chunk])  # type: ignore[misc]
        crops[chunk] = _crops(contexts[chunk], of_chunk, length)
    return crops


def _crops(contexts: Tensor, group: Group, length: int) -> Tensor:
    drawn = group.drawn
    match group.transform:
        case "noise":
            crops = _noisy(_inside(contexts, group), group)
        case "fade":
            crops = _inside(contexts, group).mul_(_fade_gain(group, length))
        case "shift":
            crops = _inside(contexts, group)
        case "stretch":
            crops = vocoder.stretched(contexts, drawn["step"], drawn["offset"], length)
        case "pitch":
            crops = vocoder.shifted(contexts, drawn["hop"], drawn["offset"], length)
        case _:
            raise AssertionError(f"{group.transform} leaves the waveform as it is")
    return crops.mul_(1 / _FULL_SCALE)


def mask_windows(windows: Tensor, group: Group) -> None:
    """Blank a stripe of each row of a group whose transform is a mask, in place; keep the other rows.

    Parameters
    ----------
    windows : Float[Tensor, "row frame mel"], standardized, and one more row for slots that no row takes
    group : what was drawn
    """
    _, frames, bands = windows.shape
    rows, begin, width = group.rows, group.drawn["begin"], group.drawn["width"]
    size = frames if group.transform == "time_mask" else bands
    within = torch.arange(widest(size), device=rows.device).minimum(width[:, None] - 1) + begin[:, None]
    if group.transform == "time_mask":
        places = rows[:, None] * frames + within
        windows.view(-1, bands).index_fill_(0, places.flatten(), 0)
    else:
        every_frame = rows[:, None] * frames + torch.arange(frames, device=rows.device)
        places = every_frame[:, :, None] * bands + within[:, None]
        windows.view(-1).index_fill_(0, places.flatten(), 0)


def widest(size: int) -> int:
    """Return the largest width of a mask over ``size`` frames or mel bands."""
    return max(size // 10, 1)


def _inside(contexts: Tensor, group: Group) -> Tensor:
    """Return the samples that lie inside the clip, zeros elsewhere."""
    return contexts.float().mul_(_is_inside(contexts.shape[1], group))


def _is_inside(length: int, group: Group) -> Tensor:
    """Return 1 for samples that lie inside the clip, 0 elsewhere."""
    place = torch.arange(length, dtype=torch.float32, device=group.rows.device)
    begin, end = (group.drawn[name].float()[:, None] for name in ("begin", "end"))
    return (place - (begin - 1)).minimum(end - place).clamp_(0, 1)


def _noisy(crops: Tensor, group: Group) -> Tensor:
    drawn, length = group.drawn, crops.shape[1]
    power = torch.linalg.vecdot(crops, crops) / (drawn["end"] - drawn["begin"]).clamp(min=1)
    level = power.sqrt() * drawn["gain"]
    noise = random_by_row.normal(drawn["key"], length, draw="noise").mul_(_is_inside(length, group))
    return torch.addcmul(crops, noise, level[:, None])


def _fade_gain(group: Group, length: int) -> Tensor:
    """Return the gain of every sample, Float[Tensor, "slot sample"], interpolated in a table.

    A clip fades in over half of it at most, and out likewise: one of the two gains at least is 1 everywhere.
    """
    drawn = {name: value[:, None] for name, value in group.drawn.items()}
    place = torch.arange(length, dtype=torch.float32, device=group.rows.device) + drawn["start"].float()
    from_begin = (place + (drawn["into"] == 0)).div_((drawn["into"] - 1).clamp_(min=1).float())
    last = (drawn["clip_samples"] - 1 + (drawn["out"] == 0)).float()
    to_end = (last - place).div_((drawn["out"] - 1).clamp_(min=1).float())
    cell = from_begin.minimum(to_end).clamp_(0, 1).mul_(_FADE_CELLS)
    below = cell.int()
    table = _fades(place.device)
    first = (below + drawn["shape"].int() * (_FADE_CELLS + 2)).flatten()
    low, high = table.index_select(0, first), table.index_select(0, first + 1)
    return torch.lerp(low, high, cell.sub_(below).flatten()).view(cell.shape)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _fades(device: torch.device) -> Tensor:
    return _fades_on(device)


@lru_cache
def _fades_on(device: torch.device) -> Tensor:
    """Return the gains of fades from silence to 1, Float[Tensor, "shape cell"], as in torchaudio's Fade."""
    x = (torch.arange(_FADE_CELLS + 2, dtype=torch.float64) / _FADE_CELLS).clamp_(max=1)
    sine = torch.sin(x * (torch.pi / 2))
    logarithmic = (1 + torch.log10(0.1 + x)).clamp(max=1)
    gains = torch.stack([x, sine, sine.square(), logarithmic, x * torch.exp2(x - 1)])
    return gains.float().flatten().to(device)
