"""What runs on the nodes of a cluster: the Ray tasks that train and score, and that build features.

They never raise: an `Outcome` says how an attempt ended, and where. What a worker process needs beyond Ray is
imported inside the tasks, so that a process that dies of an import has told before on which node it is.
"""

import os
import pickle
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from asdbench.cluster.messages import FeatureRequest, Outcome, TaskRequest
from asdbench.cluster.worker_logs import forwarded_logs
from asdbench.config import Compile
from asdbench.engine.events import Failure, FeatureProgress, Report, TaskReport, TaskStarted
from asdbench.errors import InfrastructureError
from asdbench.io.workspace import Workspace, node_cache_dir

if TYPE_CHECKING:
    import torch

    from asdbench.cluster.placement import WorkerShape
    from asdbench.data.feature_store import FeatureSpec
    from asdbench.engine.job_store import JobStore
    from asdbench.engine.jobs import ResolvedJob, TrainingTask
    from asdbench.engine.runtime import Runtime

_REPORT_S = 0.5  # between reports on features that are built

SchedulerHandle = Any  # a Ray actor's handle: Ray's types do not tell its methods


@dataclass(frozen=True)
class WorkerContext:
    """What every worker of a run needs to know; plain data that travels.

    Attributes
    ----------
    run : id of the run, under which its record is in the job store
    scheduler : handle of the scheduler, which receives reports
    workspace : the driver's
    store : where the job store is
    driver : id of the driver's node
    publishes : whether other nodes may need copies of what tasks read
    threads : of a worker process
    checkpoint_epochs : epochs between checkpoints
    compile : whether training steps are compiled
    """

    run: str
    scheduler: SchedulerHandle
    workspace: Workspace
    store: str
    driver: str
    publishes: bool
    threads: int
    checkpoint_epochs: int
    compile: Compile = "auto"


@dataclass(frozen=True)
class GroupRequest:
    """A request to train a task in a group of processes.

    Attributes
    ----------
    request : the task
    size, shape : number of processes, and what each of them gets
    is_elastic : whether fewer may go on if there is no room for all
    avoid : ids of nodes that get none of them
    """

    request: TaskRequest
    size: int
    shape: "WorkerShape"
    is_elastic: bool
    avoid: tuple[str, ...]


class Preempted(BaseException):
    """The scheduler wants a training to stop, and to go on in more processes; no error of the training."""


class Reporter:
    """Sends the reports of a task to the scheduler, and learns from the answers whether the task is to stop.

    Parameters
    ----------
    key, label : of the task
    scheduler : handle of the scheduler
    attempt : number of the attempt at the task
    """

    def __init__(self, key: str, label: str, scheduler: SchedulerHandle, *, attempt: int = 0) -> None:
        self._key, self._label, self._scheduler, self._attempt = key, label, scheduler, attempt
        self._answer: Any = None

    def start(self) -> bool:
        """Tell where the task runs; return whether it may go on here.

        Raises
        ------
        InfrastructureError
            The scheduler cannot be reached from here, or this node has another version of it.
        """
        event = TaskStarted(self._key, self._label, _node(), socket.gethostname(), self._attempt)
        try:
            return bool(ray.get(self._scheduler.report.remote(event)))
        except Exception as error:
            raise InfrastructureError(
                f"{self._label} cannot report from {socket.gethostname()!r} to the scheduler: {error}"
            ) from error

    def __call__(self, report: Report) -> None:
        """Send a report; the answer to the last one is looked at when a checkpoint is stored."""
        self._answer = self._scheduler.report.remote(TaskReport(self._key, self._label, report))

    def stop_if_asked(self) -> None:
        """Raise `Preempted` if the answer to the last report was to stop."""
        if self._answer is not None and not ray.get(self._answer):
            raise Preempted


@ray.remote(max_retries=0, max_calls=0)
def train_task(request: TaskRequest, copies: Sequence[bytes], context: WorkerContext) -> Outcome:
    """Train and score the jobs of a task in this process.

    Parameters
    ----------
    request : the task
    copies : the content of the outcomes of the tasks that built its features
    context : of the run
    """
    outcome = _guarded(request.label, partial(_train, request, copies, context), context)
    end_unusable_process({request.key: outcome}, context)
    return outcome


def end_unusable_process(outcomes: Mapping[str, Outcome], context: WorkerContext) -> None:
    """End this process if it may have met an error of CUDA, once it has told the outcomes of its tasks.

    It could not use its GPU any longer, so that no other task must get it.
    """
    if ray.get_gpu_ids() and any(outcome.kind == "infrastructure" for outcome in outcomes.values()):
        ray.get([context.scheduler.end.remote(key, outcome) for key, outcome in outcomes.items()])
        os._exit(1)


