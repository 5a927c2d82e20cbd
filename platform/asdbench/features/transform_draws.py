"""What is drawn on the host for the transforms of a batch: which row passes through which, and how.

Rows come in groups, one for each transform. A group has a fixed number of slots, so that no shape on the
device depends on what is drawn. A slot that no row takes is computed from the batch's last row, and thrown
away. What a slot is computed from is its context: neighboring samples of its clip, repeated end to end.

The loader calls :func:`assigned` and :func:`slots` for the batch of all processes, :func:`draw` for its own
rows, and gathers the contexts of each :class:`~asdbench.features.augment.Group` whose transform changes the
waveform. On the device follow :func:`asdbench.features.augment.transformed` and
:func:`asdbench.features.augment.mask_windows`.

Examples
--------
>>> names, n_rows, length = ("noise", "identity", "pitch", "time_mask"), 8, 41_824
>>> chosen = assigned(names, seed=0, step=0, rows=n_rows)
>>> groups = draw(
...     names, chosen, random_by_row.row_keys(0, 0, n_rows), torch.zeros(n_rows, dtype=torch.long),
...     torch.full((n_rows,), 160_000), slots(names, n_rows), length=length, window=(256, 128),
... )
>>> [(group.transform, len(group.rows), group.samples) for group in groups]
[('noise', 2, 41824), ('time_mask', 2, 0), ('pitch', 2, 44471)]
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from asdbench import random_by_row
from asdbench.features import vocoder
from asdbench.features.augment import FADES, TRANSFORMS, Group, widest
from asdbench.spec import SAMPLE_RATE_HZ


class _Slots(NamedTuple):
    """Crop and random numbers of each slot of a group; ``random`` are three integers below 2³¹."""

    key: Tensor
    start: Tensor
    clip_samples: Tensor
    random: Tensor
    length: int

    def integer(self, which: int, high: Tensor | int) -> Tensor:
        return (self.random[:, which] * high) >> 31

    def uniform(self, which: int, low: float, high: float) -> Tensor:
        return low + (high - low) * self.random[:, which].double() * 2**-31

    def inside(self) -> dict[str, Tensor]:
        """Return from where to where in the crop there are samples of the clip."""
        begin, end = -self.start, self.clip_samples - self.start
        return {"begin": begin.clamp(0, self.length), "end": end.clamp(0, self.length)}


_Drawn = tuple[Tensor, int, dict[str, Tensor]]  # first, samples, drawn


def assigned(names: Sequence[str], *, seed: int, step: int, rows: int, intact: int | None = None) -> Tensor:
    """Return which transform each row of a training step passes through, Long[Tensor, "row"], index of names.

    Every transform is equally likely for each row, and a batch has as many rows of one as of another: of T
    neighboring rows each has another one, and T times T rows are a Latin square, so that it also holds for
    every second, fourth, ... row, as processes share a batch.

    Parameters
    ----------
    names : transforms, a name may occur several times
    seed, step : of the batch
    rows : number of rows of the batch of all processes
    intact : place of a row that changes its transform with one that has the identity, where there is one

    Examples
    --------
    >>> assigned(("noise", "identity"), seed=0, step=0, rows=64).bincount().tolist()
    [32, 32]
    """
    table, place = _latin_square(len(names), rows)
    keys = random_by_row.row_keys(seed, step, int(table[-1]) + 1)
    order = random_by_row.uniform(keys, len(names), draw="which transform").argsort(dim=1, stable=True)
    chosen = order[table, place]
    if intact is None or "identity" not in names or names[int(chosen[intact])] == "identity":
        return chosen
    identity = names.index("identity")
    others = (chosen == identity).nonzero().flatten()
    if len(others):
        other = random_by_row.integers(keys[:1], high=len(others), draw="intact row")
        chosen[others[other]] = int(chosen[intact])
    chosen[intact] = identity
    return chosen


def slots(names: Sequence[str], rows: int, processes: int = 1) -> dict[str, int]:
    """Return for how many rows of a transform a process has room, whatever is drawn.

    Parameters
    ----------
    names : transforms, a name may occur several times
    rows : number of rows of the batch of all processes
    processes : number of processes, each of which takes every ``processes``-th row

    Examples
    --------
    >>> slots(("noise", "identity", "identity", "pitch"), 64)
    {'noise': 16, 'identity': 32, 'pitch': 16}
    """
    table, place = _latin_square(len(names), rows)
    of_process = torch.arange(rows) % processes
    kind = (table * processes + of_process) * len(names) + place
    counts = kind.bincount(minlength=(int(table[-1]) + 1) * processes * len(names))
    most = int(counts.view(int(table[-1]) + 1, -1).amax(dim=1).sum()) + (processes > 1)  # one for the intact
    own = -(-rows // processes)
    return {name: min(most * names.count(name), own) for name in dict.fromkeys(names)}


def _latin_square(kinds: int, rows: int) -> tuple[Tensor, Tensor]:
    """Return the square that each row lies in, and the value there, two Long[Tensor, "row"]."""
    row = torch.arange(rows)
    return row // kinds**2, (row + row // kinds) % kinds


def draw(
    names: Sequence[str],
    chosen: Tensor,
    keys: Tensor,
    starts: Tensor,
    clip_samples: Tensor,
    slots: Mapping[str, int],
    *,
    length: int,
    window: tuple[int, int],
) -> tuple[Group, ...]:
    """Return the groups of the rows of a process, in the order of ``TRANSFORMS``; the identity has none.

    Parameters
    ----------
    names : transforms
    chosen : Long[Tensor, "row"], index of each row's transform in ``names``, of :func:`assigned`
    keys : Long[Tensor, "row"]
    starts : Long[Tensor, "row"], first sample of each row's crop in its clip; may be negative
    clip_samples : Long[Tensor, "row"], samples of each row's clip
    slots : number of slots by transform, of :func:`slots`
    length : samples of a crop
    window : frames and mel bands of a window
    """
    if not len(keys):  # of more processes than rows, some have none
        return ()
    random = random_by_row.integers(keys, 3, high=2**31, draw="transform")
    groups = []
    for transform in TRANSFORMS:
        if transform == "identity" or transform not in names:
            continue
        is_index = torch.tensor([name == transform for name in names])
        taken = is_index[chosen].nonzero().flatten()
        rows = torch.full((slots[transform],), len(keys))
        rows[: len(taken)] = taken
        sources = rows.clamp(max=len(keys) - 1)
        of_slots = _Slots(keys[sources], starts[sources], clip_samples[sources], random[sources], length)
        first, samples, drawn = _DRAWS[transform](of_slots, window)
        group = Group(transform, rows, sources, first, samples, drawn)
        groups.append(_by_hop(group) if "hop" in drawn else group)
    return tuple(groups)


def _by_hop(group: Group) -> Group:
    """Return the group in the order of its hops, so that neighbors have about as many frames."""
    order = group.drawn["hop"].argsort(stable=True)
    return group.map(lambda values: values[order])


def _noise(slots: _Slots, window: tuple[int, int]) -> _Drawn:
    gain = 10 ** (-slots.uniform(0, -6, 6) / 20)  # of the noise, relative to the crop
    return slots.start, slots.length, {**slots.inside(), "gain": gain.float(), "key": slots.key}


def _fade(slots: _Slots, window: tuple[int, int]) -> _Drawn:
    longest = slots.clip_samples // 2 + 1
    drawn = {
        "into": slots.integer(0, longest),
        "out": slots.integer(1, longest),
        "shape": slots.integer(2, len(FADES)),
        "start": slots.start,
        "clip_samples": slots.clip_samples,
    }
    return slots.start, slots.length, {**slots.inside(), **drawn}


def _shift(slots: _Slots, window: tuple[int, int]) -> _Drawn:
    return slots.start - slots.integer(0, 5 * SAMPLE_RATE_HZ + 1), slots.length, slots.inside()


def _stretch(slots: _Slots, window: tuple[int, int]) -> _Drawn:
    step = (vocoder.HOP * slots.uniform(0, vocoder.LOWEST_RATE, vocoder.HIGHEST_RATE)).float()
    return _vocoded(slots, step, torch.full_like(slots.start, vocoder.HOP), vocoder.longest_stretch)


def _pitch(slots: _Slots, window: tuple[int, int]) -> _Drawn:
    hop = (vocoder.HOP / 2 ** (slots.uniform(0, -10, 10) / 12)).round().long()
    return _vocoded(slots, hop.float(), hop, vocoder.longest_pitch)


def _vocoded(slots: _Slots, step: Tensor, hop: Tensor, longest: Callable[[int], int]) -> _Drawn:
    """Draw the context so that it lies within the clip, as far as the clip is long enough.

    The first whole block begins amid frame 1 of the vocoder.
    """
    frames, samples = vocoder.blocks(slots.length, hop) + 3, longest(slots.length)
    needed = vocoder.place(frames - 1, step) + vocoder.FFT
    first = slots.start - vocoder.place(torch.ones_like(hop), step) - vocoder.FFT // 2
    room = slots.clip_samples - needed
    first = torch.where(room >= 0, first.clamp(min=0).minimum(room), first)
    moved = torch.where(slots.clip_samples >= samples, first.minimum(slots.clip_samples - samples), first)
    return moved, samples, {"step": step, "hop": hop, "offset": first - moved}


def _mask(axis: int) -> Callable[[_Slots, tuple[int, int]], _Drawn]:
    def drawn(slots: _Slots, window: tuple[int, int]) -> _Drawn:
        width = 1 + slots.integer(0, widest(window[axis]))
        begin = slots.integer(1, window[axis] - width + 1)
        return torch.zeros_like(begin), 0, {"begin": begin, "width": width}

    return drawn


_DRAWS: Mapping[str, Callable[[_Slots, tuple[int, int]], _Drawn]] = {
    "noise": _noise,
    "fade": _fade,
    "time_mask": _mask(0),
    "frequency_mask": _mask(1),
    "shift": _shift,
    "stretch": _stretch,
    "pitch": _pitch,
}
