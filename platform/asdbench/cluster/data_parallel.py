"""Trains one task in several processes: a Ray Train run (``TorchTrainer``) whose results go to the job store.

Nothing goes through ``ray.train.report``: rank 0 reports to the scheduler, and its checkpoints are those of
every training, from which any number of processes can resume. If a process of the group dies, Ray Train
starts a new group, which resumes from the checkpoint.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast

import ray
import torch
import torch.distributed as dist
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from asdbench.cluster.group_guard import guard_group
from asdbench.cluster.messages import Outcome, TaskRequest
from asdbench.cluster.placement import WorkerShape
from asdbench.cluster.tasks import (
    Reporter,
    WorkerContext,
    job_store,
    outcome_of,
    prepared_task,
    run_prepared,
)
from asdbench.cluster.worker_logs import forwarded_logs
from asdbench.config import Compile
from asdbench.engine.claims import claim
from asdbench.engine.events import Note, TaskReport
from asdbench.engine.runtime import Runtime
from asdbench.io.storage import Storage, StorageError

Shared = TypeVar("Shared")

_RESTARTS = 2  # of a group whose process dies
_START_S = 30  # to find room for a group; then Ray Train tries again, or an elastic group gets smaller
_STARTS = 20
_PATIENCE = timedelta(days=2)  # of processes with one another: a fit takes long, or the disk is full
_STEP = timedelta(minutes=30)  # for what processes compute together; Ray Train's default
_SAME_ERROR = timedelta(seconds=20)  # for all processes to meet the error that one of them met

_RAY_TRAIN = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # by default an end or a death goes unnoticed for 2 s
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(_START_S),
    # processes whose output nobody reads
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # what is printed reaches the driver as from any worker
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths, such as of systems/, keep their meaning
}


def train_together(
    request: TaskRequest,
    copies: Sequence[bytes],
    size: int,
    shape: WorkerShape,
    context: WorkerContext,
    *,
    elastic: bool = False,
    avoid: Collection[str] = (),
) -> Outcome:
    """Train and score the jobs of a task in a group of processes; called in a process on the driver's node.

    Parameters
    ----------
    request : the task
    copies : the content of the outcomes of the tasks that built its features
    size : number of processes
    shape : what each of them gets
    context : of the run
    elastic : whether fewer processes, half as many each time, may go on if there is no room for all within
        30 s, as after the loss of a node. The results differ by rounding
    avoid : ids of nodes that get no process of the group

    Returns
    -------
    Outcome
        With the node of the process that met the error, if it is known. An error that all processes met is
        one of the task, as in a single process. ``"death"``: processes died more often than Ray Train
        restarts a group. ``"infrastructure"`` without a node: there was no room for the group in 10 minutes.

    Raises
    ------
    InfrastructureError
        The job store is not the driver's, or cannot be reached.
    ClaimedError
        Another run works on the training.
    """
    for name, value in _RAY_TRAIN.items():
        os.environ.setdefault(name, value)
    root = job_store(context).root
    scratch = f"ray/{request.training}"
    member = partial(_member, request, copies, context)
    with claim(root, request.training, run=context.run):
        try:
            root.delete_folder(scratch)  # a group that was killed has left it
            while True:
                may_shrink = elastic and size > 1
                starts = 1 if may_shrink else _STARTS
                try:
                    return _fit(member, root.within(scratch), size, shape, avoid, starts=starts)
                except ControllerError as error:
                    if not may_shrink:
                        return Outcome("infrastructure", message=_line(error))
                    size //= 2
                    note = f"the cluster has no room for all processes; the training continues with {size}"
                    context.scheduler.report.remote(TaskReport(request.key, request.label, Note(note)))
                except WorkerGroupError as error:
                    return outcome_of_group(request.label, error)
        finally:
            with contextlib.suppress(StorageError):
                root.delete_folder(scratch)


def _fit(
    member: Callable[[], Outcome],
    scratch: Storage,
    size: int,
    shape: WorkerShape,
    avoid: Collection[str],
    *,
    starts: int,
) -> Outcome:
    """Run ``member`` in a group, after at most so many attempts to start one; returns what rank 0 returns."""
    # The stubs are those of Ray Train's first version.
    failures: dict[str, Any] = {"max_failures": _RESTARTS, "controller_failure_limit": starts - 1}
    nodes: dict[str, Any] = {"label_selector": {"ray.io/node-id": f"!in({','.join(sorted(avoid))})"}}
    scaling = ScalingConfig(
        num_workers=size,
        use_gpu=shape.gpus > 0,
        resources_per_worker={"CPU": shape.cpus} | ({"GPU": shape.gpus} if shape.gpus else {}),
        **(nodes if avoid else {}),
    )
    trainer: Any = _Trainer(
        cast(Any, member),
        scaling_config=scaling,
        torch_config=TorchConfig(backend="gloo", timeout_s=int(_STEP.total_seconds())),
        run_config=RunConfig(
            name="group", storage_path=scratch.uri, failure_config=FailureConfig(**failures)
        ),
    )
    outcome: Outcome = trainer.fit().return_value
    return outcome


class _Trainer(TorchTrainer):
    """A ``TorchTrainer`` without Ray's cleaner of placement groups, whose work `guard_group` does.

    The cleaner asks the dashboard: where there is none, it removes nothing, and stays until the cluster ends,
    a process of 195 MB for each run whose owner was killed.
    """

    def _create_default_callbacks(self) -> list[Any]:
        parent: Any = super()
        callbacks = parent._create_default_callbacks()
        return [each for each in callbacks if type(each).__name__ != "PlacementGroupCleanerCallback"]


def outcome_of_group(label: str, error: WorkerGroupError) -> Outcome:
    """Return the outcome of a task whose group failed more often than Ray Train restarts it.

    The cause is the first error that does not only say that another process is gone; without one, a process
    died.
    """
    raised = [each for _, each in sorted(error.worker_failures.items())]
    own = [each for each in raised if not isinstance(each, RayError) and not _is_loss_of_peer(each)]
    return outcome_of([(label, own[0])]) if own else Outcome("death", message=_line(error))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _is_loss_of_peer(error: Exception) -> bool:
    """Return whether an error only says that another process of the group is gone."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(name in str(error) for name in ("gloo", "NCCL"))
    )


