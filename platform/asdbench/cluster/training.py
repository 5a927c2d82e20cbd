"""All works of a run in one Ray Train run, so that start-up is paid once.

The W workers of a TorchTrainer form W/D groups. A group takes a work from one queue, longest first, shares
its training data-parallel, stores the results and takes the next; groups never wait for one another, so
nothing goes through ``ray.train.report``, which does. Progress goes to the :class:`Board`, an actor without
a CPU that the driver asks. When a worker dies, Ray Train starts all of them again: the new ones take what the
job store does not hold, each from its own checkpoint.
"""

import logging
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# Ray Train asks its workers how they are every 2 s by default, which is how long an end or a death would
# go unnoticed. The driver's copy of Ray reads it on import.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault(
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
)  # the behaviour of Ray's next version, unasked

import ray
import torch
import torch.distributed as dist
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from asdbench.engine.events import Event, Failure
from asdbench.engine.execute import execute
from asdbench.engine.jobs import Job, JobStore, Prepared, Work
from asdbench.engine.local import failure_of
from asdbench.engine.runtime import Runtime
from asdbench.errors import InputError

_POLL_S = 0.2
_RESTARTS = 10  # of the worker group; a work whose code raises is not tried again


@dataclass(frozen=True)
class Placement:
    """How works are spread over the cluster.

    Attributes
    ----------
    workers : processes; ``None`` takes one a GPU, or one a CPU without GPUs, but no more than there is work
    workers_per_type : processes that share one machine type's training
    gpus_per_worker : GPUs of a worker; below 1, workers share one. Ignored on a cluster without GPUs
    address : Ray cluster; ``"local"`` starts one for this run and ends it
    """

    workers: int | None = None
    workers_per_type: int = 1
    gpus_per_worker: float = 1.0
    address: str = "local"

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


def run_on_ray(
    works: Sequence[Work],
    store: JobStore,
    *,
    placement: Placement,
    checkpoint_epochs: int,
    on_event: Callable[[Event], None],
) -> list[Failure]:
    """Do ``works`` with Ray Train; returns what failed.

    Raises :class:`InputError` at once where the cluster can never hold the workers asked for.
    """
    started = _connect(placement.address)
    scratch = store.root / "ray" / uuid.uuid4().hex
    board: Any = ray.remote(num_cpus=0)(Board).remote(len(works))
    stop = threading.Event()
    listener = threading.Thread(target=_listen, args=(board, on_event, stop), daemon=True)
    try:
        scaling, threads = _scaling(placement, len(works))
        listener.start()
        trainer = TorchTrainer(
            _worker,
            train_loop_config={
                "jobs": [[prepared.job for prepared in work.jobs] for work in works],
                "store": str(store.root),
                "home": os.environ.get("ASDBENCH_HOME"),
                "workers_per_type": placement.workers_per_type,
                "threads": threads,
                "checkpoint_epochs": checkpoint_epochs,
                "board": board,
            },
            scaling_config=scaling,
            torch_config=TorchConfig(backend="gloo"),
            run_config=RunConfig(
                name="run", storage_path=str(scratch), failure_config=FailureConfig(max_failures=_RESTARTS)
            ),
        )
        trainer.fit()
        _drain(board, on_event)
        return ray.get(board.failures.remote())  # type: ignore[no-any-return]
    finally:
        stop.set()
        if listener.ident is not None:
            listener.join()
        shutil.rmtree(scratch, ignore_errors=True)
        ray.kill(board)
        if started:
            ray.shutdown()


class Board:
    """The queue of works and the notes on their progress; a Ray actor.

    Each start of the worker group is an attempt. A new attempt puts back what the last one had taken and
    not finished.
    """

    def __init__(self, works: int) -> None:
        self._works = works
        self._attempt = ""
        self._waiting = list(range(works))
        self._finished: set[int] = set()
        self._failures: dict[int, Failure] = {}
        self._events: list[Event] = []

    def take(self, attempt: str) -> int | None:
        """Return the next work of this attempt, ``None`` when there is none left."""
        if attempt != self._attempt:
            self._attempt = attempt
            self._waiting = [
                w for w in range(self._works) if w not in self._finished and w not in self._failures
            ]
        return self._waiting.pop(0) if self._waiting else None

    def finish(self, work: int) -> None:
        """Note that a work is done."""
        self._finished.add(work)
        self._events.append({"work": work, "done": True})

    def fail(self, failure: Failure) -> None:
        """Note that a work raised an error and is not to be tried again."""
        self._failures.setdefault(failure.work, failure)

    def tell(self, event: Event) -> None:
        """Note progress."""
        self._events.append(event)

    def listen(self) -> list[Event]:
        """Return what was noted since the last call."""
        events, self._events = self._events, []
        return events

    def failures(self) -> list[Failure]:
        """Return all failures."""
        return list(self._failures.values())


