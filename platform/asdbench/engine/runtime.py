"""Where a task runs: device, the processes that share it, and the receiver of its progress reports."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist

from asdbench.config import Compile
from asdbench.engine.events import Report, Waiting

T = TypeVar("T")


class Broadcast(Protocol):
    """Gives every process of a group the value that rank 0 calls it with."""

    def __call__(self, value: T, /) -> T:
        """Return the value of rank 0."""


class Gather(Protocol):
    """Gives every process of a group the values that all call it with, by rank."""

    def __call__(self, value: T, /) -> list[T]:
        """Return the values of all processes."""


def _ignore(_: Report) -> None:
    return None


def _nothing() -> None:
    return None


def _same(value: T, /) -> T:
    return value


def _alone(value: T, /) -> list[T]:
    return [value]


@dataclass(frozen=True)
class Runtime:
    """One process's view of the group of processes that share a task.

    Attributes
    ----------
    device : of the model and its batches
    rank, size : rank in the group, and the number of its processes
    group : torch.distributed process group; ``None`` for the default group or a single process
    report : receives progress reports, in the process of rank 0 only
    after_checkpoint : called when a checkpoint is stored, in the process of rank 0 only; what it raises ends
        the training, which can resume there
    broadcast : gives every process of the group the value that rank 0 calls it with
    gather : gives every process of the group the values that all call it with, by rank
    compile : whether training steps are compiled: ``"always"``, ``"never"``, or ``"auto"``, on a GPU

    Examples
    --------
    >>> Runtime().is_rank_zero
    True
    >>> Runtime(rank=1, size=2).is_rank_zero
    False
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None
    report: Callable[[Report], object] = _ignore
    after_checkpoint: Callable[[], object] = _nothing
    broadcast: Broadcast = _same
    gather: Gather = _alone
    compile: Compile = "auto"

    @property
    def compiles(self) -> bool:
        """Whether training steps are compiled here; those that several processes share never are."""
        wanted = self.compile == "always" or (self.compile == "auto" and self.device.type == "cuda")
        return wanted and self.size == 1

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def report_waiting(self, reason: str) -> None:
        """Report what has to happen before the task can continue."""
        self.report(Waiting(reason))
