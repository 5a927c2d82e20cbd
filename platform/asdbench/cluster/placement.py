"""How works are to be spread over a cluster, checked before any cluster is there."""

from dataclasses import dataclass

from asdbench.errors import InputError


@dataclass(frozen=True)
class Placement:
    """How works are spread over the cluster.

    Attributes
    ----------
    workers : processes; ``None`` takes one a GPU, or one a CPU without GPUs, but no more than there is work
    workers_per_type : processes that share one machine type's training
    gpus_per_worker : GPUs of a worker; below 1, workers share one. Ignored on a cluster without GPUs
    """

    workers: int | None = None
    workers_per_type: int = 1
    gpus_per_worker: float = 1.0

    def __post_init__(self) -> None:
        if self.workers_per_type < 1:
            raise InputError(f"--workers-per-type {self.workers_per_type} must be at least 1")
        if self.workers is not None and (self.workers < 1 or self.workers % self.workers_per_type):
            raise InputError(
                f"--workers {self.workers} is not a multiple of --workers-per-type {self.workers_per_type}; "
                f"every group of workers needs {self.workers_per_type} of them"
            )
        if not 0 < self.gpus_per_worker <= 1 or (self.gpus_per_worker < 1 and self.workers_per_type > 1):
            raise InputError(
                f"--gpus-per-worker {self.gpus_per_worker:g} must be above 0 and at most 1, and "
                f"exactly 1 with more than one worker a machine type"
            )
