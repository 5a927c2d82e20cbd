"""Frees what a data-parallel group holds when the process that started it dies.

The placement group of a Ray Train run ends with its job, not with the process that started the run: if that
process is killed, its CPUs and GPUs would stay taken until the driver ends. Ray's own cleaner asks the
dashboard, which a cluster started for one run does not have.
"""

import asyncio
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError
from ray.util.placement_group import PlacementGroup, get_current_placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_WATCH_S = 1.0


class GroupGuard:
    """Removes a placement group once an actor in it is dead; a detached Ray actor, which ends then."""

    async def watch(self, group: PlacementGroup, member: Any) -> None:
        """Wait for the end of ``member``, an actor in ``group``, and remove the group."""
        while await _is_alive(member):
            await asyncio.sleep(_WATCH_S)
        remove_placement_group(group)
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]


async def _is_alive(actor: Any) -> bool:
    try:
        await actor.__ray_ready__.remote()
    except ActorDiedError:
        return False
    except RayError:  # its node cannot be reached now
        return True
    return True


def guard_group(node: str) -> None:
    """Have the placement group of this actor removed at the actor's end, whatever ends it; begun on return.

    A Ray Train run whose worker dies makes a new placement group for the next attempt, so that the old one
    may go in any case.

    Parameters
    ----------
    node : id of the node where the guard runs, rather than on one that may be lost with the group
    """
    options: dict[str, Any] = {
        "num_cpus": 0,
        "lifetime": "detached",
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True),
    }
    guard: Any = ray.remote(**options)(GroupGuard)
    actor = guard.remote()
    actor.watch.remote(get_current_placement_group(), ray.get_runtime_context().current_actor)
    ray.get(actor.__ray_ready__.remote())  # a call that has not begun would end with its caller
