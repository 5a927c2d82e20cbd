"""How tasks are spread: how many processes nodes hold, and what each gets."""

from typing import Any

import pytest

from asdbench.cluster.placement import Placement, WorkerShape
from asdbench.errors import InputError


def nodes(*resources: dict[str, float], alive: bool = True) -> list[dict[str, Any]]:
    return [{"Alive": alive, "Resources": of} for of in resources]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 3, "workers_per_type": 2}, "--workers 3 is not a multiple of --workers-per-type 2"),
        ({"workers": 0}, "--workers 0"),
        ({"workers_per_type": 0}, "--workers-per-type 0 must be at least 1"),
        ({"jobs_per_gpu": 0}, "--jobs-per-gpu 0 must be auto or a whole number from 1 on"),
        ({"jobs_per_gpu": 1.5}, "--jobs-per-gpu 1.5 must be auto"),
        ({"jobs_per_gpu": None}, "--jobs-per-gpu None must be auto"),
        ({"jobs_per_gpu": "many"}, "--jobs-per-gpu many must be auto"),
        ({"jobs_per_gpu": 2, "workers_per_type": 2}, "drop one of them"),
    ],
)
def test_a_placement_that_cannot_be_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Placement(**arguments)  # type: ignore[arg-type]


def shape(
    there: list[dict[str, Any]], *placement: Any, expected: int | None = None, **more: Any
) -> WorkerShape:
    return WorkerShape.from_nodes(there, Placement(*placement, **more), expected=expected)


def test_a_worker_for_each_cpu_with_more_threads_where_there_are_fewer_tasks() -> None:
    there = nodes({"CPU": 2}, {"CPU": 4})
    assert shape(there) == WorkerShape(cpus=1.0, gpus=0.0, threads=1, capacity=6)
    assert shape(there, expected=3).threads == 2
    assert shape(there, expected=1).threads == 4  # a worker has the CPUs of one node


def test_workers_are_a_ceiling() -> None:
    there = nodes({"CPU": 2}, {"CPU": 4})
    assert shape(there, 2).capacity == 2
    assert shape(there, 2).threads == 3
    assert shape(there, 64).capacity == 6


def test_a_worker_for_each_gpu_or_several_that_share_what_it_has() -> None:
    there = nodes({"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 2}, {"CPU": 64})
    assert shape(there) == WorkerShape(cpus=1.0, gpus=1.0, threads=20, capacity=4)
    assert shape(there).shared_by(2) == WorkerShape(cpus=0.5, gpus=0.5, threads=10, capacity=8)
    assert shape(there).shared_by(3).gpus * 3 <= 1.0


def test_processes_of_a_gpu_share_the_cpus_of_a_node_with_too_few() -> None:
    assert shape(nodes({"CPU": 2, "GPU": 8})).cpus == 0.25


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("hosts", [(1,), (2,), (1, 1), (3, 1)])
def test_a_group_fits_any_cluster_with_a_cpu(size: int, hosts: tuple[int, ...]) -> None:
    found = shape(nodes(*({"CPU": count} for count in hosts)), None, size)
    assert found.capacity >= size
    assert found.capacity % size == 0
    room = sum(int(count / found.cpus + 1e-9) for count in hosts)
    assert room >= size  # else it would wait for ever


def test_a_cluster_without_any_node_for_tasks_holds_none() -> None:
    for there in (nodes(), nodes({"GPU": 0}), nodes({"CPU": 4}, alive=False), nodes({"memory": 1e9})):
        assert shape(there) == WorkerShape(cpus=1.0, gpus=0.0, threads=1, capacity=0)


def test_gpus_count_only_on_nodes_that_are_alive() -> None:
    there = nodes({"CPU": 4}) + nodes({"CPU": 4, "GPU": 4}, alive=False)
    assert shape(there).gpus == 0.0
