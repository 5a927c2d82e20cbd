"""All works of a run in one Ray Train run, so that start-up is paid once.

The W workers of a TorchTrainer form W/D groups. A group takes a work from one queue, longest first, shares
its training data-parallel, stores the results and takes the next; groups never wait for one another, so
nothing goes through ``ray.train.report``, which does. Progress goes to the :class:`Board`, an actor without
a CPU that the driver asks. When a worker dies, Ray Train starts all of them again: the new ones take what the
job store does not hold, each from its own checkpoint.
"""

import os
import shutil
import threading
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from asdbench.cluster.board import Board
from asdbench.cluster.connection import Connection
from asdbench.cluster.placement import Placement
from asdbench.data import catalogue
from asdbench.engine.events import Event, Failure
from asdbench.engine.execute import execute
from asdbench.engine.jobs import Job, JobStore, Prepared, Work
from asdbench.engine.local import failure_of
from asdbench.engine.runtime import Runtime
from asdbench.errors import InputError

_POLL_S = 0.2
_RESTARTS = 10  # of the worker group; a work whose code raises is not tried again


def run_on_ray(
    works: Sequence[Work],
    store: JobStore,
    *,
    connection: Connection,
    placement: Placement,
    checkpoint_epochs: int,
    on_event: Callable[[Event], None],
) -> list[Failure]:
    """Do ``works`` with Ray Train; returns what failed.

    Raises :class:`InputError` at once where the cluster can never hold the workers asked for.
    """
    scratch = store.root / "ray" / uuid.uuid4().hex
    with connection:
        scaling, threads = _scaling(placement, len(works))
        board: Any = ray.remote(num_cpus=0)(Board).remote(len(works))
        trainer = TorchTrainer(
            _worker,
            train_loop_config={
                "jobs": [[prepared.job for prepared in work.jobs] for work in works],
                "store": str(store.root.resolve()),
                "home": str(catalogue.home().resolve()),
                "workers_per_type": placement.workers_per_type,
                "threads": threads,
                "checkpoint_epochs": checkpoint_epochs,
                "board": board,
            },
            scaling_config=scaling,
            torch_config=TorchConfig(backend="gloo"),
            run_config=RunConfig(
                name="run",
                storage_path=str(scratch.resolve()),
                failure_config=FailureConfig(max_failures=_RESTARTS),
            ),
        )
        try:
            _fit(trainer, board, on_event)
            return ray.get(board.failures.remote())  # type: ignore[no-any-return]
        finally:
            ray.kill(board)
            shutil.rmtree(scratch, ignore_errors=True)


def _fit(trainer: TorchTrainer, board: Any, on_event: Callable[[Event], None]) -> None:
    """Fit in a thread while this one listens: in the main thread Ray would take Ctrl-C for itself."""
    failed: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_S)
        for event in ray.get(board.listen.remote()):
            on_event(event)
    if failed:
        raise failed[0]


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


def _worker(config: dict[str, Any]) -> None:
    """What every worker of the trainer does: take works until there are none."""
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
