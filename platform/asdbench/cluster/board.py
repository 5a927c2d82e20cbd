"""The queue of works and the notes on their progress; apart, since its process needs nothing heavy."""

from asdbench.engine.events import Event, Failure

_DEATHS = 3  # of workers on one work, without progress between them, until it is given up


class Board:
    """The queue of works and the notes on their progress; a Ray actor.

    Each start of the worker group is an attempt. A new attempt puts back what the last one had taken and
    not finished. Work that was under way at several deaths without getting further is given up: it is
    what kills its worker.
    """

    def __init__(self, works: int) -> None:
        self._works = works
        self._attempt = ""
        self._waiting = list(range(works))
        self._taken: set[int] = set()
        self._finished: set[int] = set()
        self._deaths = [0] * works
        self._furthest = [0] * works
        self._failures: list[Failure] = []
        self._events: list[Event] = []

    def take(self, attempt: str) -> int | None:
        """Return the next work of this attempt, ``None`` when there is none left."""
        if attempt != self._attempt:
            self._attempt = attempt
            self._put_back()
        if not self._waiting:
            return None
        work = self._waiting.pop(0)
        self._taken.add(work)
        return work

    def _put_back(self) -> None:
        for work in sorted(self._taken - self._finished):
            self._deaths[work] += 1
            if self._deaths[work] == _DEATHS:
                message = (
                    f"its worker process died {_DEATHS} times without getting further; it may need more "
                    f"memory than there is, or its code ends the process"
                )
                self.finish(work, [Failure(work, (), message, bad_input=False)])
        self._taken = set()
        self._waiting = [work for work in range(self._works) if work not in self._finished]

    def finish(self, work: int, failures: list[Failure]) -> None:
        """Note that a work is over: done, or not to be tried again."""
        self._finished.add(work)
        self._failures += failures
        self._events.append({"work": work, "done": True})

    def tell(self, event: Event) -> None:
        """Note progress."""
        work, step = event["work"], event["step"]
        if step > self._furthest[work]:
            self._furthest[work], self._deaths[work] = step, 0
        self._events.append(event)

    def listen(self) -> list[Event]:
        """Return what was noted since the last call."""
        events, self._events = self._events, []
        return events

    def failures(self) -> list[Failure]:
        """Return all failures."""
        return self._failures

    def unfinished(self) -> list[int]:
        """Return the works that are not over."""
        return [work for work in range(self._works) if work not in self._finished]
