"""The workers of a run: started once, each takes tasks from one queue until there are none.

A group is what trains one task at a time: one worker, or D of them that share it data-parallel. A group of
one is a plain Ray actor, since a Ray Train run costs ten seconds that a worker alone has no use for; a larger
one is a Ray Train run (``TorchTrainer``). A group that dies, with its process, its host or a member, is
replaced by a new one as soon as there is room; the others go on meanwhile and take over the task that it had,
each task from its own checkpoint. Hosts that join later get workers too.

Nothing goes through ``ray.train.report``: progress goes to the :class:`Board`, an actor without a CPU that
the driver asks, and results to the job store.
"""

import pickle
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray
import torch
import torch.distributed as dist
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from asdbench.cluster.board import Board, BoardHandle
from asdbench.cluster.connection import Connection
from asdbench.cluster.placement import Placement, Slots
from asdbench.cluster.worker_logs import forwarded_logs
from asdbench.data import node_copies
from asdbench.data.node_copies import CopyList
from asdbench.data.sets import catalog
from asdbench.engine.events import Event, Failure, Note, Report, TaskFinished, TaskReport
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, TrainingTask
from asdbench.engine.run_task import run_task
from asdbench.engine.runtime import Runtime
from asdbench.errors import InputError
from asdbench.io.retry import retry_until_stored
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace, node_cache_dir

Shared = TypeVar("Shared")

_BARREN = 3  # groups in a row that die before they take any task, until the run gives up
_PARTING_S = 15.0  # for a Ray Train run to end by itself
_LOOK_S = 5.0  # between looks at the cluster's nodes
_PATIENCE = timedelta(days=2)  # of a group's processes with their leader: it scores, or the disk is full


@dataclass(frozen=True)
class Tools:
    """What every worker needs to know; plain data that travels.

    Attributes
    ----------
    board : handle of the board
    workspace : the driver's; its storage holds what is published for nodes that do not read the driver's home
    results : where the job store is
    driver : id of the driver's node
    threads : of a worker
    checkpoint_epochs : epochs between checkpoints
    """

    board: BoardHandle
    workspace: Workspace
    results: str
    driver: str
    threads: int
    checkpoint_epochs: int


