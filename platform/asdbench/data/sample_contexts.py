"""Contexts: the 16-bit samples around a window, gathered for all rows of a batch at once.

A clip is one stretch of the stored samples of its machine type. A context that lies within it is a row of a
view with overlapping rows, so that all such contexts are one ``index_select``. The few others, which reach
beyond the clip or are of a clip that is repeated, are gathered sample by sample.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench.data import feature_store
from asdbench.data.feature_store import Layout, Shard
from asdbench.data.mel_frames import as_tensor
from asdbench.data.sets.catalog import DataSet


def spans(layout: Layout | Shard, clip_ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row of each clip in a file and the row after its last; shape (clip,) each.

    Raises :class:`KeyError` for a clip that the file lacks.

    Examples
    --------
    >>> layout = Layout.from_lengths(np.array([3, 7, 8]), np.array([10, 20, 5]))
    >>> [ends.tolist() for ends in spans(layout, np.array([8, 3]))]
    [[30, 0], [35, 10]]
    """
    position = np.searchsorted(layout.clip_ids, clip_ids).clip(max=len(layout.clip_ids) - 1)
    lacking = clip_ids[layout.clip_ids[position] != clip_ids]
    if len(lacking):
        raise KeyError(int(lacking[0]))
    return layout.starts[position], layout.starts[position + 1]


class Waveforms:
    """The stored waveforms of some machine types.

    Parameters
    ----------
    sources : the machine types, each with its data set
    least_samples : a shorter clip is repeated end to end until it has as many samples
    """

    def __init__(self, sources: Sequence[tuple[DataSet, str]], *, least_samples: int) -> None:
        self._sources, self.least_samples = sources, least_samples

    @cached_property
    def shards(self) -> list[Shard]:
        """The stored files, one for each machine type."""
        return [feature_store.waveforms(data, machine) for data, machine in self._sources]

    @cached_property
    def samples(self) -> list[Tensor]:
        """Short[Tensor, "sample"] of all clips of each machine type."""
        return [as_tensor(shard.rows) for shard in self.shards]

    def sizes(self, machine: NDArray[np.int64], clip_id: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of samples of each row's clip, repeated if it is; shape (row,)."""
        sizes = np.empty(len(machine), np.int64)
        for which in np.unique(machine):
            rows = machine == which
            start, stop = spans(self.shards[which], clip_id[rows])
            sizes[rows] = np.maximum(stop - start, self.least_samples)
        return sizes

    def contexts(
        self,
        machine: NDArray[np.int64],
        clip_id: NDArray[np.int64],
        first: NDArray[np.int64],
        length: int,
        *,
        circular: bool = False,
    ) -> Tensor:
        """Return ``length`` samples of each row's clip from ``first`` on, Short[Tensor, "row sample"].

        Parameters
        ----------
        machine, clip_id, first : Int[ndarray, "row"]; the first sample may lie before the clip
        length : in samples
        circular : whether the clip goes on at its other end; otherwise there is silence beyond its ends
        """
        if len(machine) and (machine == machine[0]).all():
            return self._of_machine(machine[0], clip_id, first, length, circular)
        contexts = torch.empty(len(machine), length, dtype=torch.int16)
        for which in np.unique(machine):
            rows = np.flatnonzero(machine == which)
            of_machine = self._of_machine(which, clip_id[rows], first[rows], length, circular)
            contexts[torch.from_numpy(rows)] = of_machine
        return contexts

    def _of_machine(
        self, machine: int, clip_id: NDArray[np.int64], first: NDArray[np.int64], length: int, circular: bool
    ) -> Tensor:
        start, stop = spans(self.shards[machine], clip_id)
        samples = self.samples[machine]
        return contexts_of(samples, start, stop, first, length, least=self.least_samples, circular=circular)


def contexts_of(
    samples: Tensor,
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    first: NDArray[np.int64],
    length: int,
    *,
    least: int = 0,
    circular: bool = False,
) -> Tensor:
    """Return contexts of clips that are stretches [start, stop) of ``samples``; see `Waveforms.contexts`.

    A clip of fewer than ``least`` samples is repeated end to end until it has as many.

    Examples
    --------
    >>> clips = torch.arange(10).short(), np.array([0, 6]), np.array([6, 10])
    >>> contexts_of(*clips, np.array([2, -1]), 4).tolist()
    [[2, 3, 4, 5], [0, 6, 7, 8]]
    >>> contexts_of(*clips, np.array([4, -1]), 4, circular=True).tolist()
    [[4, 5, 0, 1], [9, 6, 7, 8]]
    """
    size = stop - start
    repeated = np.maximum(size, least)
    first = first % repeated if circular else first
    inside = (first >= 0) & (first + length <= size)
    if not inside.any():
        return _beyond(samples, start, size, repeated, first, length, circular)
    places = torch.from_numpy(np.where(inside, start + first, 0))
    contexts = samples.unfold(0, length, 1).index_select(0, places)
    if not inside.all():
        rows = ~inside
        clips = start[rows], size[rows], repeated[rows]
        contexts[torch.from_numpy(rows)] = _beyond(samples, *clips, first[rows], length, circular)
    return contexts


def _beyond(
    samples: Tensor,
    start: NDArray[np.int64],
    size: NDArray[np.int64],
    repeated: NDArray[np.int64],
    first: NDArray[np.int64],
    length: int,
    circular: bool,
) -> Tensor:
    """Return contexts that reach beyond their clips, or are of clips that are repeated."""
    place = first[:, None] + np.arange(length)
    is_silent = (place < 0) | (place >= repeated[:, None])
    if circular and length <= repeated.min():  # it goes around once at most; a modulo takes longer
        place -= (place >= repeated[:, None]) * repeated[:, None]
    elif circular:
        place %= repeated[:, None]
    if (repeated > size).any() or not circular:
        place %= size[:, None]
    contexts = samples.numpy()[start[:, None] + place]
    if not circular:
        contexts[is_silent] = 0
    return torch.from_numpy(contexts)
