"""Whole clips in batches: which windows are scored together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench.data.clip_windows import MostFrames, grouped, window_starts
from asdbench.system import InputSpec


@dataclass(frozen=True)
class WindowGroup:
    """All windows of some neighboring clips.

    Attributes
    ----------
    clips : which of the clips these are
    starts : Int[ndarray, "row"], first frame of each window among those of its machine type
    rows_of_clip : Int[ndarray, "clip"], number of windows of each clip
    length : of the windows, in frames
    """

    clips: slice
    starts: NDArray[np.int64]
    rows_of_clip: NDArray[np.int64]
    length: int

    def by_row(self, of_clips: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each row the value of its clip, from values of all clips."""
        return np.repeat(of_clips[self.clips], self.rows_of_clip, axis=0)

    @property
    def clip(self) -> Tensor:
        """Long[Tensor, "row"], the clip of each row, from 0."""
        return torch.from_numpy(np.repeat(np.arange(len(self.rows_of_clip)), self.rows_of_clip))


def window_groups(
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    input_spec: InputSpec,
    token_times: list[int] | None,
    most: MostFrames | None = None,
) -> Iterator[WindowGroup]:
    """Yield the windows of clips as scoring takes them, see `grouped`.

    Parameters
    ----------
    start, stop : Int[ndarray, "clip"], first frame of each clip and the one after its last
    input_spec : of which windows are cut
    token_times : number of times of the embeddings of each clip, if they are read
    most : says how many frames the next batch may have

    Examples
    --------
    >>> from asdbench.spec import MelSpec
    >>> groups = window_groups(np.array([0, 9]), np.array([9, 20]), InputSpec(MelSpec(), 5, 4), None)
    >>> [(group.starts.tolist(), group.clip.tolist()) for group in groups]
    [([0, 4, 9, 13, 15], [0, 0, 1, 1, 1])]
    """
    lengths = [input_spec.window_frames or int(frames) for frames in stop - start]
    grids = [
        first + window_starts(int(frames), length, input_spec.window_hop_frames)
        for first, frames, length in zip(start, stop - start, lengths, strict=True)
    ]
    counts: Sequence[int] = [len(grid) for grid in grids]
    for clips in grouped(counts, lengths, token_times, most=most):
        yield WindowGroup(
            clips, np.concatenate(grids[clips]), np.array(counts[clips], np.int64), lengths[clips.start]
        )
