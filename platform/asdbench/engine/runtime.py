"""Where a job runs: device, the processes that share it, threads, and whom progress is told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

Report = Callable[[dict[str, Any]], None]


def _silent(_: dict[str, Any]) -> None:
    return None


def _alone(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Runtime:
    """One process's view of the group of processes that share a job.

    Attributes
    ----------
    device : of the model and its batches
    rank, size : place in the group and the number of its processes
    group : torch.distributed process group; ``None`` for the default group or a single process
    report : is told of progress, by rank 0 only
    agree : gives every process of the group the value that rank 0 calls it with
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    size: int = 1
    group: Any = None
    report: Report = _silent
    broadcast: Callable[[Any], Any] = _alone

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def report_waiting(self, reason: str) -> None:
        """Report what has to happen before the task can continue."""
        self.report({"waiting": reason})
