"""The tasks that wait: ordered by priority, each once however many ask for it, one at a time for a training.

Every operation takes constant or logarithmic time in the number of tasks. Nothing here knows Ray.
"""

import heapq
import itertools
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TypeAlias

from asdbench.cluster.messages import TaskRequest


@dataclass(eq=False)
class Entry:
    """A task in the queue or out of it.

    Attributes
    ----------
    request : what was asked for
    owners : who waits for it
    priority : the lowest that anybody gave it
    processes : how many processes train it
    wanted_processes : how many are to go on, once it has stopped for that; 0 if that was never considered
    deaths : of its process, without progress between them
    faults : attempts that ended by the fault of a node
    avoid : ids of nodes where an attempt failed, until it failed on all
    failed_on : ids of all nodes where an attempt failed
    attempt : number of the present attempt
    node, host, began_unix_s : where the present attempt runs, and since when
    uses_gpu : whether it was given a GPU
    is_claimed : whether another run was seen to work on its training
    step, steps : finished training steps, and all; 0 before the first report
    first_report : when the present attempt reported first, and which step
    is_waiting : whether it waits for its turn
    stacked : how many tasks its process trains together in the present attempt
    sharers : how many processes share its GPU in the present attempt
    is_alone : whether its next attempt has a GPU to itself, since it may be to blame for how the last ended
    """

    request: TaskRequest
    owners: set[str]
    priority: tuple[float, ...]
    processes: int = 1
    wanted_processes: int = 0
    deaths: int = 0
    faults: int = 0
    avoid: set[str] = field(default_factory=set)
    failed_on: set[str] = field(default_factory=set)
    attempt: int = 0
    node: str = ""
    host: str = ""
    uses_gpu: bool = False
    is_claimed: bool = False
    step: int = 0
    steps: int = 0
    began_unix_s: float = 0.0
    first_report: tuple[float, int] | None = None
    is_waiting: bool = False
    stacked: int = 1
    sharers: int = 1
    is_alone: bool = False

    @property
    def stack(self) -> str | None:
        """What tasks have in common that may train together with it, ``None`` if none may."""
        return None if self.is_alone or self.processes > 1 else self.request.stack

    @property
    def kind(self) -> str:
        """Name of tasks that take about as much of a GPU."""
        return ", ".join(self.request.systems)

    @property
    def jobs_per_gpu(self) -> int:
        """How many jobs share its GPU in the present attempt, itself included."""
        return self.stacked * self.sharers

    def start_attempt(self, *, uses_gpu: bool, stacked: int = 1, sharers: int = 1) -> None:
        """Forget where the last attempt ran; `step` stays, since a training resumes."""
        self.stacked, self.sharers = stacked, sharers
        self.attempt += 1
        self.node = self.host = ""
        self.began_unix_s = 0.0
        self.uses_gpu, self.first_report = uses_gpu, None

    def note_progress(self, step: int, steps: int) -> None:
        """Note how far the training is; progress resets the count of deaths."""
        if step > self.step:
            self.deaths = 0
        self.step, self.steps = step, steps
        if self.first_report is None:
            self.first_report = (time.monotonic(), step)

    def remaining_s(self) -> float | None:
        """Return how long the training has still to go at its measured speed, ``None`` if unknown."""
        if self.first_report is None or self.step <= self.first_report[1]:
            return None
        began_s, first = self.first_report
        return (self.steps - self.step) * (time.monotonic() - began_s) / (self.step - first)


_Heap: TypeAlias = list[tuple[tuple[float, ...], int, Entry]]


