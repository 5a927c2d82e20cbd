"""Submits the tasks of a run to Ray."""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from asdbench.cluster.messages import FeatureRequest, Outcome
from asdbench.cluster.placement import WorkerShape
from asdbench.cluster.stack_tasks import train_stack
from asdbench.cluster.task_queue import Entry
from asdbench.cluster.tasks import GroupRequest, WorkerContext, prepare_features, train_group, train_task


class Launcher:
    """Submits tasks to Ray; to be made in the scheduler's actor.

    Parameters
    ----------
    context : of the run; its scheduler is replaced by this actor
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = replace(context, scheduler=ray.get_runtime_context().current_actor)
        self._on_driver = NodeAffinitySchedulingStrategy(context.driver, soft=False)

    def nodes(self) -> list[Mapping[str, Any]]:
        """Return the nodes of the cluster, dead ones included."""
        return ray.nodes()  # type: ignore[no-any-return, no-untyped-call]

    def train(
        self, entry: Entry, copies: Sequence[bytes], shape: WorkerShape, excluded: set[str]
    ) -> Awaitable[Outcome]:
        """Submit a task to any node but the excluded ones: to one process, or to a group that shares it."""
        context = replace(self._context, threads=shape.threads)
        request = replace(entry.request, attempt=entry.attempt)
        if entry.processes > 1:
            is_elastic = entry.wanted_processes > 1
            group = train_group.options(num_cpus=0, scheduling_strategy=self._on_driver)
            return group.remote(
                GroupRequest(request, entry.processes, shape, is_elastic, tuple(sorted(excluded))),
                copies,
                context,
            )
        single = train_task.options(num_cpus=shape.cpus, num_gpus=shape.gpus, **_elsewhere(excluded))
        return single.remote(request, copies, context)

    def train_stack(
        self, entries: Sequence[Entry], copies: Sequence[bytes], shape: WorkerShape, excluded: set[str]
    ) -> Awaitable[list[Outcome]]:
        """Submit tasks to any node but the excluded ones, to one process that trains them together."""
        context = replace(self._context, threads=shape.threads)
        requests = [replace(entry.request, attempt=entry.attempt) for entry in entries]
        stack = train_stack.options(num_cpus=shape.cpus, num_gpus=shape.gpus, **_elsewhere(excluded))
        return stack.remote(requests, copies, context)

    def build(
        self, feature: FeatureRequest, shape: WorkerShape, excluded: set[str], *, on_driver: bool
    ) -> Awaitable[Outcome]:
        """Submit a task that builds features: to the driver's node, or to any but the excluded ones."""
        if on_driver:
            options: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": self._on_driver}
        else:
            n_gpus = shape.gpus if feature.takes_gpu else 0
            options = {"num_cpus": shape.cpus, "num_gpus": n_gpus, **_elsewhere(excluded)}
        return prepare_features.options(**options).remote(feature, self._context)


def _elsewhere(excluded: set[str]) -> dict[str, Any]:
    """Return the options of a task that runs on no excluded node; Ray spreads it over the others."""
    options: dict[str, Any] = {"scheduling_strategy": "SPREAD"}
    if excluded:
        options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(excluded))})"}
    return options
