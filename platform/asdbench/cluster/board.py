"""The queue of tasks, the notes on their progress and the scores that trials wait for.

Apart from the crew, since its process needs nothing heavy. It is a Ray actor whose methods wait where there
is nothing to hand out.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from asdbench.engine.events import Event, Failure, TaskFinished, TaskReport, TrainingProgress

_DEATHS = 3  # of workers on one task, without progress between them, until it is given up


@dataclass
class _Item:
    """A task in the queue."""

    priority: tuple[float, ...]
    excludes: str
    content: bytes
    deaths: int = 0
    furthest: int = 0


class Board:
    """Hands tasks out to groups of workers, lowest priority first, and collects what they tell.

    A group has one task at a time. Two tasks that exclude one another (those of one training) are never out
    together. When a group restarts, or is released because it died, its task goes back into the queue. Work
    that was out at several deaths without getting further is given up: it is what kills its worker.
    """

    def __init__(self) -> None:
        self._items: dict[int, _Item] = {}
        self._waiting: set[int] = set()
        self._out: dict[int, int] = {}  # group to work
        self._attempts: dict[int, str] = {}
        self._took: set[int] = set()
        self._events: list[Event] = []
        self._scores: dict[str, list[float]] = {}
        self._closed = self._trials_over = False
        self._change = asyncio.Condition()

    async def put(self, tasks: Iterable[tuple[int, Sequence[float], str, bytes]]) -> None:
        """Queue tasks: number, priority (lowest first), what excludes others while it is out, and content."""
        for task, priority, excludes, content in tasks:
            self._items[task] = _Item(tuple(priority), excludes, content)
            self._waiting.add(task)
        await self._notify()

    async def withdraw(self, tasks: Iterable[int]) -> list[int]:
        """Take tasks out of the queue that are no longer wanted; returns those that were still in it."""
        gone = sorted(self._waiting.intersection(tasks))
        self._waiting.difference_update(gone)
        return gone

    async def take(self, group: int, attempt: str) -> tuple[int, bytes] | None:
        """Return number and content of a group's next task, waiting for one; ``None`` at the end."""
        if self._attempts.get(group) != attempt:
            self._put_back(group)
            self._attempts[group] = attempt
        async with self._change:
            while True:
                if self._attempts.get(group) != attempt:
                    return None  # it was released while it waited: another took its place
                if (task := self._next()) is not None:
                    self._waiting.discard(task)
                    self._out[group] = task
                    self._took.add(group)
                    return task, self._items[task].content
                if self._closed:
                    return None
                await self._change.wait()

    async def release(self, group: int) -> bool:
        """Note that a group is gone; returns whether it had taken a task at all."""
        self._put_back(group)
        self._attempts.pop(group, None)
        await self._notify()
        return group in self._took

    async def finish(self, group: int, task: int, failures: list[Failure]) -> None:
        """Note that a task is over: done, or not to be tried again."""
        if self._out.get(group) == task:
            del self._out[group]
        self._over(task, failures)
        await self._notify()

    async def tell(self, event: Event) -> None:
        """Note progress."""
        if isinstance(event, TaskReport) and isinstance(event.report, TrainingProgress):
            item = self._items[event.task]
            if event.report.step > item.furthest:
                item.furthest, item.deaths = event.report.step, 0
        self._events.append(event)

    async def listen(self) -> list[Event]:
        """Return what was noted since the last call."""
        events, self._events = self._events, []
        return events

    async def score(self, trial: str, scores: Sequence[float]) -> None:
        """Give a trial the scores of its rungs, all that are known."""
        self._scores[trial] = list(scores)
        await self._notify()

    async def rung(self, trial: str, rung: int) -> float | None:
        """Return the score of a trial's rung (from 0), waiting for it; ``None`` if no trial is to go on."""
        async with self._change:
            while len(self._scores.get(trial, ())) <= rung:
                if self._trials_over:
                    return None
                await self._change.wait()
        return self._scores[trial][rung]

    async def end_trials(self) -> None:
        """Let the trials go that wait for a score."""
        self._trials_over = True
        await self._notify()

    async def close(self) -> None:
        """Let the workers go that have nothing to do."""
        self._closed = True
        await self._notify()

    def _next(self) -> int | None:
        held = {self._items[task].excludes for task in self._out.values()}
        free = [task for task in self._waiting if self._items[task].excludes not in held]
        return min(free, key=lambda task: (self._items[task].priority, task), default=None)

    def _put_back(self, group: int) -> None:
        task = self._out.pop(group, None)
        if task is None:
            return
        item = self._items[task]
        item.deaths += 1
        if item.deaths < _DEATHS:
            self._waiting.add(task)
            return
        message = (
            f"its worker process died {_DEATHS} times without getting further; it may need more memory than "
            f"there is, or its code ends the process"
        )
        self._over(task, [Failure(task, (), message, bad_input=False)])

    def _over(self, task: int, failures: list[Failure]) -> None:
        self._waiting.discard(task)
        self._events.append(TaskFinished(task, tuple(failures)))

    async def _notify(self) -> None:
        async with self._change:
            self._change.notify_all()


BoardHandle = Any  # a Ray actor's handle: Ray's types do not tell its methods
