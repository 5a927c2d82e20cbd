"""How many frames a batch may have, by the memory of a device that is played here."""

from collections.abc import Callable

import pytest
import torch

from asdbench.data.batch_frames import BatchFrames
from asdbench.data.clip_windows import SCORING_FRAMES

CPU = torch.device("cpu")


class Played:
    """A memory of ``size`` bytes; ``take`` takes some for a moment."""

    def __init__(self, size: int, used: int = 0) -> None:
        self.size, self._used, self._peak, self.released = size, used, used, 0

    def take(self, n_bytes: int) -> None:
        self._peak = max(self._peak, self._used + n_bytes)
        if self._used + n_bytes > self.size:
            raise torch.OutOfMemoryError

    def used(self) -> int:
        return self._used

    def peak(self) -> int:
        return self._peak

    def start(self) -> None:
        self._peak = self._used

    def free(self) -> int:
        return self.size - self._used

    def release(self) -> None:
        self.released += 1


def passed(frames: BatchFrames, memory: Played, n_bytes: Callable[[int], int], batches: int = 6) -> list[int]:
    """Return the sizes of the batches of a pass, each of which takes so many bytes of its frames."""
    sizes = []
    for _ in range(batches):
        frames.begin()
        memory.take(n_bytes(frames.frames))
        sizes.append(frames.frames)
        frames.end(frames.frames)
    return sizes


def test_a_cpu_has_batches_that_fit_its_cache() -> None:
    frames = BatchFrames(CPU)
    frames.begin()
    frames.end(1)
    assert frames.frames == SCORING_FRAMES


def test_batches_of_a_gpu_grow_to_half_of_its_free_memory() -> None:
    memory = Played(size=10**9 + 5000, used=5000)
    sizes = passed(BatchFrames(CPU, memory), memory, lambda frames: 1000 * frames)
    assert sizes == [SCORING_FRAMES, *[500_000] * 5]


def test_what_every_batch_takes_is_no_matter_of_its_frames() -> None:
    memory = Played(size=10**9)
    sizes = passed(BatchFrames(CPU, memory), memory, lambda frames: 1000 * frames + 10**8)
    assert SCORING_FRAMES < sizes[1] < sizes[2]
    assert 300_000 < sizes[-1] < 400_000


def test_a_small_memory_has_smaller_batches_than_a_cpu() -> None:
    memory = Played(size=20_000_000)
    assert passed(BatchFrames(CPU, memory), memory, lambda frames: 1000 * frames)[-1] == 10_000


def test_a_pass_that_runs_out_of_memory_begins_again_in_smaller_batches() -> None:
    memory = Played(size=10**9)
    frames = BatchFrames(CPU, memory)

    def work() -> list[int]:
        return passed(frames, memory, lambda n: 1000 * n if n <= SCORING_FRAMES else 7000 * n)

    assert frames.retried(work) == [125_000] * 6
    assert memory.released == 2


def test_memory_that_no_batch_fits_into_is_an_error() -> None:
    memory = Played(size=10)
    frames = BatchFrames(CPU, memory)
    with pytest.raises(torch.OutOfMemoryError):
        frames.retried(lambda: passed(frames, memory, lambda n: 1000 * n))
    assert frames.frames == 64


def test_other_errors_are_not_met_with_smaller_batches() -> None:
    frames, calls = BatchFrames(CPU), []

    def work() -> None:
        calls.append(frames.frames)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        frames.retried(work)
    assert calls == [SCORING_FRAMES]
