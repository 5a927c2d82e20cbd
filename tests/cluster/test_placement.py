"""How works are spread: what fits, what never will, and how a cluster that grows is filled."""

from typing import Any

import pytest

from asdbench.cluster.placement import Placement, Slots
from asdbench.errors import InputError


def nodes(*resources: dict[str, float], alive: bool = True) -> list[dict[str, Any]]:
    return [{"Alive": alive, "Resources": of} for of in resources]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 3, "workers_per_type": 2}, "--workers 3 is not a multiple of --workers-per-type 2"),
        ({"workers": 0}, "--workers 0"),
        ({"workers_per_type": 0}, "--workers-per-type 0 must be at least 1"),
        ({"gpus_per_worker": 0.0}, "--gpus-per-worker 0"),
        ({"gpus_per_worker": 0.5, "workers_per_type": 2}, "exactly 1 with more than one"),
    ],
)
def test_a_placement_that_cannot_be_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Placement(**arguments)  # type: ignore[arg-type]


def test_a_worker_for_each_cpu_but_no_more_than_there_is_work() -> None:
    there = nodes({"CPU": 2}, {"CPU": 4})
    assert Slots.from_nodes(there, Placement()).groups == 6
    few = Slots.from_nodes(there, Placement(), expected=3)
    assert (few.groups, few.threads, few.cpus, few.gpus) == (3, 2, 1.0, 0.0)
    assert Slots.from_nodes(there, Placement(), expected=1).threads == 4  # a worker has the CPUs of one node


@pytest.mark.parametrize("workers", [1, 2, 5, 7])
@pytest.mark.parametrize("hosts", [(1,), (2,), (1, 1), (3, 1)])
def test_any_number_of_workers_fits_any_cluster_with_a_cpu(workers: int, hosts: tuple[int, ...]) -> None:
    slots = Slots.from_nodes(nodes(*({"CPU": count} for count in hosts)), Placement(workers))
    assert slots.groups == workers
    room = sum(int(count / slots.cpus + 1e-9) for count in hosts)
    assert room >= workers  # else some would wait for ever


def test_a_worker_for_each_gpu_or_share_of_one() -> None:
    there = nodes({"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 2})
    assert (Slots.from_nodes(there, Placement()).groups, Slots.from_nodes(there, Placement()).gpus) == (
        4,
        1.0,
    )
    shared = Slots.from_nodes(there, Placement(gpus_per_worker=0.5))
    assert (shared.groups, shared.gpus, shared.threads) == (8, 0.5, 2)


def test_workers_share_a_type_where_it_is_asked_or_where_there_are_more_gpus_than_works() -> None:
    there = nodes({"CPU": 16, "GPU": 4}, {"CPU": 16, "GPU": 4})
    assert Slots.from_nodes(there, Placement(), expected=8).size == 1
    assert (
        Slots.from_nodes(there, Placement(), expected=2).size,
        Slots.from_nodes(there, Placement(), expected=2).groups,
    ) == (4, 2)
    assert Slots.from_nodes(there, Placement(), expected=1).size == 4  # not beyond a node
    asked = Slots.from_nodes(there, Placement(workers_per_type=2))
    assert (asked.size, asked.groups) == (2, 4)
    assert (
        Slots.from_nodes(nodes({"CPU": 8}), Placement(), expected=1).size == 1
    )  # CPUs: only where it is asked


@pytest.mark.parametrize(
    ("there", "placement", "message"),
    [
        (nodes({"GPU": 1}), Placement(), "no CPU for a worker"),
        (nodes({"CPU": 1}, alive=False), Placement(), "no CPU for a worker"),
        (
            nodes({"CPU": 8, "GPU": 2}),
            Placement(3),
            "3 workers with 1 GPU each do not fit the cluster's 2 GPUs",
        ),
        (nodes({"CPU": 8, "GPU": 2}), Placement(workers_per_type=4), "needs 4 GPUs and the cluster has 2"),
    ],
)
def test_what_can_never_be_met_is_said_with_the_numbers(
    there: list[dict[str, Any]], placement: Placement, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Slots.from_nodes(there, placement)


def test_a_cluster_that_grows_is_filled_and_one_that_shrinks_waits() -> None:
    slots = Slots.from_nodes(nodes({"CPU": 2}), Placement())
    assert slots.grown(nodes({"CPU": 2}, {"CPU": 2})).groups == 4
    assert slots.grown(nodes({"CPU": 1})).groups == 2
    assert Slots.from_nodes(nodes({"CPU": 2}), Placement(2)).grown(nodes({"CPU": 2}, {"CPU": 2})).groups == 2


def test_gpus_that_come_late_are_used() -> None:
    head = {"CPU": 4.0}
    slots = Slots.from_nodes(nodes(head), Placement())
    late = slots.grown(nodes(head, {"CPU": 8, "GPU": 2}))
    assert (late.groups, late.gpus) == (2, 1.0)
    asked = Slots.from_nodes(nodes(head), Placement(3))
    assert asked.grown(nodes(head, {"CPU": 8, "GPU": 2})) == asked  # until there are three
    assert asked.grown(nodes(head, {"CPU": 8, "GPU": 4})).gpus == 1.0
