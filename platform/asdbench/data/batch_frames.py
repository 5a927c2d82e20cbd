"""Sizes of the batches in which clips are scored and encoded: a cache on a CPU, the memory of a GPU.

A batch of a CPU is small, so that it stays in the cache. On a GPU the first batches are as small; what they
take of its memory tells how many frames half of the free memory has room for. The other half is for what a
pass keeps, for pieces between allocations, and for other processes. Where memory runs out all the same, the
pass begins again in batches of half the size. The score of a clip depends on its batch by rounding alone.
"""

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

from asdbench.data.clip_windows import SCORING_FRAMES

T = TypeVar("T")

_MEASURED_BATCHES = 4  # the first, those that are made before its end, and one of the new size
_LEAST_FRAMES = 64
_MOST_FRAMES = 2**22  # a host makes no larger batch in good time; 2 GB of 128 mel bands in float32
_SHARE = 0.5  # of the free memory

logger = logging.getLogger(__name__)


class Memory(Protocol):
    """The memory of a device."""

    def used(self) -> int:
        """Return the bytes that tensors take."""

    def peak(self) -> int:
        """Return the most bytes that they have taken since the last call of `start`."""

    def start(self) -> None:
        """Begin to watch for the most bytes."""

    def free(self) -> int:
        """Return the bytes that further tensors may take."""

    def release(self) -> None:
        """Give back what no tensor takes."""


class GpuMemory:
    """The memory of a GPU, as this process sees it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def used(self) -> int:
        """Return the bytes that tensors of this process take."""
        return torch.cuda.memory_allocated(self._device)

    def peak(self) -> int:
        """Return the most bytes that they have taken since the last call of `start`."""
        return torch.cuda.max_memory_allocated(self._device)

    def start(self) -> None:
        """Begin to watch for the most bytes."""
        torch.cuda.reset_peak_memory_stats(self._device)

    def free(self) -> int:
        """Return the bytes that nobody takes: those of the device, and those that torch keeps for tensors."""
        free, _ = torch.cuda.mem_get_info(self._device)
        return free + torch.cuda.memory_reserved(self._device) - self.used()

    def release(self) -> None:
        """Give back what no tensor takes."""
        torch.cuda.empty_cache()


class BatchFrames:
    """How many frames a batch may have, which grows and shrinks with what is known of the memory.

    Parameters
    ----------
    device : where batches are scored
    memory : of the device, which decides; that of the GPU by default, none for a CPU

    Examples
    --------
    >>> BatchFrames(torch.device("cpu")).frames
    16384
    """

    def __init__(self, device: torch.device, memory: Memory | None = None) -> None:
        self.device = device
        self._memory = GpuMemory(device) if memory is None and device.type == "cuda" else memory
        self._left = 0 if self._memory is None else _MEASURED_BATCHES
        self._used_before = 0
        self.frames = SCORING_FRAMES

    def begin(self) -> None:
        """Note what is used before a batch is scored."""
        if self._left:
            assert self._memory is not None
            self._memory.start()
            self._used_before = self._memory.used()

    def end(self, frames: int) -> None:
        """Take the size by what the batch since `begin`, of so many frames, has taken of the memory."""
        if not self._left:
            return
        assert self._memory is not None
        per_frame = max(1, self._memory.peak() - self._used_before) / max(1, frames)
        fitting = int(_SHARE * self._memory.free() / per_frame)
        self.frames, self._left = max(_LEAST_FRAMES, min(fitting, _MOST_FRAMES)), self._left - 1
        logger.debug("scoring batches of %d frames, of %.0f bytes each", self.frames, per_frame)

    def retried(self, work: Callable[[], T]) -> T:
        """Return the result of ``work``, called again with half the size where memory has run out.

        Raises
        ------
        torch.OutOfMemoryError : there is no room for batches of the least size
        """
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                if self.frames <= _LEAST_FRAMES:
                    raise
                self.frames, self._left = max(_LEAST_FRAMES, self.frames // 2), 0
            if self._memory is not None:  # outside the handler, whose error keeps the tensors of the pass
                self._memory.release()
            logger.info("out of memory; scoring continues with batches of %d frames", self.frames)
