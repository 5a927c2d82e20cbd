"""Windows and statistics of stored spectrograms of several machine types."""

import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench.data import feature_store
from asdbench.data.clip_windows import Standardization, windows_at
from asdbench.data.sets.catalog import DataSet
from asdbench.spec import MelSpec


class MelFrames:
    """The log-mel frames of the clips of some machine types.

    Parameters
    ----------
    sources : the machine types, each with its data set
    spec : of the spectrograms
    min_frames : of a clip; a shorter one is repeated
    """

    def __init__(self, sources: Sequence[tuple[DataSet, str]], spec: MelSpec, *, min_frames: int) -> None:
        self._sources, self.spec, self._min_frames = sources, spec, min_frames

    @cached_property
    def shards(self) -> list[feature_store.Shard]:
        """The stored files, one for each machine type."""
        return [
            feature_store.mels(data, machine, self.spec, min_frames=self._min_frames)
            for data, machine in self._sources
        ]

    @cached_property
    def layouts(self) -> list[feature_store.Layout]:
        """Where the clips lie in the shards, which need not be built."""
        return [
            feature_store.mel_layout(data, machine, self.spec, min_frames=self._min_frames)
            for data, machine in self._sources
        ]

    @cached_property
    def frames(self) -> list[Tensor]:
        """Half[Tensor, "frame mel"] of all clips of each machine type."""
        return [as_tensor(shard.rows) for shard in self.shards]

    def windows(self, machine: NDArray[np.int64], starts: NDArray[np.int64], length: int) -> Tensor:
        """Return the windows of ``length`` frames from ``starts`` on, Half[Tensor, "row frame mel"].

        Parameters
        ----------
        machine : Int[ndarray, "row"], index of each row's machine type
        starts : Int[ndarray, "row"], first frame of each row in its shard
        length : number of frames
        """
        if len(machine) and (machine == machine[0]).all():
            return windows_at(self.frames[machine[0]], starts, length)
        windows = torch.empty(len(starts), length, self.spec.n_mels, dtype=torch.half)
        for which in np.unique(machine):
            rows = np.flatnonzero(machine == which)
            windows[torch.from_numpy(rows)] = windows_at(self.frames[which], starts[rows], length)
        return windows

    def statistics(self, machine: int, clip_ids: Iterable[int]) -> Standardization:
        """Return the statistics over the given clips of a machine type."""
        total = torch.zeros(2, self.spec.n_mels, dtype=torch.float64)
        count = 0
        for clip_id in clip_ids:
            start, stop = self.layouts[machine].span(int(clip_id))
            frames = self.frames[machine][start:stop].double()
            total += torch.stack([frames.sum(0), frames.square().sum(0)])
            count += len(frames)
        mean, square = total / count
        deviation = (square - mean.square()).clamp(min=0).sqrt().clamp(min=1e-3)
        return Standardization(mean.float(), deviation.float())


def as_tensor(rows: NDArray[Any]) -> Tensor:
    """Return the rows of a mapped file as a tensor of the same memory, which nobody may write to."""
    with warnings.catch_warnings():  # the mapped file is read-only, and so are we
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(rows)