class Crew:
    """Workers on a Ray cluster; to be used in a ``with`` statement, by one thread.

    Parameters
    ----------
    connection : to the cluster; it is waited for, and ended with the crew
    store : where results go
    workspace : of the driver
    placement : how tasks are spread
    checkpoint_epochs : epochs between checkpoints
    expected : number of tasks at most, if that is known; more workers than that are not started

    Raises
    ------
    InputError
        On entering: the cluster can never hold the workers asked for.
    """

    def __init__(
        self,
        connection: Connection,
        store: JobStore,
        workspace: Workspace,
        *,
        placement: Placement,
        checkpoint_epochs: int,
        expected: int | None = None,
    ) -> None:
        self._connection = connection
        self._store = store
        self._workspace = workspace
        self._placement = placement
        self._checkpoint_epochs = checkpoint_epochs
        self._expected = expected
        self._works: dict[int, TrainingTask] = {}
        self._open: set[int] = set()
        self._groups: dict[int, _Alone | _Sharing] = {}
        self._published: dict[frozenset[str], CopyList] = {}
        self._next_group = 0
        self._barren = 0
        self._looked = 0.0

    def __enter__(self) -> "Crew":
        self._connection.__enter__()
        try:
            self._slots = Slots.from_nodes(ray.nodes(), self._placement, expected=self._expected)  # type: ignore[no-untyped-call]
            # on the driver's node: it must not die with a worker's
            here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            self.board: BoardHandle = ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()
            self._tools = Tools(
                self.board,
                replace(self._workspace, home=self._workspace.home.resolve()),
                self._store.uri,
                ray.get_runtime_context().get_node_id(),
                self._slots.threads,
                self._checkpoint_epochs,
            )
        except BaseException:
            self._connection.__exit__()
            raise
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        try:
            if failed is None:
                ray.get(self.board.close.remote())
            for group in self._groups.values():
                group.end(patience_s=_PARTING_S if failed is None else 0.0)
            ray.kill(self.board)
        finally:
            self._connection.__exit__()

    @property
    def groups(self) -> int:
        """How many tasks can be under way at a time, as the cluster is now."""
        return self._slots.groups

    @property
    def dashboard(self) -> str | None:
        """The address of Ray's dashboard, ``None`` if there is none."""
        return self._connection.dashboard

    def submit(self, tasks: Iterable[tuple[TrainingTask, Sequence[float]]]) -> list[int]:
        """Queue tasks, each with its priority (lowest first); returns their numbers in events."""
        numbered = []
        for task, priority in tasks:
            number = len(self._works)
            self._works[number] = task
            self._open.add(number)
            jobs = [(resolved.job, resolved.keys) for resolved in task.jobs]
            content = pickle.dumps((jobs, self._manifest(task)))  # the board's process stays light
            numbered.append((number, tuple(priority), task.first.training_key, content))
        ray.get(self.board.put.remote(numbered))
        return [number for number, *_ in numbered]

    def withdraw(self, tasks: Iterable[int]) -> list[int]:
        """Take tasks that have not begun out of the queue; returns those."""
        gone: list[int] = ray.get(self.board.withdraw.remote(list(tasks)))
        self._open.difference_update(gone)
        return gone

    def score(self, trial: str, scores: Sequence[float]) -> None:
        """Give a trial the scores of its rungs."""
        ray.get(self.board.score.remote(trial, list(scores)))

    def end_trials(self) -> None:
        """Let the trials go that wait for a score."""
        ray.get(self.board.end_trials.remote())

    def listen(self) -> list[Event]:
        """Return what happened since the last call; replaces groups that died meanwhile."""
        events: list[Event] = ray.get(self.board.listen.remote())
        for event in events:
            if isinstance(event, TaskFinished):
                self._open.discard(event.task)
        return events + self._tend()

    def _manifest(self, task: TrainingTask) -> CopyList | None:
        """Publish what a task reads, if its worker may be on another node; returns what there is to copy."""
        home = self._workspace.home
        if self._connection.is_local and not node_copies.reads_over_network(home):
            return None
        sources = task.first.stored_clips
        names = frozenset(source.name for source in sources)
        if names not in self._published:
            self._published[names] = node_copies.publish(sources, self._workspace.storage)
        return self._published[names]

    def _tend(self) -> list[Event]:
        """Start as many groups as there are tasks and room for; replace those that have ended."""
        events: list[Event] = []
        for number, group in list(self._groups.items()):
            ended, error = group.ended()
            if not ended:
                continue
            del self._groups[number]
            took = ray.get(self.board.release.remote(number))
            self._barren = 0 if took or error is None else self._barren + 1
            if error is not None:
                events.append(Note(f"a worker was lost and is replaced ({_first_line(error)})"))
            if self._barren >= _BARREN:
                raise CrewError(f"workers die before they take any task: {error}")
        if time.monotonic() - self._looked > _LOOK_S:
            self._looked = time.monotonic()
            self._slots = self._slots.grown(ray.nodes())  # type: ignore[no-untyped-call]
        while len(self._groups) < min(self._slots.groups, len(self._open)):
            start = _Alone if self._slots.size == 1 else _Sharing
            tools = replace(self._tools, threads=self._slots.threads)  # GPUs may have come since
            self._groups[self._next_group] = start(self._next_group, tools, self._slots)
            self._next_group += 1
        return events


class CrewError(RuntimeError):
    """The crew cannot go on."""


class _Alone:
    """A group of one worker: a plain actor."""

    def __init__(self, number: int, tools: Tools, slots: Slots) -> None:
        made: Any = ray.remote(num_cpus=slots.cpus, num_gpus=slots.gpus, scheduling_strategy="SPREAD")(Worker)
        self._actor = made.remote(tools)
        self._end = self._actor.task.remote(number, uuid.uuid4().hex)

    def ended(self) -> tuple[bool, BaseException | None]:
        if not ray.wait([self._end], timeout=0)[0]:
            return False, None
        try:
            ray.get(self._end)
        except Exception as error:
            return True, error
        return True, None

    def end(self, *, patience_s: float) -> None:
        ray.kill(self._actor)


class _Sharing:
    """A group of D workers that share each task: a Ray Train run."""

    def __init__(self, number: int, tools: Tools, slots: Slots) -> None:
        resources = {"CPU": slots.cpus} | ({"GPU": slots.gpus} if slots.gpus else {})
        self._scratch = JobStore(Storage.from_location(tools.results))
        self._folder = f"ray/{uuid.uuid4().hex}"
        trainer = TorchTrainer(
            _member,
            train_loop_config={"tools": tools, "group": number},
            scaling_config=ScalingConfig(
                num_workers=slots.size, use_gpu=bool(slots.gpus), resources_per_worker=resources
            ),
            torch_config=TorchConfig(backend="nccl" if slots.gpus else "gloo"),
            run_config=RunConfig(
                name=f"group{number}",
                storage_path=self._scratch.root.within(self._folder).uri,
                failure_config=FailureConfig(max_failures=0),  # the crew starts another group
            ),
        )
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._fit, args=(trainer,), daemon=True)
        self._thread.start()  # in the main thread Ray would take Ctrl-C for itself

    def _fit(self, trainer: TorchTrainer) -> None:
        try:
            trainer.fit()
        except BaseException as error:
            self._error = error
        finally:
            self._scratch.root.delete_folder(self._folder)

    def ended(self) -> tuple[bool, BaseException | None]:
        return not self._thread.is_alive(), self._error

    def end(self, *, patience_s: float) -> None:
        self._thread.join(patience_s)  # what is left then ends with the driver's job


