"""How tasks are spread over a cluster, and how many worker processes its nodes hold."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from asdbench.cluster.sharing import JobsPerGpu
from asdbench.errors import InputError

Node: TypeAlias = Mapping[str, Any]  # as ``ray.nodes()`` lists it


@dataclass(frozen=True)
class Placement:
    """How tasks are spread over the cluster.

    Attributes
    ----------
    workers : largest number of processes at a time; ``None`` for one per GPU, or as many as share it (one per
        CPU without GPUs)
    workers_per_type : processes that share the training of one machine type; ``None`` for one, or more where
        GPUs stand idle and a training has long to go
    jobs_per_gpu : jobs that share a GPU, stacked or in processes of their own; ``"auto"`` to decide by what
        is measured. Ignored on a cluster without GPUs
    """

    workers: int | None = None
    workers_per_type: int | None = None
    jobs_per_gpu: JobsPerGpu = "auto"

    def __post_init__(self) -> None:
        size = 1 if self.workers_per_type is None else self.workers_per_type
        if size < 1:
            raise InputError(f"--workers-per-type {size} must be at least 1")
        if self.workers is not None and (self.workers < 1 or self.workers % size):
            raise InputError(
                f"--workers {self.workers} is not a multiple of --workers-per-type {size}; "
                f"every group of workers needs {size} of them"
            )
        if self.jobs_per_gpu == "auto":
            return
        if type(self.jobs_per_gpu) is not int or self.jobs_per_gpu < 1:
            raise InputError(f"--jobs-per-gpu {self.jobs_per_gpu} must be auto or a whole number from 1 on")
        if self.jobs_per_gpu > 1 and size > 1:
            raise InputError(
                f"--jobs-per-gpu {self.jobs_per_gpu} shares a GPU between trainings, and --workers-per-type "
                f"{size} a training between GPUs; drop one of them"
            )


@dataclass(frozen=True)
class WorkerShape:
    """What a worker process gets, and how many of them the nodes hold.

    Attributes
    ----------
    cpus, gpus : of each process; a share of one where processes share it, and no GPU on nodes without
    threads : of each process
    capacity : processes that fit the nodes, at most as many as were asked for
    """

    cpus: float
    gpus: float
    threads: int
    capacity: int

    @classmethod
    def from_nodes(
        cls, nodes: Iterable[Node], placement: Placement, *, expected: int | None = None
    ) -> "WorkerShape":
        """Return the shape of the workers for ``expected`` tasks on nodes as ``ray.nodes()`` lists them.

        Without any node that has a CPU the capacity is 0, and the shape is that of one CPU: on such a
        cluster tasks wait for nodes to join.

        Examples
        --------
        >>> nodes = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}}] * 2
        >>> WorkerShape.from_nodes(nodes, Placement())
        WorkerShape(cpus=1.0, gpus=1.0, threads=4, capacity=4)
        """
        resources = _resources(nodes)
        cpus = sum(count for count, _ in resources)
        on_gpus = sum(count for _, count in resources)
        slots = on_gpus or cpus
        group = placement.workers_per_type or 1
        share = 1  # processes per CPU: those of a group that does not fit share, or it would never start
        while not on_gpus and 0 < share * cpus < group:
            share += 1
        slots *= 1 if on_gpus else share
        capacity = min(slots, placement.workers or slots) // group * group
        parallel = max(1, min(capacity or 1, (expected or capacity) * group))
        return cls(
            cpus=_cpu_share(resources) if on_gpus else int(1000 / share) / 1000,
            gpus=1.0 if on_gpus else 0.0,
            threads=max(1, min(max((count for count, _ in resources), default=1), cpus // parallel)),
            capacity=capacity,
        )

    def shared_by(self, processes: int) -> "WorkerShape":
        """Return the shape of each of the processes that together take what one of this shape would.

        >>> WorkerShape(cpus=1.0, gpus=1.0, threads=8, capacity=2).shared_by(2)
        WorkerShape(cpus=0.5, gpus=0.5, threads=4, capacity=4)
        """
        if processes == 1:
            return self
        cpus, gpus = (int(1000 * amount / processes) / 1000 for amount in (self.cpus, self.gpus))
        return WorkerShape(cpus, gpus, max(1, self.threads // processes), self.capacity * processes)


def _cpu_share(resources: Iterable[tuple[int, int]]) -> float:
    """Return the CPUs of a process on a GPU: below 1 where a node has fewer CPUs than GPUs."""
    shares = [cpus / gpus for cpus, gpus in resources if gpus and cpus]
    return int(1000 * min([1.0, *shares])) / 1000


def _resources(nodes: Iterable[Node]) -> list[tuple[int, int]]:
    """Return the CPUs and GPUs of each node that is alive."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    return [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in alive]
