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
from datetime import timedelta
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
from asdbench.engine.runtime import Runtime
from asdbench.errors import InputError

_POLL_S = 0.2
_RESTARTS_PER_WORK = 3  # of the worker group; the board gives a work up before that
_PATIENCE = timedelta(days=2)


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
                "works": [[(prepared.job, prepared.keys) for prepared in work.jobs] for work in works],
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
                failure_config=FailureConfig(max_failures=10 + _RESTARTS_PER_WORK * len(works)),
            ),
        )
        try:
            _fit(trainer, board, on_event)
            return ray.get(board.failures.remote())  # type: ignore[no-any-return]
        except ray.exceptions.RayError as error:  # what is finished is worth showing all the same
            ended = f"the cluster gave up: {error}"
            return [
                Failure(index, work.systems, ended, bad_input=False)
                for index, work in enumerate(works)
                if not store.is_done(work)
            ]
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
    """Return the workers' resources and the threads of each.

    Raises :class:`InputError` where the cluster can never hold them.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    cpus = [node.get("CPU", 0.0) for node in nodes]
    a_gpu = int(1 / placement.gpus_per_worker + 1e-9)
    gpu_slots = sum(int(node.get("GPU", 0.0)) * a_gpu for node in nodes)
    slots = gpu_slots or int(sum(cpus))
    workers, size = placement.workers, placement.workers_per_type
    if workers is None:
        workers = max(1, min(works, slots // size)) * size
    if not sum(cpus):
        raise InputError(
            "the Ray cluster has no CPU for a worker; start its nodes with --num-cpus of 1 or more"
        )
    if gpu_slots and workers > gpu_slots:
        raise InputError(
            f"{workers} workers with {placement.gpus_per_worker:g} GPU each do not fit the cluster's "
            f"{gpu_slots // a_gpu} GPUs, which hold {gpu_slots}; ask for fewer workers or smaller shares"
        )
    share = 1  # workers of a CPU: more than there are CPUs share them, since else they would wait for ever
    while sum(int(count) * share for count in cpus) < workers:
        share += 1
    resources = {"CPU": int(1000 / share) / 1000} | ({"GPU": placement.gpus_per_worker} if gpu_slots else {})
    threads = max(1, int(sum(cpus) // workers))
    return ScalingConfig(
        num_workers=workers, use_gpu=bool(gpu_slots), resources_per_worker=resources
    ), threads


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
        taken = ray.get(board.take.remote(attempt[0])) if rank == leader else None
        index = _agree(talk, leader, taken)
        if index is None:
            return
        runtime = Runtime(
            device=device,
            rank=rank - leader,
            size=size,
            group=share,
            report=partial(_tell, board, index),
            agree=partial(_agree, talk, leader),
        )
        jobs = config["works"][index]
        try:
            work = _prepare(jobs)
            failed = execute(work, runtime, store, checkpoint_epochs=config["checkpoint_epochs"])
            failures = [Failure.of(index, (prepared.job.system,), error) for prepared, error in failed]
        except Exception as error:
            failures = [Failure.of(index, tuple(job.system for job, _ in jobs), error)]
            if size > 1 and not isinstance(error, InputError):
                ray.get(board.finish.remote(index, failures))
                raise  # the others of the group may wait for this process: all must start anew
        if rank == leader:
            ray.get(board.finish.remote(index, failures))


def _agree(talk: Any, leader: int, value: Any) -> Any:
    if talk is None:
        return value
    shared = [value]
    dist.broadcast_object_list(shared, src=leader, group=talk)
    return shared[0]


def _tell(board: Any, index: int, event: Event) -> None:
    board.tell.remote({"work": index, **event})


def _prepare(jobs: Sequence[tuple[Job, tuple[str, str]]]) -> Work:
    """Look up a work's jobs here, and see that they are what the driver means by them."""
    data = catalogue.load(jobs[0][0].data)
    work = Work(tuple(Prepared.of(job, data=data) for job, _ in jobs))
    for prepared, (_, keys) in zip(work.jobs, jobs, strict=True):
        if prepared.keys != keys:
            raise InputError(
                f"system {prepared.job.system!r} or data set {data.name!r} is not what it was when the run "
                f"began, or differs on this machine; give the same command again"
            )
    return work


def _groups(world: int, size: int, rank: int, device: torch.device) -> tuple[Any, Any]:
    """Return this worker's groups of processes to talk in and to share gradients in."""
    if size == 1:
        return None, None
    mine: tuple[Any, Any] = (None, None)
    for first in range(0, world, size):
        ranks = list(range(first, first + size))
        talk = dist.new_group(ranks, backend="gloo", timeout=_PATIENCE)  # while the leader scores
        share = dist.new_group(ranks, backend="nccl") if device.type == "cuda" else talk
        if rank in ranks:
            mine = (talk, share)
    return mine
