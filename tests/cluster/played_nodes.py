"""Nodes that a test plays: they run the tasks of a scheduler as told, without Ray."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from asdbench.cluster.messages import FeatureRequest, Outcome, TaskRequest
from asdbench.cluster.placement import Placement, WorkerShape
from asdbench.cluster.scheduler import TrainingScheduler
from asdbench.cluster.task_queue import Entry
from asdbench.engine.events import Failure, TaskStarted

Behavior = Callable[[str, str], Outcome]  # of a task's key and a node's id


class Nodes:
    """Nodes that run tasks as told, each of one CPU; the first free one that is not excluded gets a task."""

    def __init__(
        self, behavior: Behavior, hosts: tuple[str, ...] = ("a", "b", "c"), **resources: float
    ) -> None:
        self.behavior = behavior
        self.hosts = list(hosts)
        self.resources = {"CPU": 1.0}
        self.attempts: list[tuple[str, str]] = []
        self.builds: list[tuple[str, bool]] = []
        self.most = 0
        self._busy: set[str] = set()
        self.scheduler: TrainingScheduler | None = None
        self.shapes: list[WorkerShape] = []

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": host, "Alive": True, "Resources": self.resources} for host in self.hosts]

    async def train(
        self, entry: Entry, copies: list[bytes], shape: WorkerShape, excluded: set[str]
    ) -> Outcome:
        self.shapes.append(shape)
        while not (free := [h for h in self.hosts if h not in excluded and h not in self._busy]):
            await asyncio.sleep(0.001)
        node = free[0]
        self._busy.add(node)
        self.most = max(self.most, len(self._busy))
        self.attempts.append((entry.request.key, node))
        request = entry.request
        assert self.scheduler is not None
        go_on = await self.scheduler.report(
            TaskStarted(request.key, request.label, node, f"host {node}", entry.attempt)
        )
        await asyncio.sleep(0.002)
        self._busy.discard(node)
        if not go_on:
            return Outcome("misplaced", node, f"host {node}")
        outcome = self.behavior(request.key, node)
        return replace(outcome, node=node, host=f"host {node}")

    async def build(
        self, feature: FeatureRequest, shape: WorkerShape, excluded: set[str], *, on_driver: bool
    ) -> Outcome:
        self.builds.append((feature.key, on_driver))
        await asyncio.sleep(0.002)
        return self.behavior(feature.key, "driver" if on_driver else "a")


def ok(key: str, node: str) -> Outcome:
    return Outcome("ok")


def broken(message: str = "the disk is full") -> Outcome:
    return Outcome("infrastructure", failures=(Failure("x", message, bad_input=False),), message=message)


def requests(*keys: str, **more: Any) -> list[TaskRequest]:
    return [
        TaskRequest(key, key, f"task {key}", ("mse",), (0.0, i), b"", **more) for i, key in enumerate(keys)
    ]


def play(
    nodes: Nodes,
    story: Callable[[TrainingScheduler], Coroutine[Any, Any, Any]],
    placement: Placement | None = None,
    **options: Any,
) -> Any:
    """Run a story with a scheduler on these nodes."""

    async def run() -> Any:
        scheduler = TrainingScheduler(nodes, placement or Placement(), **options)  # type: ignore[arg-type]
        nodes.scheduler = scheduler
        return await asyncio.wait_for(story(scheduler), 20)

    return asyncio.run(run())


def kinds(outcomes: list[Outcome]) -> list[str]:
    return [outcome.kind for outcome in outcomes]