@ray.remote(max_retries=0)
def train_group(group: GroupRequest, copies: Sequence[bytes], context: WorkerContext) -> Outcome:
    """Train and score the jobs of a task in several processes: a Ray Train run, which this one waits for."""
    from asdbench.cluster.data_parallel import train_together

    work = partial(
        train_together,
        group.request,
        copies,
        group.size,
        group.shape,
        context,
        elastic=group.is_elastic,
        avoid=group.avoid,
    )
    return _guarded(group.request.label, work, context, ran_here=False)


@ray.remote(max_retries=0, max_calls=0)
def prepare_features(request: FeatureRequest, context: WorkerContext) -> Outcome:
    """Build the features of a machine type, and publish them where other nodes may need copies."""
    return _guarded(request.label, partial(_build, request, context), context)


def _guarded(
    label: str, work: Callable[[], Outcome], context: WorkerContext, *, ran_here: bool = True
) -> Outcome:
    """Return the outcome of ``work``, whatever it raises; what it returns says where if not on this node."""
    try:
        with forwarded_logs(context.scheduler.report.remote, label=label):
            outcome = work()
            return ended_here(outcome) if ran_here else outcome
    except Preempted:
        return ended_here(Outcome("preempted"))
    except Exception as error:
        return ended_here(outcome_of([(label, error)]))


def ended_here(outcome: Outcome) -> Outcome:
    """Return the outcome of an attempt on this node."""
    return replace(outcome, node=_node(), host=socket.gethostname())


def outcome_of(errors: Sequence[tuple[str, Exception]]) -> Outcome:
    """Return the outcome of a task in which these errors were met, each of the job with that label."""
    from asdbench.engine.claims import ClaimedError
    from asdbench.engine.failures import failure_kind, is_out_of_memory

    if not errors:
        return Outcome("ok")
    failures = tuple(Failure.from_error(label, error) for label, error in errors)
    message = " ".join(str(errors[0][1]).split())[:300] or type(errors[0][1]).__name__
    if any(isinstance(error, ClaimedError) for _, error in errors):
        return Outcome("claimed", failures=failures, message=message)
    kinds = {failure_kind(error) for _, error in errors}
    return Outcome(
        "infrastructure" if "infrastructure" in kinds else "user",
        failures=failures,
        message=message,
        is_memory=any(is_out_of_memory(error) for _, error in errors),
    )


def _train(request: TaskRequest, copies: Sequence[bytes], context: WorkerContext) -> Outcome:
    reporter = Reporter(request.key, request.label, context.scheduler, attempt=request.attempt)
    if not reporter.start():
        return Outcome("misplaced")
    from asdbench.cluster.gpu_meter import GpuMeter
    from asdbench.engine.claims import claim
    from asdbench.engine.runtime import Runtime

    runtime = Runtime(
        device=task_device(context),
        report=reporter,
        after_checkpoint=reporter.stop_if_asked,
        compile=context.compile,
    )
    store = job_store(context)
    task = prepared_task(request, copies, context, runtime)
    if store.is_done(task):
        return Outcome("ok")
    with claim(store.root, request.training, run=context.run), GpuMeter(runtime.device) as meter:
        outcome = run_prepared(task, meter.watched(runtime), store, context)
    return replace(outcome, gpu=meter.use)


def task_device(context: WorkerContext) -> "torch.device":
    """Return where a task of this process runs: on its GPU, or in the threads of a worker."""
    import torch

    torch.set_num_threads(context.threads)
    return torch.device("cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu")


def job_store(context: WorkerContext) -> "JobStore":
    """Return the job store of a run, and see that it is the one that the driver sees."""
    from asdbench.engine import run_record
    from asdbench.engine.job_store import JobStore
    from asdbench.io.storage import Storage

    store = JobStore(Storage.from_location(context.store))
    run_record.check_storage(store.root, context.run)
    return store


def run_prepared(
    task: "TrainingTask", runtime: "Runtime", store: "JobStore", context: WorkerContext
) -> Outcome:
    """Run a task and see that its results are stored; every process of the runtime's group calls this."""
    from asdbench.engine.run_task import run_isolated_task

    failed = run_isolated_task(
        task,
        runtime,
        store,
        checkpoint_epochs=context.checkpoint_epochs,
        workspaces=[context.workspace],
    )
    return outcome_of_jobs(task, failed, store) if runtime.is_rank_zero else Outcome("ok")


def outcome_of_jobs(
    task: "TrainingTask", failed: Sequence[tuple["ResolvedJob", Exception]], store: "JobStore"
) -> Outcome:
    """Return the outcome of a task by the jobs that failed; see that what did not fail is stored."""
    from asdbench.engine.jobs import job_label

    outcome = outcome_of([(job_label(resolved.job), error) for resolved, error in failed])
    if outcome.kind == "ok" and not store.is_done(task):
        raise InfrastructureError(
            f"the results are not in the storage {str(store.root)!r} although they were written there; see "
            f"that it is mounted on {socket.gethostname()!r}, then run the same command again"
        )
    return outcome