def _member(request: TaskRequest, copies: Sequence[bytes], context: WorkerContext) -> Outcome:
    """Do what every process of a group does; the outcome of rank 0 is the group's."""
    node = str(ray.get_runtime_context().get_node_id())
    torch.set_num_threads(context.threads)
    talk = dist.new_group(backend="gloo", timeout=_PATIENCE)
    reporter = Reporter(request.key, request.label, context.scheduler, attempt=request.attempt)
    runtime = _runtime(talk, reporter, context.compile)
    if runtime.is_rank_zero:
        guard_group(context.driver)
    with forwarded_logs(context.scheduler.report.remote, label=request.label):
        if runtime.broadcast(reporter.start() if runtime.is_rank_zero else True):
            outcome = _train(request, copies, context, runtime, talk)
        else:
            outcome = Outcome("misplaced")
    return outcome if outcome.node else replace(outcome, node=node, host=socket.gethostname())


def _train(
    request: TaskRequest,
    copies: Sequence[bytes],
    context: WorkerContext,
    runtime: Runtime,
    talk: dist.ProcessGroup,
) -> Outcome:
    """Train and score in this process of the group; raise an error that the others did not meet."""
    try:
        store = job_store(context)
        task = prepared_task(request, copies, context, runtime)
        fault = None
    except Exception as error:
        here = str(ray.get_runtime_context().get_node_id()), socket.gethostname()
        fault = replace(outcome_of([(request.label, error)]), node=here[0], host=here[1])
    for first_fault in filter(None, _gathered(talk, fault)):
        return first_fault
    try:
        outcome = run_prepared(task, runtime, store, context)
    except Exception as error:
        if not _all_arrive(talk, _SAME_ERROR):
            raise  # the others wait for this process: the group has to start again
        return outcome_of([(request.label, error)])
    _all_arrive(talk, _PATIENCE)  # rank 0 may still store what all have scored
    return outcome


def _runtime(talk: dist.ProcessGroup, reporter: Reporter, compile: Compile) -> Runtime:
    """Return the runtime of this process: on GPUs, over NCCL, if every process of the group has one."""
    on_gpu = all(_gathered(talk, torch.cuda.is_available() and bool(ray.get_gpu_ids())))
    return Runtime(
        device=ray.train.torch.get_device() if on_gpu else torch.device("cpu"),
        rank=dist.get_rank(),
        size=dist.get_world_size(),
        group=dist.new_group(backend="nccl", timeout=_STEP) if on_gpu else None,
        report=reporter,
        broadcast=partial(_broadcast, talk),
        gather=partial(_gathered, talk),
        compile=compile,
    )


def _broadcast(talk: dist.ProcessGroup, value: Shared) -> Shared:
    shared = [value]
    dist.broadcast_object_list(shared, src=0, group=talk)
    return shared[0]


def _gathered(talk: dist.ProcessGroup, value: Shared) -> list[Shared]:
    """Return the values of all processes, by rank."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value, group=talk)
    return values


def _all_arrive(talk: dist.ProcessGroup, timeout: timedelta) -> bool:
    """Wait for all processes of the group to call this; return whether they did within ``timeout``."""
    try:
        dist.monitored_barrier(talk, timeout=timeout)
    except RuntimeError:
        return False
    return True
