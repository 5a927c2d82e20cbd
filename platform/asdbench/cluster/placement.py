"""How tasks are spread over a cluster, and how many workers a cluster holds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from asdbench.errors import InputError

Node: TypeAlias = Mapping[str, Any]  # as ``ray.nodes()`` lists it


@dataclass(frozen=True)
class Placement:
    """How tasks are spread over the cluster.

    Attributes
    ----------
    workers : number of processes; ``None`` for one per GPU (per CPU without GPUs), at most one per task
    workers_per_type : processes that share the training of one machine type; ``None`` for one, or more if
        there are more GPUs than tasks
    gpus_per_worker : GPUs per worker; below 1, workers share one. Ignored on a cluster without GPUs
    """

    workers: int | None = None
    workers_per_type: int | None = None
    gpus_per_worker: float = 1.0

    def __post_init__(self) -> None:
        size = 1 if self.workers_per_type is None else self.workers_per_type
        if size < 1:
            raise InputError(f"--workers-per-type {size} must be at least 1")
        if self.workers is not None and (self.workers < 1 or self.workers % size):
            raise InputError(
                f"--workers {self.workers} is not a multiple of --workers-per-type {size}; "
                f"every group of workers needs {size} of them"
            )
        if not 0 < self.gpus_per_worker <= 1 or (self.gpus_per_worker < 1 and size > 1):
            raise InputError(
                f"--gpus-per-worker {self.gpus_per_worker:g} must be above 0 and at most 1, and "
                f"exactly 1 with more than one worker per machine type"
            )


@dataclass(frozen=True)
class Slots:
    """The groups of workers that a cluster holds.

    Attributes
    ----------
    groups : number of groups
    size : workers per group
    cpus, gpus : of each worker; a share of one where workers share it
    threads : of each worker
    """

    groups: int
    size: int
    cpus: float
    gpus: float
    threads: int
    placement: Placement

    @classmethod
    def from_nodes(
        cls, nodes: Iterable[Node], placement: Placement, *, expected: int | None = None
    ) -> "Slots":
        """Return the groups that ``nodes`` hold for ``expected`` tasks.

        Raises :class:`InputError` if the cluster can never hold the requested workers.
        """
        cpus, gpus = _resources(nodes)
        if not sum(cpus):
            raise InputError(
                "the Ray cluster has no CPU for a worker; start its nodes with --num-cpus of 1 or more"
            )
        a_gpu = int(1 / placement.gpus_per_worker + 1e-9)
        gpu_slots = sum(count * a_gpu for count in gpus)
        slots = gpu_slots or sum(cpus)
        size, workers = placement.workers_per_type, placement.workers
        if size is None:
            size = 1
            if gpu_slots and placement.gpus_per_worker == 1 and workers is None and expected:
                size = max(1, min(max(gpus), slots // expected))
        if workers is not None and gpu_slots and workers > gpu_slots:
            raise InputError(
                f"{workers} workers with {placement.gpus_per_worker:g} GPU each do not fit the cluster's "
                f"{sum(gpus)} GPUs, which hold {gpu_slots}; ask for fewer workers or smaller shares"
            )
        if workers is None and gpu_slots and size > gpu_slots:
            raise InputError(
                f"--workers-per-type {size} needs {size} GPUs and the cluster has {gpu_slots}; ask for fewer"
            )
        groups = max(1, slots // size) if workers is None else workers // size
        if workers is None and expected is not None:
            groups = max(1, min(groups, expected))
        share = (
            1  # workers per CPU: if there are more workers than CPUs, they share, or some would never start
        )
        while sum(count * share for count in cpus) < groups * size:
            share += 1
        return cls(
            groups,
            size,
            cpus=int(1000 / share) / 1000,
            gpus=placement.gpus_per_worker if gpu_slots else 0.0,
            threads=max(1, min(max(cpus), sum(cpus) // (groups * size))),
            placement=placement,
        )

    def grown(self, nodes: Iterable[Node]) -> "Slots":
        """Return the groups on the current nodes: more if nodes have joined; GPUs if they joined late.

        If nodes have left, the number stays: lost groups wait for resources.
        """
        cpus, gpus = _resources(nodes)
        if sum(gpus) and not self.gpus and sum(cpus):
            try:
                return Slots.from_nodes(nodes, self.placement)
            except InputError:  # not enough of them yet
                return self
        if self.placement.workers is not None:
            return self
        share, a_gpu = int(1 / self.cpus), int(1 / self.gpus + 1e-9) if self.gpus else 0
        slots = sum(count * a_gpu for count in gpus) if a_gpu else sum(count * share for count in cpus)
        return replace(self, groups=max(self.groups, slots // self.size))


def _resources(nodes: Iterable[Node]) -> tuple[list[int], list[int]]:
    """Return the CPUs and GPUs of each node that is alive."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    return [int(node.get("CPU", 0)) for node in alive], [int(node.get("GPU", 0)) for node in alive]
