"""How much of a cluster is taken by running tasks, and what the next process on it gets to do."""

import math
from fractions import Fraction

from asdbench.cluster.messages import Outcome
from asdbench.cluster.placement import Placement, WorkerShape
from asdbench.cluster.sharing import GpuSharing
from asdbench.cluster.task_queue import Entry


class Room:
    """What running tasks take of a cluster, counted in whole workers: a process that shares a GPU is a part.

    Parameters
    ----------
    placement : how tasks are spread
    may_grow : whether an autoscaler may add nodes

    Attributes
    ----------
    in_flight : what is taken
    """

    def __init__(self, placement: Placement, *, may_grow: bool) -> None:
        self.in_flight = Fraction(0)
        self._n_processes = 0
        self._placement = placement
        self._may_grow = may_grow
        self._sharing = GpuSharing(placement.jobs_per_gpu)

    def enter(self, entry: Entry) -> None:
        """Note that the process of a task, or of the stack that it is the first of, is given to Ray."""
        self.in_flight += Fraction(entry.processes, entry.sharers)
        self._n_processes += entry.processes

    def leave(self, entry: Entry) -> None:
        """Note that this process is gone."""
        self.in_flight -= Fraction(entry.processes, entry.sharers)
        self._n_processes -= entry.processes

    def idle(self, shape: WorkerShape) -> int:
        """Return how many whole workers nothing runs on."""
        return max(0, int(shape.capacity - self.in_flight))

    def holds(self, entry: Entry, sharers: int, shape: WorkerShape) -> bool:
        """Return whether a task may be given to Ray now; the first one always may."""
        most = self._placement.workers or math.inf
        share = Fraction(entry.processes, sharers)
        return self._n_processes == 0 or (
            self.in_flight + share <= self._limit(shape) and self._n_processes + entry.processes <= most
        )

    def _limit(self, shape: WorkerShape) -> int:
        """Return how much may be in flight: one more at least where waiting tasks bring nodes."""
        limit = 2 * shape.capacity + 1 if self._may_grow else shape.capacity
        return min(limit, self._placement.workers or limit)

    def stack_size(self, entry: Entry, n_waiting: int, shape: WorkerShape) -> int:
        """Return how many tasks to train as one stack with this one, itself included.

        Parameters
        ----------
        entry : the task whose turn it is
        n_waiting : number of tasks that could be stacked with it; all free GPUs get some of them
        shape : of the workers
        """
        if not shape.gpus or entry.stack is None:
            return 1
        n_free = max(1, int(self._limit(shape) - self.in_flight))
        return max(1, min(self._sharing.stacked(entry.stack), -(-n_waiting // n_free)))

    def sharers(self, entry: Entry, n_waiting: int, shape: WorkerShape) -> int:
        """Return how many processes with tasks such as this one share a GPU.

        Parameters
        ----------
        entry : the task whose turn it is
        n_waiting : number of all tasks that wait, itself included; those that GPUs are idle for share none
        shape : of the workers
        """
        if not shape.gpus or entry.is_alone or entry.processes > 1:
            return 1
        sharers, n_idle = self._sharing.processes(entry.kind), self.idle(shape)
        return min(sharers, -(-n_waiting // n_idle)) if n_idle else sharers

    def note_use(self, entry: Entry, outcome: Outcome) -> None:
        """Learn from what a process took of its GPU how many jobs of its kind can share one."""
        if outcome.gpu is None or outcome.kind != "ok" or entry.sharers > 1:
            return
        if entry.stack is not None:
            self._sharing.note_stack(entry.stack, outcome.gpu)
        if entry.stacked == 1:
            self._sharing.note_process(entry.kind, outcome.gpu)

    def share_less(self, entry: Entry) -> str | None:
        """Let fewer jobs share a GPU whose memory was used up; return that for the user, if it is news.

        A stack becomes smaller. A task in a process of its own gets a GPU to itself.
        """
        n_jobs = entry.jobs_per_gpu
        kind = entry.stack if entry.stacked > 1 else None
        entry.is_alone = kind is None
        if not self._sharing.note_out_of_memory(kind or entry.kind, n_jobs):
            return None
        how = f"in stacks of at most {n_jobs // 2}" if kind and n_jobs > 3 else "alone"
        return (
            f"{entry.request.label} used up the memory of a GPU that {n_jobs} jobs shared; it is tried again "
            f"{how}, and fewer jobs of its kind share a GPU from now on"
        )
