"""The resources of a group whose owner is killed are free again, on a cluster without a dashboard."""

import os
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from asdbench.cluster.group_guard import guard_group

pytestmark = pytest.mark.cluster


class Member:
    """An actor in a placement group."""

    def guard(self, node: str) -> None:
        guard_group(node)


class Owner:
    """Owns a placement group with a member in it."""

    def start(self, node: str) -> int:
        group = placement_group([{"CPU": 1}])
        strategy = PlacementGroupSchedulingStrategy(group)
        member: Any = ray.remote(num_cpus=1, scheduling_strategy=strategy)(Member)
        self._member = member.remote()
        ray.get(self._member.guard.remote(node))
        return os.getpid()


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def free_cpus() -> float:
    available: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return available.get("CPU", 0.0)


def wait_for_free_cpus(wanted: float) -> None:
    deadline = time.monotonic() + 200
    while free_cpus() != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_placement_group_goes_with_its_owner(cluster: None) -> None:
    """It would stay until the driver ends: a task made it, and no actor whose end Ray notes."""
    made: Any = ray.remote(num_cpus=0)(Owner)
    owner = made.remote()
    pid = ray.get(owner.start.remote(ray.get_runtime_context().get_node_id()), timeout=60)
    wait_for_free_cpus(0)
    psutil.Process(pid).kill()
    wait_for_free_cpus(1)