def _connect(address: str) -> bool:
    """Connect to a cluster or start one; whether one was started."""
    if ray.is_initialized():
        return False
    try:
        ray.init(
            address=address,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            namespace="asdbench",
        )
    except ConnectionError as error:
        raise InputError(
            f"no Ray cluster answers at {address!r} ({error}); start one or leave --address out"
        ) from None
    return True


def _scaling(placement: Placement, works: int) -> tuple[ScalingConfig, int]:
    """Return the workers' resources and the threads of each."""
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = total.get("CPU", 0.0), total.get("GPU", 0.0)
    slots = int(gpus / placement.gpus_per_worker) if gpus else int(cpus)
    workers = placement.workers
    if workers is None:
        groups = max(1, min(works, slots // placement.workers_per_type))
        workers = groups * placement.workers_per_type
    resources: dict[str, float] = {"CPU": 1.0}
    if gpus:
        if workers > slots:
            raise InputError(
                f"{workers} workers with {placement.gpus_per_worker:g} GPU each do not fit a cluster of "
                f"{gpus:g} GPUs; ask for fewer --workers or a smaller --gpus-per-worker"
            )
        resources["GPU"] = placement.gpus_per_worker
    if workers > cpus:  # they share CPUs; a request for more than there is would wait for ever
        resources["CPU"] = max(0.01, int(100 * cpus / workers) / 100)
    threads = max(1, int(cpus // workers))
    return ScalingConfig(num_workers=workers, use_gpu=bool(gpus), resources_per_worker=resources), threads


def _listen(board: Any, on_event: Callable[[Event], None], stop: threading.Event) -> None:
    while not stop.wait(_POLL_S):
        try:
            _drain(board, on_event)
        except Exception:  # the cluster is going down; the main thread says why
            return


def _drain(board: Any, on_event: Callable[[Event], None]) -> None:
    for event in ray.get(board.listen.remote()):
        on_event(event)


def _worker(config: dict[str, Any]) -> None:
    """What every worker of the trainer does: take works until there are none."""
    if config["home"] is not None:
        os.environ["ASDBENCH_HOME"] = config["home"]
    torch.set_num_threads(config["threads"])
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), config["workers_per_type"]
    attempt = [uuid.uuid4().hex]
    dist.broadcast_object_list(attempt, src=0)
    device = ray.train.torch.get_device()
    talk, share = _groups(context.get_world_size(), size, rank, device)
    leader = rank - rank % size
    board, store = config["board"], JobStore(Path(config["store"]))
    while True:
        taken = [ray.get(board.take.remote(attempt[0])) if rank == leader else None]
        if size > 1:
            dist.broadcast_object_list(taken, src=leader, group=talk)
        index = taken[0]
        if index is None:
            return
        runtime = Runtime(
            device=device,
            rank=rank - leader,
            size=size,
            group=share,
            report=partial(_tell, board, index),
        )
        try:
            work = _prepare(config["jobs"][index])
            execute(work, runtime, store, checkpoint_epochs=config["checkpoint_epochs"])
        except Exception as error:
            ray.get(board.fail.remote(failure_of(index, error)))
            if size > 1:
                raise  # the others of the group wait for this process: all must start anew
        else:
            if rank == leader:
                ray.get(board.finish.remote(index))


def _tell(board: Any, index: int, event: Event) -> None:
    board.tell.remote({"work": index, **event})


def _prepare(jobs: Sequence[Job]) -> Work:
    first = Prepared.of(jobs[0])
    return Work((first, *(Prepared.of(job, data=first.data) for job in jobs[1:])))


def _groups(world: int, size: int, rank: int, device: torch.device) -> tuple[Any, Any]:
    """Return this worker's groups of processes to talk in and to share gradients in."""
    if size == 1:
        return None, None
    mine: tuple[Any, Any] = (None, None)
    for first in range(0, world, size):
        ranks = list(range(first, first + size))
        talk = dist.new_group(ranks, backend="gloo")
        share = dist.new_group(ranks, backend="nccl") if device.type == "cuda" else talk
        if rank in ranks:
            mine = (talk, share)
    return mine
