"""A run's scheduler as the driver sees it: started, asked for tasks, followed and ended."""

import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from asdbench.cluster.messages import Outcome, TaskRequest
from asdbench.cluster.placement import Placement, WorkerShape
from asdbench.cluster.scheduler import TrainingScheduler
from asdbench.cluster.tasks import SchedulerHandle, WorkerContext
from asdbench.engine.events import Event
from asdbench.engine.run_record import SchedulerStatus
from asdbench.errors import InfrastructureError

_STATUS_S = 30.0  # for the scheduler to tell its state
_GROWN = 16  # workers that an autoscaler is expected to bring, at least
_CALLERS = 1_000_000  # calls of the scheduler under way: trials, workers and the driver


class Session:
    """The scheduler of a run; a context manager, which starts it and ends it with its tasks.

    Parameters
    ----------
    context : of the run; its scheduler is filled in
    placement : how tasks are spread
    expected : number of the run's tasks, if it is known
    may_grow : whether an autoscaler may add nodes
    """

    def __init__(
        self, context: WorkerContext, placement: Placement, *, expected: int | None, may_grow: bool
    ) -> None:
        self._context = context
        self._placement = placement
        self._expected = expected
        self._may_grow = may_grow

    def __enter__(self) -> Self:
        # on the driver's node: it must not die with a worker's
        here = NodeAffinitySchedulingStrategy(self._context.driver, soft=False)
        options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": _CALLERS, "scheduling_strategy": here}
        actor: Any = ray.remote(TrainingScheduler).options(**options)
        self.scheduler: SchedulerHandle = actor.remote(
            self._context, self._placement, expected=self._expected, may_grow=self._may_grow
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(Exception):  # the cluster may be gone
            ray.kill(self.scheduler)  # its tasks end with it

    @property
    def node(self) -> str:
        """Id of the driver's node."""
        return self._context.driver

    @property
    def capacity(self) -> int:
        """How many tasks the cluster runs at a time, or may run soon where an autoscaler adds nodes."""
        shape = WorkerShape.from_nodes(ray.nodes(), self._placement, expected=self._expected)  # type: ignore[no-untyped-call]
        soon = (self._placement.workers or _GROWN) if self._may_grow else 0
        sharing = self._placement.jobs_per_gpu
        per_gpu = 1 if sharing == "auto" or not shape.gpus else sharing
        return max(shape.capacity * per_gpu, soon)

    def submit(self, owner: str, requests: Sequence[TaskRequest]) -> "PendingTasks":
        """Ask for tasks; ``owner`` says for whom."""
        return PendingTasks(self.scheduler.run.remote(owner, list(requests)))

    def release(self, owner: str) -> None:
        """Withdraw the waiting tasks that only ``owner`` asked for."""
        self.scheduler.release.remote(owner)

    def events(self) -> list[Event]:
        """Return what happened since the last call."""
        events: list[Event] = _get(self.scheduler.events.remote())
        return events

    def status(self) -> SchedulerStatus:
        """Return the state of the tasks and nodes."""
        status: SchedulerStatus = _get(self.scheduler.status.remote(), timeout_s=_STATUS_S)
        return status


class PendingTasks:
    """Tasks that were asked for."""

    def __init__(self, ref: Any) -> None:
        self._ref = ref

    def wait(self, seconds: float) -> bool:
        """Wait at most so long for all tasks to be over; return whether they are."""
        return bool(ray.wait([self._ref], timeout=seconds)[0])

    def outcomes(self) -> list[Outcome]:
        """Return how the tasks ended, in the order in which they were asked for; waits for them."""
        outcomes: list[Outcome] = _get(self._ref)
        return outcomes


def _get(ref: Any, *, timeout_s: float | None = None) -> Any:
    try:
        return ray.get(ref, timeout=timeout_s)
    except GetTimeoutError:
        raise InfrastructureError(f"the scheduler of this run has not answered for {timeout_s:g} s") from None
    except RayError as error:
        reason = " ".join(str(error).split())[:200]
        raise InfrastructureError(
            f"the scheduler of this run has ended ({reason}); run the same command again to resume"
        ) from error
