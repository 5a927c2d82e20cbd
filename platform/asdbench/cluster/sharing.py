"""How many jobs share a GPU; knows nothing of Ray.

Jobs of equal architecture train as one stacked model in one process, as many as the GPU's memory holds.
Other jobs run in processes of their own, as many as its memory holds and its idle time allows. Both are
decided from what finished tasks have measured; where nothing is measured, the first stack takes what waits,
and the first process has the GPU to itself. If memory is used up, half as many go on.
"""

from dataclasses import dataclass, field
from typing import Literal

from asdbench.cluster.messages import GpuUse

JobsPerGpu = int | Literal["auto"]

MOST_STACKED = 64
"""Jobs in one stack: a larger one is hardly faster, and all of it starts again if its process dies."""

MOST_PROCESSES = 8
"""The most processes on one GPU: each needs its own CUDA context, caches and data loader."""

_MEMORY_SHARE = 0.9  # of a GPU's memory that jobs may fill
_BUSY = 0.9  # share of the time from which on a GPU counts as busy
_CONTEXT_BYTES = 600 << 20  # of each process: CUDA context and libraries, which torch does not count


def jobs_that_stack(use: GpuUse) -> int:
    """Return how many jobs of equal architecture fit one GPU as a stacked model.

    Parameters
    ----------
    use : what a stack of such jobs, or one of them, took of a GPU

    Examples
    --------
    >>> jobs_that_stack(GpuUse(total_bytes=80 << 30, peak_bytes=8 << 30, busy=None, jobs=4))
    35
    """
    job_bytes = max(1, use.peak_bytes // use.jobs)
    room = int(_MEMORY_SHARE * use.total_bytes) - _CONTEXT_BYTES
    return max(1, min(MOST_STACKED, room // job_bytes))


def processes_that_share(use: GpuUse) -> int:
    """Return how many processes should share a GPU.

    Each further process has to fit the memory, and to find the GPU idle: one that keeps it busy a third of
    the time leaves room for two more. Where nobody can tell how busy the GPU is, none is added.

    Parameters
    ----------
    use : what a process with such a job took of a GPU that it had to itself

    Examples
    --------
    >>> processes_that_share(GpuUse(total_bytes=80 << 30, peak_bytes=8 << 30, busy=0.3, jobs=1))
    3
    >>> processes_that_share(GpuUse(total_bytes=80 << 30, peak_bytes=50 << 30, busy=0.3, jobs=1))
    1
    >>> processes_that_share(GpuUse(total_bytes=80 << 30, peak_bytes=8 << 30, busy=None, jobs=1))
    1
    """
    if use.busy is None:
        return 1
    room = int(_MEMORY_SHARE * use.total_bytes) // (use.peak_bytes + _CONTEXT_BYTES)
    busy_with = int(_BUSY / max(use.busy, 1e-3) + 1e-9)
    return max(1, min(MOST_PROCESSES, room, busy_with))


@dataclass
class GpuSharing:
    """What a run has learned of how many of its jobs share a GPU.

    Kinds of jobs are named by their stack key, or by what does not stack, by any name of theirs.

    Attributes
    ----------
    jobs_per_gpu : what the user wants; ``"auto"`` to decide by what is measured

    Examples
    --------
    >>> sharing = GpuSharing("auto")
    >>> sharing.stacked("a"), sharing.processes("b")
    (64, 1)
    >>> sharing.note_out_of_memory("a", 64), sharing.stacked("a")
    (True, 32)
    """

    jobs_per_gpu: JobsPerGpu
    _stacked: dict[str, int] = field(default_factory=dict)
    _processes: dict[str, int] = field(default_factory=dict)
    _most: dict[str, int] = field(default_factory=dict)  # since memory was used up

    def stacked(self, kind: str) -> int:
        """Return how many jobs of a kind may train as one stacked model."""
        return self._limited(kind, self._stacked.get(kind, MOST_STACKED))

    def processes(self, kind: str) -> int:
        """Return how many processes with jobs of a kind may share a GPU."""
        return self._limited(kind, self._processes.get(kind, 1))

    def note_stack(self, kind: str, use: GpuUse) -> None:
        """Take into account what a stack took; the measurement that leaves the least room counts."""
        self._stacked[kind] = min(self._stacked.get(kind, MOST_STACKED), jobs_that_stack(use))

    def note_process(self, kind: str, use: GpuUse) -> None:
        """Take into account what a process took; the measurement that leaves the least room counts."""
        self._processes[kind] = min(self._processes.get(kind, MOST_PROCESSES), processes_that_share(use))

    def note_out_of_memory(self, kind: str, jobs: int) -> bool:
        """Let half as many share a GPU from now on; return whether that is news."""
        before, now = self._most.get(kind), max(1, jobs // 2)
        self._most[kind] = min(now, before or now)
        return self._most[kind] != before

    def _limited(self, kind: str, measured: int) -> int:
        wanted = measured if self.jobs_per_gpu == "auto" else self.jobs_per_gpu
        return min(wanted, self._most.get(kind, wanted))
