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
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from asdbench.cluster.attempts import Attempts, line_of
from asdbench.cluster.cluster_nodes import ClusterNodes
from asdbench.cluster.feature_builds import FeatureBuilds
from asdbench.cluster.grouping import decide
from asdbench.cluster.launcher import Launcher
from asdbench.cluster.messages import Outcome, TaskRequest
from asdbench.cluster.placement import Placement
from asdbench.cluster.room import Room
from asdbench.cluster.task_queue import Entry, TaskQueue
from asdbench.cluster.tasks import WorkerContext
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
        launcher: Launcher | WorkerContext,
        placement: Placement,
        *,
        expected: int | None = None,
        may_grow: bool = False,
    ) -> None:
        self._launcher = Launcher(launcher) if isinstance(launcher, WorkerContext) else launcher
        self._placement = placement
        self._nodes = ClusterNodes(self._launcher.nodes, placement, expected=expected)
        self._room = Room(placement, may_grow=may_grow)
        self._queue = TaskQueue(processes=placement.workers_per_type or 1)
        self._futures: dict[str, asyncio.Future[Outcome]] = {}
        self._refused: dict[str, Outcome] = {}
        self._running: dict[str, Entry] = {}
        self._told: dict[str, Outcome] = {}  # by processes that ended themselves
        self._attempts = Attempts()
        self._features = FeatureBuilds(self._launcher, self._nodes, self._attempts, self._note_retry)
        self._background: set[asyncio.Future[Any]] = set()
        self._events: deque[Event] = deque()
        self._progress: dict[str, TaskReport] = {}
        self._retries: deque[dict[str, object]] = deque(maxlen=_RETRIES)
        self._n_done = self._n_failed = 0
        self._done_s = 0.0
        self._forming: Entry | None = None  # the group that waits for its processes
        self._bare_since: float | None = None
        self._said_bare = 0.0
        self._watching: asyncio.Future[None] | None = None

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
            "features": self._features.n_under_way,
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
                for record in self._nodes.health.records.values()
            ],
            "retries": list(self._retries),
        }

    # Called by workers

    async def report(self, event: Event) -> bool:
        """Take a worker's event; return whether its task may go on."""
        entry = self._running.get(event.task) if isinstance(event, TaskStarted | TaskReport) else None
        if isinstance(event, TaskStarted):
            if self._features.note_start(event):
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
        if entry.jobs_per_gpu > 1:
            return False
        if entry.wanted_processes or not self._has_idle_gpus:
            return entry.wanted_processes > 1 == entry.processes
        remaining_s = entry.remaining_s()
        if remaining_s is None:
            return False
        decision = decide(remaining_s, self._room.idle(self._nodes.shape) // len(self._running))
        if decision.size > 1:
            entry.wanted_processes = decision.size
            self._events.append(Note(decision.describe(entry.request.label)))
        return decision.size > 1

    @property
    def _has_idle_gpus(self) -> bool:
        """Whether nothing waits, GPUs are idle, and the user leaves it to us how they are shared."""
        is_ours = self._placement.workers_per_type is None and self._placement.jobs_per_gpu in ("auto", 1)
        return (
            is_ours
            and self._nodes.shape.gpus == 1
            and len(self._queue) == 0
            and self._room.idle(self._nodes.shape) > 0
        )

    def _note_start(self, entry: Entry, event: TaskStarted) -> bool:
        if entry.host and event.node != entry.node and entry.processes == 1:
            return False  # an attempt that was given up, since a node that it may run on has joined
        entry.node, entry.host, entry.began_unix_s = event.node, event.host, time.time()
        if self._forming is entry:
            self._forming = None
        self._nodes.health.note_seen(event.node, event.host)
        self._events.append(event)
        if event.node not in self._nodes:
            self._look()
        self._pump()
        return entry.uses_gpu or not self._nodes.has_gpu(event.node)

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
            if self._features.are_built(request.features):
                self._queue.push(entry)
            else:
                self._spawn(self._push_when_built(entry), [entry])
        return self._futures[request.key]

    async def _push_when_built(self, entry: Entry) -> None:
        outcomes = await self._features.build(entry.request.features)
        failed = [outcome for outcome in outcomes if outcome.kind != "ok"]
        if failed:
            causes = (failure for outcome in failed for failure in outcome.failures)
            failures = tuple(Failure(entry.request.label, c.message, c.bad_input) for c in causes)
            self._finish(entry, Outcome(failed[0].kind, failures=failures, message=failed[0].message))
        else:
            self._push(entry)
        self._pump()

    def _pump(self) -> None:
        """Submit tasks as long as there is room."""
        if self._nodes.are_out():
            self._give_up_waiting()
        while self._forming is None and (entry := self._queue.peek()) is not None:
            shape, n_waiting = self._nodes.shape, self._queue.n_stackable(entry.stack)
            n_stacked = self._room.stack_size(entry, n_waiting, shape)
            sharers = self._room.sharers(entry, len(self._queue), shape) if n_stacked == 1 else 1
            if not self._room.holds(entry, sharers, shape):
                return
            self._queue.pop()
            self._start([entry, *self._queue.pop_beside(entry, n_stacked - 1)], sharers)

    def _start(self, entries: Sequence[Entry], sharers: int) -> None:
        """Submit an attempt at one task, or at several as one stack."""
        first = entries[0]
        self._forming = first if first.processes > 1 else None
        for entry in entries:
            entry.start_attempt(uses_gpu=self._nodes.shape.gpus > 0, stacked=len(entries), sharers=sharers)
            self._running[entry.request.key] = entry
        self._room.enter(first)
        self._spawn(self._attempt(entries), entries)

    async def _attempt(self, entries: Sequence[Entry]) -> None:
        try:
            outcomes = await self._tried(entries)
        finally:  # a mistake in it must not keep its place from the others
            self._room.leave(entries[0])
            for entry in entries:
                self._leave(entry)
        is_blamed = False
        for entry, outcome in zip(entries, outcomes, strict=True):
            self._room.note_use(entry, outcome)
            if outcome.kind == "ok" and entry.host:
                self._done_s += time.time() - entry.began_unix_s
            self._settle(entry, outcome, is_blamed=is_blamed)
            is_blamed = is_blamed or outcome.kind in ("death", "infrastructure", "inseparable")
        self._pump()

    def _leave(self, entry: Entry) -> None:
        """Note that an attempt at a task is over."""
        del self._running[entry.request.key]
        if self._forming is entry:
            self._forming = None
        self._queue.end_attempt(entry)
        self._progress.pop(entry.request.key, None)

    async def _tried(self, entries: Sequence[Entry]) -> list[Outcome]:
        first = entries[0]
        shape = self._nodes.shape.shared_by(first.sharers)
        copies = self._features.copies([f for entry in entries for f in entry.request.features])
        avoid = {node for entry in entries for node in entry.avoid}
        excluded = self._nodes.excluded(avoid, processes=first.processes)
        train: Awaitable[Outcome | list[Outcome]]
        if len(entries) > 1:
            train = self._launcher.train_stack(entries, copies, shape, excluded)
        else:
            train = self._launcher.train(first, copies, shape, excluded)
        ended = await self._attempts.outcome(first.request.key, train, excluded)
        outcomes = ended if isinstance(ended, list) else [ended] * len(entries)
        return list(map(self._outcome_told, entries, outcomes))

    def _outcome_told(self, entry: Entry, outcome: Outcome) -> Outcome:
        """Return what a process that ended itself has told of a task, or else how Ray saw it end."""
        outcome = self._told.pop(entry.request.key, outcome)
        if not outcome.node and entry.processes == 1:  # of a group any node may be to blame
            return replace(outcome, node=entry.node, host=entry.host)
        return outcome

    def _has_begun(self, key: str) -> bool:
        """Return whether an attempt at a task, or at features, has said where it runs."""
        entry = self._running.get(key)
        return self._features.has_begun(key) if entry is None else bool(entry.host)

    def _settle(self, entry: Entry, outcome: Outcome, *, is_blamed: bool) -> None:
        """Finish a task, or let it wait for another attempt.

        One that may be to blame for the end of others on its GPU is tried alone. What ended several is told
        once and counts once against their node; ``is_blamed`` says that it was.
        """
        is_shared = entry.jobs_per_gpu > 1
        match outcome.kind:
            case "ok" | "user":
                self._nodes.health.note_success(outcome.node, outcome.host)
                self._finish(entry, outcome)
                return
            case "infrastructure" if outcome.is_memory and is_shared:
                self._share_less(entry)
                return
            case "inseparable":
                entry.is_alone = True
                self._try_again(entry, outcome, is_told=is_blamed)
                return
            case "death":
                entry.deaths += 1
                entry.is_alone = entry.is_alone or is_shared
            case "infrastructure":
                entry.faults += 1
                entry.is_alone = entry.is_alone or (is_shared and entry.faults > 1)
            case "claimed":
                if not entry.is_claimed:
                    entry.is_claimed = True
                    self._events.append(Note(f"{entry.request.label} waits: {outcome.message}"))
                self._spawn(self._push_later(entry, _CLAIMED_S), [entry])
                return
            case "misplaced":
                self._look()  # GPUs have joined
                self._push(entry)
                return
            case "preempted":
                entry.processes = max(1, entry.wanted_processes)
                self._push(entry)
                return
        self._note_fault(entry, outcome, is_blamed=is_blamed)
        if entry.wanted_processes > 1:  # what a group of our choice cannot do, one process can
            entry.processes = entry.wanted_processes = 1
        if self._nodes.are_out():
            self._finish(entry, outcome)
        elif entry.deaths >= _DEATHS or entry.faults >= _FAULTS:
            if entry.deaths >= _DEATHS:
                self._forgive(entry)
            self._finish(entry, _given_up(entry, outcome))
        else:
            self._try_again(entry, outcome, is_told=is_blamed)

    def _share_less(self, entry: Entry) -> None:
        """Try a task again with fewer on its GPU, whose memory was used up."""
        note = self._room.share_less(entry)
        if note is not None:
            self._events.append(Note(note))
        self._push(entry)

    def _try_again(self, entry: Entry, outcome: Outcome, *, is_told: bool) -> None:
        """Let an entry wait for another attempt, after a pause if it has failed on all nodes."""
        if entry.owners and not is_told:
            more = f" with {entry.stacked - 1} more of its stack" if entry.stacked > 1 else ""
            self._note_retry(f"{entry.request.label}{more}", outcome)
        if entry.avoid >= self._nodes.fit():
            entry.avoid.clear()  # it was everywhere: begin again
            pause_s = _PAUSE_S * (entry.faults + entry.deaths)
            self._spawn(self._push_later(entry, pause_s), [entry])
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

    def _note_fault(self, entry: Entry, outcome: Outcome, *, is_blamed: bool) -> None:
        """Remember that a task failed by the fault of a node, and take the node out if that is too much."""
        if not outcome.node:
            return
        entry.avoid.add(outcome.node)
        entry.failed_on.add(outcome.node)
        if is_blamed or outcome.is_memory:  # the task may be to blame: it needs more than there is
            return
        if self._is_itself_to_blame(entry):
            self._forgive(entry)
            return
        others = self._nodes.fit() - {outcome.node}
        out = self._nodes.health.strike(
            outcome.node,
            outcome.host,
            entry.request.key,
            outcome.message,
            can_spare=bool(others) or (outcome.kind == "infrastructure" and not self._n_done),
        )
        if out:
            if not self._nodes.fit():
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
        for host in self._nodes.health.forgive(entry.request.key):
            self._events.append(
                Note(f"{host} gets tasks again, since {entry.request.label} failed elsewhere, too")
            )

    def _note_retry(self, label: str, outcome: Outcome) -> None:
        where = outcome.host or "a worker process"
        self._events.append(Note(f"{label} is tried again; it failed on {where}: {outcome.message}"))
        self._retries.append(
            {"label": label, "host": outcome.host, "reason": outcome.message, "unix_s": time.time()}
        )

    def _give_up_waiting(self) -> None:
        """Give up all tasks that wait: no node is fit for them."""
        why = f"no node is left to run it: {self._nodes.health.why_out()}"
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
        self._nodes.look()
        self._attempts.recall_stranded(self._nodes.fit(), self._has_begun)

    def _note_bare(self) -> None:
        """Say for what tasks wait while the cluster has nothing to run them on."""
        if self._nodes.shape.capacity or not self._futures:
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

    def _spawn(self, work: Coroutine[Any, Any, object], entries: Sequence[Entry]) -> None:
        """Run ``work`` on entries in the background; a mistake in it fails them, and is not lost."""
        future = asyncio.ensure_future(work)
        self._background.add(future)

        def end(done: "asyncio.Future[object]") -> None:
            self._background.discard(done)
            error = None if done.cancelled() else done.exception()
            if not isinstance(error, Exception):
                return
            for entry in entries:
                if entry.request.key in self._futures:
                    failures = (Failure.from_error(entry.request.label, error),)
                    self._finish(entry, Outcome("infrastructure", "", "", failures, line_of(error)))
            self._pump()

        future.add_done_callback(end)


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