class TaskQueue:
    """The tasks that wait to run.

    Parameters
    ----------
    processes : how many processes train a task

    Examples
    --------
    >>> queue = TaskQueue()
    >>> fan = TaskRequest("k1", "t1", "fan", ("mse",), (1.0,), b"")
    >>> valve = TaskRequest("k2", "t2", "valve", ("mse",), (0.0,), b"")
    >>> for request in (fan, valve):
    ...     entry, is_new = queue.add("run", request)
    ...     queue.push(entry)
    >>> queue.pop().request.label
    'valve'
    """

    def __init__(self, *, processes: int = 1) -> None:
        self._processes = processes
        self._entries: dict[str, Entry] = {}
        self._of_owner: dict[str, set[str]] = defaultdict(set)
        self._heap: _Heap = []
        self._stacks: dict[str, _Heap] = defaultdict(list)  # the same entries by what can be stacked
        self._n_stackable: Counter[str] = Counter()
        self._order = itertools.count()
        self._training: set[str] = set()  # trainings that run
        self._blocked: dict[str, list[Entry]] = defaultdict(list)  # by the training that they wait for
        self._n_waiting = 0

    def __len__(self) -> int:
        return self._n_waiting

    def add(self, owner: str, request: TaskRequest) -> tuple[Entry, bool]:
        """Return the entry of a request, and whether it is new; ``owner`` waits for it from now on."""
        self._of_owner[owner].add(request.key)
        entry = self._entries.get(request.key)
        if entry is None:
            entry = Entry(request, {owner}, request.priority, self._processes)
            self._entries[request.key] = entry
            return entry, True
        entry.owners.add(owner)
        if request.priority < entry.priority:
            entry.priority = request.priority
            if entry.is_waiting:  # the place in the heap that it had is skipped when it comes up
                self._place(entry)
        return entry, False

    def push(self, entry: Entry) -> None:
        """Let an entry wait for its turn."""
        if not entry.is_waiting:
            entry.is_waiting = True
            self._n_waiting += 1
            if entry.stack is not None:
                self._n_stackable[entry.stack] += 1
        self._place(entry)

    def _place(self, entry: Entry) -> None:
        place = (entry.priority, next(self._order), entry)
        heapq.heappush(self._heap, place)
        if entry.stack is not None:
            heapq.heappush(self._stacks[entry.stack], place)

    def peek(self) -> Entry | None:
        """Return the entry whose turn it is, ``None`` if there is none."""
        return self._first(self._heap)

    def _first(self, heap: _Heap, stack: str | None = None) -> Entry | None:
        while heap:
            priority, _, entry = heap[0]
            if entry.is_waiting and priority == entry.priority and stack in (None, entry.stack):
                if entry.request.training not in self._training:
                    return entry
                self._blocked[entry.request.training].append(entry)
            heapq.heappop(heap)
        return None

    def n_stackable(self, stack: str | None) -> int:
        """Return how many entries wait that may train together with one of this ``stack``."""
        return self._n_stackable[stack] if stack is not None else 0

    def pop_beside(self, entry: Entry, at_most: int) -> list[Entry]:
        """Take out waiting entries that may train together with one, in their order and of its rung.

        The rung is the first number of the priority: tasks of a later one may never be needed.
        """
        taken: list[Entry] = []
        if entry.stack is None:
            return taken
        heap = self._stacks[entry.stack]
        while len(taken) < at_most and (beside := self._first(heap, entry.stack)) is not None:
            if beside.priority[:1] != entry.priority[:1]:
                break
            heapq.heappop(heap)
            self._take(beside)
            taken.append(beside)
        return taken

    def pop(self) -> Entry | None:
        """Take out the entry whose turn it is; its training counts as running until `finish` or `push`."""
        entry = self.peek()
        if entry is not None:
            heapq.heappop(self._heap)
            self._take(entry)
        return entry

    def _take(self, entry: Entry) -> None:
        self._stop_waiting(entry)
        self._training.add(entry.request.training)

    def end_attempt(self, entry: Entry) -> None:
        """Note that an entry no longer runs: others of its training may."""
        self._training.discard(entry.request.training)
        for blocked in dict.fromkeys(self._blocked.pop(entry.request.training, ())):
            if blocked.is_waiting:
                self._place(blocked)

    def finish(self, entry: Entry) -> None:
        """Forget an entry that is over."""
        self._stop_waiting(entry)
        del self._entries[entry.request.key]
        for owner in entry.owners:
            self._of_owner[owner].discard(entry.request.key)

    def release(self, owner: str) -> list[Entry]:
        """Return the waiting entries that only ``owner`` wanted, which are taken out."""
        gone = []
        for key in self._of_owner.pop(owner, ()):
            entry = self._entries[key]
            entry.owners.discard(owner)
            if not entry.owners and entry.is_waiting:
                self._stop_waiting(entry)
                del self._entries[key]
                gone.append(entry)
        return gone

    def drain(self) -> list[Entry]:
        """Return all waiting entries, which are taken out."""
        waiting = [entry for entry in self._entries.values() if entry.is_waiting]
        for entry in waiting:
            self.finish(entry)
        return waiting

    def entry(self, key: str) -> Entry | None:
        """Return the entry of a task that is not over."""
        return self._entries.get(key)

    def _stop_waiting(self, entry: Entry) -> None:
        if entry.is_waiting:
            entry.is_waiting = False
            self._n_waiting -= 1
            if entry.stack is not None:
                self._n_stackable[entry.stack] -= 1
                if not self._n_stackable[entry.stack]:  # what is left in the heap has left the queue
                    del self._n_stackable[entry.stack], self._stacks[entry.stack]
