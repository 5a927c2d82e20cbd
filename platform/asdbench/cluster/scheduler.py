"""The scheduler of a run: orders its tasks, shares them, and tries them again elsewhere; Ray runs them.

One async actor without a CPU on the driver's node owns every task, so that the end of a trial ends none. It
submits no more tasks than the cluster holds, so that the order is its own, and a few more where an
autoscaler may add nodes, because it acts on tasks that wait in Ray. Tasks that nobody needs any longer are
removed from the queue. A running task is never canceled: Ray aborts a process that cancels a task just as it
ends.

A task that fails by the fault of its node is tried on another one. A node on which three different tasks
fail, none succeeding between them, gets no more.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError, RuntimeEnvSetupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from asdbench.cluster.grouping import decide
from asdbench.cluster.messages import FeatureRequest, Outcome, TaskRequest
from asdbench.cluster.node_health import NodeHealth
from asdbench.cluster.placement import Placement, WorkerShape
from asdbench.cluster.task_queue import Entry, TaskQueue
from asdbench.cluster.tasks import GroupRequest, WorkerContext, prepare_features, train_group, train_task
from asdbench.engine.events import (
    Event,
    Failure,
    Note,
    TaskFinished,
    TaskReport,
    TasksQueued,
    TaskStarted,
    TrainingProgress,
)

_DEATHS = 3  # of a task's process, without progress between them, until the task is given up
_FAULTS = 5  # attempts at a task that may end by the fault of a node
_NODES = 3  # on which a task fails until it is itself to blame
_CLAIMED_S = 5.0  # until a training that another run works on is tried again
_PAUSE_S = 1.0  # before another attempt on the only node there is
_WATCH_S = 2.0  # between looks at the cluster's nodes
_BARE_S = 20.0, 60.0  # without any node for tasks until that is said, and said again
_RETRIES = 20  # that are remembered for the status


class TrainingScheduler:
    """The scheduler of a run; a Ray actor.

    Parameters
    ----------
    launcher : submits tasks to Ray, or the context of the run that one is made with
    placement : how tasks are spread
    expected : number of the run's tasks, if it is known
    may_grow : whether an autoscaler may add nodes
    """

    def __init__(
        self,
        launcher: "Launcher | WorkerContext",
        placement: Placement,
        *,
        expected: int | None = None,
        may_grow: bool = False,
    ) -> None:
        self._launcher = Launcher(launcher) if isinstance(launcher, WorkerContext) else launcher
        self._placement = placement
        self._expected = expected
        self._may_grow = may_grow
        self._queue = TaskQueue(processes=placement.workers_per_type or 1)
        self._health = NodeHealth()
        self._futures: dict[str, asyncio.Future[Outcome]] = {}
        self._features: dict[str, asyncio.Future[Outcome]] = {}
        self._building: dict[str, TaskStarted] = {}
        self._refused: dict[str, Outcome] = {}
        self._running: dict[str, Entry] = {}
        self._told: dict[str, Outcome] = {}  # by processes that ended themselves
        self._attempts: dict[str, tuple[asyncio.Future[Outcome], set[str]]] = {}
        self._background: set[asyncio.Future[Any]] = set()
        self._events: deque[Event] = deque()
        self._progress: dict[str, TaskReport] = {}
        self._retries: deque[dict[str, object]] = deque(maxlen=_RETRIES)
        self._n_done = self._n_failed = self._in_flight = 0
        self._done_s = 0.0
        self._driver_builds = asyncio.Semaphore(1)  # each has all threads of the driver's node
        self._forming: Entry | None = None  # the group that waits for its processes
        self._bare_since: float | None = None
        self._said_bare = 0.0
        self._watching: asyncio.Future[None] | None = None
        self._nodes: dict[str, Mapping[str, Any]] = {}
        self._look()

    # Called by drivers and trials

    async def run(self, owner: str, requests: Sequence[TaskRequest]) -> list[Outcome]:
        """Run tasks and return how they ended, in order.

        A task that is under way, whoever asked for it, is waited for. One that was refused stays refused.

        Parameters
        ----------
        owner : who asks; `release` names it
        requests : the tasks
        """
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._watch())
        futures = [self._ask(owner, request) for request in requests]
        self._pump()
        return list(await asyncio.gather(*futures))

    async def release(self, owner: str) -> None:
        """Take the tasks out of the queue that only ``owner`` waits for."""
        gone = self._queue.release(owner)
        for entry in gone:
            self._futures.pop(entry.request.key).set_result(Outcome("released"))
        if gone:
            self._events.append(TasksQueued(-len(gone)))

    async def events(self) -> list[Event]:
        """Return what happened since the last call; of a task's progress the latest."""
        events = [*self._events, *self._progress.values()]
        self._events.clear()
        self._progress.clear()
        return events

    async def status(self) -> dict[str, Any]:
        """Return the tasks by state, those that run, the nodes, and what was tried again."""
        running = self._running.values()
        counts: dict[str, int] = {}
        for entry in running:
            counts[entry.node] = counts.get(entry.node, 0) + 1
        return {
            "waiting": len(self._futures) - len(self._running),
            "done": self._n_done,
            "done_s": self._done_s,
            "failed": self._n_failed,
            "features": sum(not future.done() for future in self._features.values()),
            "running": [
                {
                    "label": entry.request.label,
                    "host": entry.host,
                    "node": entry.node,
                    "since_unix_s": entry.began_unix_s,
                    "step": entry.step,
                    "steps": entry.steps,
                }
                for entry in running
            ],
            "nodes": [
                {
                    "node": record.node,
                    "host": record.host,
                    "running": counts.get(record.node, 0),
                    "done": record.done,
                    "quarantined_unix_s": record.quarantined_unix_s,
                    "reason": record.reason,
                }
                for record in self._health.records.values()
            ],
            "retries": list(self._retries),
        }

    # Called by workers

    async def report(self, event: Event) -> bool:
        """Take a worker's event; return whether its task may go on."""
        entry = self._running.get(event.task) if isinstance(event, TaskStarted | TaskReport) else None
        if isinstance(event, TaskStarted):
            if event.task in self._features:
                self._building[event.task] = event
                return True
            # a recalled attempt may still start later, while the one that replaced it is running
            return entry is not None and entry.attempt == event.attempt and self._note_start(entry, event)
        if isinstance(event, TaskReport) and isinstance(event.report, TrainingProgress):
            self._progress[event.task] = event
            if entry is not None:
                entry.note_progress(event.report.step, event.report.steps)
                return not self._is_to_regroup(entry)
        else:
            self._events.append(event)
        return True

    async def end(self, key: str, outcome: Outcome) -> None:
        """Take the outcome of a task whose process ends itself, since its GPU cannot be used any longer."""
        self._told[key] = outcome

    def _is_to_regroup(self, entry: Entry) -> bool:
        """Return whether a training is to go on in more processes: it has long to go, and GPUs are idle."""
        if entry.wanted_processes or not self._has_idle_gpus:
            return entry.wanted_processes > 1 == entry.processes
        remaining_s = entry.remaining_s()
        if remaining_s is None:
            return False
        share = (self._shape.capacity - self._in_flight) // len(self._running)
        decision = decide(remaining_s, share)
        if decision.size > 1:
            entry.wanted_processes = decision.size
            self._events.append(Note(decision.describe(entry.request.label)))
        return decision.size > 1

    @property
    def _has_idle_gpus(self) -> bool:
        """Whether nothing waits, GPUs are idle, and the user leaves it to us how they are shared."""
        is_ours = self._placement.workers_per_type is None and self._placement.gpus_per_worker == 1
        return (
            is_ours
            and self._shape.gpus == 1
            and len(self._queue) == 0
            and self._in_flight < self._shape.capacity
        )

    def _note_start(self, entry: Entry, event: TaskStarted) -> bool:
        if entry.host and event.node != entry.node and entry.processes == 1:
            return False  # an attempt that was given up, since a node that it may run on has joined
        entry.node, entry.host, entry.began_unix_s = event.node, event.host, time.time()
        if self._forming is entry:
            self._forming = None
        self._health.note_seen(event.node, event.host)
        self._events.append(event)
        if event.node not in self._nodes:
            self._look()
        self._pump()
        gpus = self._nodes.get(event.node, {}).get("Resources", {}).get("GPU", 0)
        return not gpus or entry.uses_gpu

    # Tasks

    def _ask(self, owner: str, request: TaskRequest) -> "asyncio.Future[Outcome]":
        refused = self._refused.get(request.key)
        if refused is not None:
            future = asyncio.get_running_loop().create_future()
            future.set_result(refused)
            return future
        entry, is_new = self._queue.add(owner, request)
        if is_new:
            self._futures[request.key] = asyncio.get_running_loop().create_future()
            self._events.append(TasksQueued(1))
            if all(self._is_built(feature) for feature in request.features):
                self._queue.push(entry)
            else:
                self._spawn(self._push_when_built(entry), entry)
        return self._futures[request.key]

    def _is_built(self, feature: FeatureRequest) -> bool:
        future = self._features.get(feature.key)
        return future is not None and future.done() and _is_ok(future)

    async def _push_when_built(self, entry: Entry) -> None:
        outcomes = await asyncio.gather(*map(self._built, entry.request.features))
        failed = [outcome for outcome in outcomes if outcome.kind != "ok"]
        if failed:
            causes = (failure for outcome in failed for failure in outcome.failures)
            failures = tuple(Failure(entry.request.label, c.message, c.bad_input) for c in causes)
            self._finish(entry, Outcome(failed[0].kind, failures=failures, message=failed[0].message))
        else:
            self._push(entry)
        self._pump()

    def _built(self, feature: FeatureRequest) -> "asyncio.Future[Outcome]":
        future = self._features.get(feature.key)
        if future is None or (future.done() and not _is_ok(future)):
            future = self._features[feature.key] = asyncio.ensure_future(self._build(feature))
        return future

    async def _build(self, feature: FeatureRequest) -> Outcome:
        on_driver, avoid = feature.on_driver, set[str]()
        for attempt in range(1, _FAULTS + 1):
            async with self._driver_builds if on_driver else contextlib.nullcontext():
                excluded = set() if on_driver else self._excluded(avoid)
                build = self._launcher.build(feature, self._shape, excluded, on_driver=on_driver)
                outcome = self._placed(feature.key, await self._outcome(feature.key, build, excluded))
            if outcome.kind in ("ok", "user"):
                break
            if outcome.kind == "misplaced":
                on_driver = True
                continue
            if attempt < _FAULTS:
                self._note_retry(feature.label, outcome)
            if outcome.node:
                avoid.add(outcome.node)
            on_driver = on_driver or attempt >= _DEATHS
        return outcome

    def _placed(self, feature: str, outcome: Outcome) -> Outcome:
        """Return the outcome of building features; one whose process died does not say where it ran."""
        place = self._building.pop(feature, None)
        if outcome.node or place is None:
            return outcome
        return replace(outcome, node=place.node, host=place.host)

    def _pump(self) -> None:
        """Submit tasks as long as there is room."""
        if self._is_out_of_nodes():
            self._give_up_waiting()
        while self._forming is None and (entry := self._queue.peek()) is not None:
            if self._in_flight and self._in_flight + entry.processes > self._limit:
                return
            self._queue.pop()
            self._forming = entry if entry.processes > 1 else None
            entry.start_attempt(uses_gpu=self._shape.gpus > 0)
            self._running[entry.request.key] = entry
            self._in_flight += entry.processes
            self._spawn(self._attempt(entry), entry)

    @property
    def _limit(self) -> int:
        """How many processes may be in flight: one more at least where waiting tasks bring nodes."""
        capacity = self._shape.capacity
        limit = 2 * capacity + 1 if self._may_grow else capacity
        return min(limit, self._placement.workers or limit)

    async def _attempt(self, entry: Entry) -> None:
        try:
            outcome = await self._tried(entry)
        finally:  # a mistake in it must not keep its place from the others
            del self._running[entry.request.key]
            self._in_flight -= entry.processes
            if self._forming is entry:
                self._forming = None
            self._queue.end_attempt(entry)
            self._progress.pop(entry.request.key, None)
        if outcome.kind == "ok" and entry.host:
            self._done_s += time.time() - entry.began_unix_s
        await self._settle(entry, outcome)
        self._pump()

    async def _tried(self, entry: Entry) -> Outcome:
        copies = [self._features[feature.key].result().content for feature in entry.request.features]
        excluded = self._excluded(entry.avoid, processes=entry.processes)
        train = self._launcher.train(entry, copies, self._shape, excluded)
        outcome = await self._outcome(entry.request.key, train, excluded)
        outcome = self._told.pop(entry.request.key, outcome)
        if not outcome.node and entry.processes == 1:  # of a group any node may be to blame
            return replace(outcome, node=entry.node, host=entry.host)
        return outcome

    async def _outcome(self, key: str, submitted: Awaitable[Outcome], excluded: set[str]) -> Outcome:
        """Return how an attempt ended; it was misplaced if the nodes that it may run on are gone."""
        attempt = asyncio.ensure_future(_outcome(submitted))
        self._attempts[key] = attempt, excluded
        try:
            return await attempt
        except asyncio.CancelledError:
            return Outcome("misplaced")
        finally:
            del self._attempts[key]

    def _recall_stranded(self) -> None:
        """Wait no longer for attempts that have not begun and whose nodes are gone: Ray would for ever."""
        fit = self._fit()
        for key, (attempt, excluded) in self._attempts.items():
            entry = self._running.get(key)
            has_begun = key in self._building if entry is None else bool(entry.host)
            if excluded and not has_begun and fit and fit <= excluded:
                attempt.cancel()

    async def _settle(self, entry: Entry, outcome: Outcome) -> None:
        """Finish a task, or let it wait for another attempt."""
        match outcome.kind:
            case "ok" | "user":
                self._health.note_success(outcome.node, outcome.host)
                self._finish(entry, outcome)
                return
            case "death":
                entry.deaths += 1
            case "infrastructure":
                entry.faults += 1
            case "claimed":
                if not entry.is_claimed:
                    entry.is_claimed = True
                    self._events.append(Note(f"{entry.request.label} waits: {outcome.message}"))
                self._spawn(self._push_later(entry, _CLAIMED_S), entry)
                return
            case "misplaced":
                self._look()  # GPUs have joined
                self._push(entry)
                return
            case "preempted":
                entry.processes = max(1, entry.wanted_processes)
                self._push(entry)
                return
        self._note_fault(entry, outcome)
        if entry.wanted_processes > 1:  # what a group of our choice cannot do, one process can
            entry.processes = entry.wanted_processes = 1
        if self._is_out_of_nodes():
            self._finish(entry, outcome)
        elif entry.deaths >= _DEATHS or entry.faults >= _FAULTS:
            if entry.deaths >= _DEATHS:
                self._forgive(entry)
            self._finish(entry, _given_up(entry, outcome))
        else:
            self._try_again(entry, outcome)

    def _try_again(self, entry: Entry, outcome: Outcome) -> None:
        """Let an entry wait for another attempt, after a pause if it has failed on all nodes."""
        if entry.owners:
            self._note_retry(entry.request.label, outcome)
        if entry.avoid >= self._fit():
            entry.avoid.clear()  # it was everywhere: begin again
            self._spawn(self._push_later(entry, _PAUSE_S * (entry.faults + entry.deaths)), entry)
        else:
            self._push(entry)

    async def _push_later(self, entry: Entry, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._push(entry)
        self._pump()

    def _push(self, entry: Entry) -> None:
        """Let an entry wait for its turn, unless nobody waits for it any longer."""
        if entry.owners:
            self._queue.push(entry)
        else:
            self._finish(entry, Outcome("released"))

    def _note_fault(self, entry: Entry, outcome: Outcome) -> None:
        """Remember that a task failed by the fault of a node, and take the node out if that is too much."""
        if not outcome.node:
            return
        entry.avoid.add(outcome.node)
        entry.failed_on.add(outcome.node)
        if outcome.is_memory:  # the task may be to blame: it needs more than there is
            return
        if self._is_itself_to_blame(entry):
            self._forgive(entry)
            return
        others = self._fit() - {outcome.node}
        out = self._health.strike(
            outcome.node,
            outcome.host,
            entry.request.key,
            outcome.message,
            can_spare=bool(others) or (outcome.kind == "infrastructure" and not self._n_done),
        )
        if out:
            if not self._fit():
                self._look()  # where the last GPU is out, nodes of CPUs alone may be left
            self._events.append(
                Note(
                    f"{outcome.host} gets no more tasks in this run, since three in a row failed there: "
                    f"{outcome.message}"
                )
            )

    def _is_itself_to_blame(self, entry: Entry) -> bool:
        """Return whether a task failed on three nodes, or all, in a run in which others have succeeded."""
        return self._n_done > 0 and 1 < len(entry.failed_on) >= min(_NODES, len(self._nodes))

    def _forgive(self, entry: Entry) -> None:
        """Blame no node for a task whose process dies wherever it is."""
        for host in self._health.forgive(entry.request.key):
            self._events.append(
                Note(f"{host} gets tasks again, since {entry.request.label} failed elsewhere, too")
            )

    def _note_retry(self, label: str, outcome: Outcome) -> None:
        where = outcome.host or "a worker process"
        self._events.append(Note(f"{label} is tried again; it failed on {where}: {outcome.message}"))
        self._retries.append(
            {"label": label, "host": outcome.host, "reason": outcome.message, "unix_s": time.time()}
        )

    def _is_out_of_nodes(self) -> bool:
        """Return whether those nodes that are there are taken out; if none is there, others may join."""
        return not self._health.quarantined.isdisjoint(self._nodes) and not self._fit()

    def _give_up_waiting(self) -> None:
        """Give up all tasks that wait: no node is fit for them."""
        why = f"no node is left to run it: {self._health.why_out()}"
        for waiting in self._queue.drain():
            failure = Failure(waiting.request.label, why, bad_input=False)
            self._resolve(waiting, Outcome("infrastructure", failures=(failure,), message=why))

    def _finish(self, entry: Entry, outcome: Outcome) -> None:
        self._queue.finish(entry)
        self._resolve(entry, outcome)

    def _resolve(self, entry: Entry, outcome: Outcome) -> None:
        request = entry.request
        if outcome.kind not in ("ok", "released") and not outcome.failures:
            failure = Failure(request.label, outcome.message or outcome.kind, bad_input=False)
            outcome = replace(outcome, failures=(failure,))
        if outcome.kind in ("user", "death"):
            self._refused[request.key] = outcome
        self._n_failed += outcome.kind not in ("ok", "released")
        self._n_done += outcome.kind == "ok"
        if outcome.kind == "released":
            self._events.append(TasksQueued(-1))
        else:
            self._events.append(TaskFinished(request.key, request.label, outcome.failures))
        self._futures.pop(request.key).set_result(outcome)

    # Nodes

    async def _watch(self) -> None:
        """Look at the cluster's nodes from time to time."""
        while True:
            await asyncio.sleep(_WATCH_S)
            with contextlib.suppress(Exception):  # Ray's head may be restarting; the next look may succeed
                self._look()
            self._note_bare()
            self._pump()

    def _look(self) -> None:
        nodes = self._launcher.nodes()
        self._nodes = {node["NodeID"]: node for node in nodes if node["Alive"]}
        self._health.note_gone(self._nodes)
        usable = [node for key, node in self._nodes.items() if key not in self._health.quarantined]
        self._shape = WorkerShape.from_nodes(usable, self._placement, expected=self._expected)
        self._recall_stranded()

    def _fit(self) -> set[str]:
        """Return the ids of the nodes that hold a worker process and are not taken out."""
        return self._health.fit([key for key in self._nodes if self._room([key])])

    def _room(self, nodes: Iterable[str]) -> int:
        """Return how many worker processes some nodes hold: where GPUs are used, only nodes with one do."""
        name, share = ("GPU", self._shape.gpus) if self._shape.gpus else ("CPU", self._shape.cpus)
        return sum(int(self._nodes[key]["Resources"].get(name, 0) / share + 1e-9) for key in nodes)

    def _excluded(self, avoid: set[str], *, processes: int = 1) -> set[str]:
        """Return the nodes that a task must not run on: those taken out, and its own if the others hold it.

        Where none is left, none is excluded: Ray would wait for ever, and whatever ends a task is noticed.
        """
        fit = self._fit()
        if not fit:
            return set()
        return self._health.quarantined | (avoid if self._room(fit - avoid) >= processes else set())

    def _note_bare(self) -> None:
        """Say for what tasks wait while the cluster has nothing to run them on."""
        if self._shape.capacity or not self._futures:
            self._bare_since = None
            return
        now = time.monotonic()
        if self._bare_since is None:
            self._bare_since, self._said_bare = now, now - _BARE_S[1] + _BARE_S[0]
        if now - self._said_bare >= _BARE_S[1]:
            self._said_bare = now
            per_type = self._placement.workers_per_type
            what = f"{per_type} CPUs or GPUs at a time" if per_type else "a CPU or a GPU"
            n_tasks = len(self._futures)  # those that wait for their features, too
            what += f" now; {n_tasks} tasks have waited for one for {now - self._bare_since:.0f} s"
            self._events.append(Note(f"the cluster has no node with {what}"))

    def _spawn(self, work: Coroutine[Any, Any, object], entry: Entry) -> None:
        """Run ``work`` on an entry in the background; a mistake in it fails the entry, and is not lost."""
        future = asyncio.ensure_future(work)
        self._background.add(future)

        def end(done: "asyncio.Future[object]") -> None:
            self._background.discard(done)
            error = None if done.cancelled() else done.exception()
            if isinstance(error, Exception) and entry.request.key in self._futures:
                failure = Failure.from_error(entry.request.label, error)
                self._finish(entry, Outcome("infrastructure", failures=(failure,), message=_line(error)))
                self._pump()

        future.add_done_callback(end)


def _is_ok(ended: "asyncio.Future[Outcome]") -> bool:
    return ended.exception() is None and ended.result().kind == "ok"


def _given_up(entry: Entry, outcome: Outcome) -> Outcome:
    """Return the outcome of a task that is not tried again."""
    if outcome.kind != "death":
        return outcome
    message = (
        f"its worker process died {_DEATHS} times without getting further; it may need more memory than "
        f"there is, or its code ends the process"
    )
    failures = (Failure(entry.request.label, message, bad_input=False),)
    return Outcome("death", outcome.node, outcome.host, failures, message)


async def _outcome(attempt: Awaitable[Outcome]) -> Outcome:
    """Return how an attempt ended; a task that Ray could not bring to an end died."""
    try:
        return await attempt
    except RuntimeEnvSetupError as error:
        return Outcome("infrastructure", message=_line(error))
    except RayError as error:
        return Outcome("death", message=_line(error))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class Launcher:
    """Submits tasks to Ray; to be made in the scheduler's actor.

    Parameters
    ----------
    context : of the run; its scheduler is replaced by this actor
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = replace(context, scheduler=ray.get_runtime_context().current_actor)
        self._on_driver = NodeAffinitySchedulingStrategy(context.driver, soft=False)

    def nodes(self) -> list[Mapping[str, Any]]:
        """Return the nodes of the cluster, dead ones included."""
        return ray.nodes()  # type: ignore[no-any-return, no-untyped-call]

    def train(
        self, entry: Entry, copies: Sequence[bytes], shape: WorkerShape, excluded: set[str]
    ) -> Awaitable[Outcome]:
        """Submit a task to any node but the excluded ones: to one process, or to a group that shares it."""
        context = replace(self._context, threads=shape.threads)
        request = replace(entry.request, attempt=entry.attempt)
        if entry.processes > 1:
            is_elastic = entry.wanted_processes > 1
            group = train_group.options(num_cpus=0, scheduling_strategy=self._on_driver)
            return group.remote(
                GroupRequest(request, entry.processes, shape, is_elastic, tuple(sorted(excluded))),
                copies,
                context,
            )
        single = train_task.options(num_cpus=shape.cpus, num_gpus=shape.gpus, **_elsewhere(excluded))
        return single.remote(request, copies, context)

    def build(
        self, feature: FeatureRequest, shape: WorkerShape, excluded: set[str], *, on_driver: bool
    ) -> Awaitable[Outcome]:
        """Submit a task that builds features: to the driver's node, or to any but the excluded ones."""
        if on_driver:
            options: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": self._on_driver}
        else:
            n_gpus = shape.gpus if feature.takes_gpu else 0
            options = {"num_cpus": shape.cpus, "num_gpus": n_gpus, **_elsewhere(excluded)}
        return prepare_features.options(**options).remote(feature, self._context)


def _elsewhere(excluded: set[str]) -> dict[str, Any]:
    """Return the options of a task that runs on no excluded node; Ray spreads it over the others."""
    options: dict[str, Any] = {"scheduling_strategy": "SPREAD"}
    if excluded:
        options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(excluded))})"}
    return options