class Worker:
    """A worker alone; a Ray actor."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def task(self, group: int, attempt: str) -> None:
        """Take tasks until there are none."""
        device = torch.device("cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu")
        with forwarded_logs(self._tools.board.tell.remote):
            _take_works(self._tools, group, attempt, Runtime(device=device))


def _member(config: dict[str, Any]) -> None:
    """What every worker of a group that shares its tasks does."""
    attempt = [uuid.uuid4().hex]
    dist.broadcast_object_list(attempt, src=0)
    talk = dist.new_group(backend="gloo", timeout=_PATIENCE)
    context = ray.train.get_context()
    runtime = Runtime(
        device=ray.train.torch.get_device(),
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        broadcast=partial(_agree, talk),
    )
    with forwarded_logs(config["tools"].board.tell.remote):
        _take_works(config["tools"], config["group"], attempt[0], runtime)


def _agree(talk: dist.ProcessGroup, value: Shared) -> Shared:
    shared = [value]
    dist.broadcast_object_list(shared, src=0, group=talk)
    return shared[0]


def _take_works(tools: Tools, group: int, attempt: str, runtime: Runtime) -> None:
    """Take tasks and do them until there are none; every process of a group calls this."""
    torch.set_num_threads(tools.threads)
    store = JobStore(Storage.from_location(tools.results))
    while True:
        taken = ray.get(tools.board.take.remote(group, attempt)) if runtime.is_rank_zero else None
        taken = runtime.broadcast(taken)
        if taken is None:
            return
        index, content = taken
        jobs, manifest = pickle.loads(content)
        own = Runtime(
            device=runtime.device,
            rank=runtime.rank,
            size=runtime.size,
            group=runtime.group,
            report=partial(_tell, tools.board, index),
            broadcast=runtime.broadcast,
        )
        task = None
        try:
            workspace = replace(tools.workspace, home=_home(tools, manifest, own))
            task = _prepare(jobs, workspace)
            failed = run_task(task, own, store, checkpoint_epochs=tools.checkpoint_epochs)
            failures = [
                Failure.from_error(index, (resolved.job.system,), error) for resolved, error in failed
            ]
        except Exception as error:
            failures = [Failure.from_error(index, tuple(job.system for job, _ in jobs), error)]
            if runtime.size > 1 and not (isinstance(error, InputError) and task is not None):
                ray.get(tools.board.finish.remote(group, index, failures))
                raise  # the others of the group may wait for this process: all must restart
        if runtime.is_rank_zero:
            ray.get(tools.board.finish.remote(group, index, failures))


def _home(tools: Tools, manifest: CopyList | None, runtime: Runtime) -> Path:
    """Return the data home to read from: the driver's, or one on this node's disk that is filled first."""
    home = tools.workspace.home
    here = ray.get_runtime_context().get_node_id() == tools.driver and not node_copies.reads_over_network(
        home
    )
    if manifest is None or here:
        return home
    return retry_until_stored(
        partial(node_copies.node_home, tools.workspace.storage, manifest, cache_dir=node_cache_dir()),
        on_wait=runtime.report_waiting,
        transient_only=True,
    )


def _tell(board: BoardHandle, index: int, report: Report) -> None:
    board.tell.remote(TaskReport(index, report))


def _prepare(jobs: Sequence[tuple[Job, tuple[str, str]]], workspace: Workspace) -> TrainingTask:
    """Look up a task's jobs here, and see that they are what the driver means by them."""
    data = catalog.load(workspace, jobs[0][0].data)
    task = TrainingTask(tuple(ResolvedJob.from_job(job, data) for job, _ in jobs))
    for resolved, (_, keys) in zip(task.jobs, jobs, strict=True):
        if resolved.keys != keys:
            raise InputError(
                f"system {resolved.job.system!r} or data set {data.name!r} is not what it was when the run "
                f"began, or differs on this machine; give the same command again"
            )
    return task


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