def prepared_task(
    request: TaskRequest, copies: Sequence[bytes], context: WorkerContext, runtime: "Runtime"
) -> "TrainingTask":
    """Look up a task's jobs on this node, bring what they read, and see that they are the driver's.

    Raises
    ------
    InfrastructureError
        They cannot be looked up, or their code or data differ on this node; the driver has looked them up.
    """
    from asdbench.data.sets import catalog
    from asdbench.engine.jobs import ResolvedJob, TrainingTask

    workspace = replace(context.workspace, home=_home(copies, context, runtime))
    try:
        jobs = pickle.loads(request.content)
        data = catalog.load(workspace, jobs[0][0].data)
        task = TrainingTask(tuple(ResolvedJob.from_job(job, data) for job, _ in jobs))
        keys = [resolved.keys for resolved in task.jobs]
    except Exception as error:
        message = f"{request.label} cannot run on {socket.gethostname()!r}: {error}"
        raise InfrastructureError(message) from error
    if keys != [expected for _, expected in jobs]:
        raise InfrastructureError(
            f"the code of {', '.join(request.systems)} or the data set {data.name!r} on "
            f"{socket.gethostname()!r} is not what it was where the run began; bring the same version to all "
            f"nodes, then run the same command again"
        )
    return task


def _build(request: FeatureRequest, context: WorkerContext) -> Outcome:
    reporter = Reporter(request.key, request.label, context.scheduler)
    reporter.start()
    from asdbench.data import feature_store, node_copies
    from asdbench.data.feature_store import FeatureSpec
    from asdbench.data.sets import catalog

    spec: FeatureSpec = pickle.loads(request.content)
    on_driver = _node() == context.driver
    if not on_driver and not _sees_home(context):
        return Outcome("misplaced")
    data = catalog.load(context.workspace, spec.data)
    if not on_driver and not data.root.is_dir():  # the recordings are not shared, as the home is
        return Outcome("misplaced")
    if feature_store.key_of(data, spec) != request.key:
        raise InfrastructureError(
            f"the version of asdbench on {socket.gethostname()!r} builds other features than the one that "
            f"began the run; bring the same version to all nodes, then run the same command again"
        )
    feature_store.build(data, spec, device=_device(spec, context), progress=_rarely(reporter))
    if not context.publishes:
        return Outcome("ok")
    copies = node_copies.publish(
        [node_copies.FeatureFile(data, spec.machine_type, path) for path in feature_store.paths(data, spec)],
        context.workspace.storage,
        weights_files=node_copies.weights_files(data.workspace, spec),
    )
    return Outcome("ok", content=pickle.dumps(copies))


def _device(spec: "FeatureSpec", context: WorkerContext) -> str:
    """Return where features are computed: on this task's GPU, or in the threads of a worker."""
    if spec.encoder is None and not ray.get_gpu_ids():
        return "cpu"
    import torch

    torch.set_num_threads(context.threads)
    return "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"


def _rarely(reporter: Reporter) -> Callable[[int, int], None]:
    """Return what reports the progress of building features, twice a second and at the end."""
    last_s = 0.0

    def report(clips: int, total: int) -> None:
        nonlocal last_s
        if clips == total or time.monotonic() - last_s > _REPORT_S:
            last_s = time.monotonic()
            reporter(FeatureProgress(clips, total))

    return report


def _sees_home(context: WorkerContext) -> bool:
    """Return whether this node sees the driver's home: the run's record is in it, if results go there."""
    from asdbench.engine import run_record
    from asdbench.engine.job_store import JobStore
    from asdbench.io.storage import Storage

    home = JobStore(Storage.from_location(context.workspace.home).within("jobs"))
    return run_record.exists(home.root, context.run)


def _home(copies: Iterable[bytes], context: WorkerContext, runtime: "Runtime") -> Path:
    """Return the data home to read from: the driver's, or one on this node's disk that is filled first."""
    from asdbench.data import node_copies
    from asdbench.data.node_copies import CopyList
    from asdbench.io.retry import retry_until_stored

    home = context.workspace.home
    here = _node() == context.driver and not node_copies.reads_over_network(home)
    if here or not context.publishes:
        return home
    lists: list[CopyList] = [pickle.loads(content) for content in copies]
    wanted = CopyList(tuple(dict.fromkeys(file for listed in lists for file in listed.files)))
    return retry_until_stored(
        partial(node_copies.node_home, context.workspace.storage, wanted, cache_dir=node_cache_dir()),
        on_wait=runtime.report_waiting,
        transient_only=True,
    )


def _node() -> str:
    return str(ray.get_runtime_context().get_node_id())
