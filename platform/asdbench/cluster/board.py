"""The queue of works and the notes on their progress; apart, since its process needs nothing heavy."""

from asdbench.engine.events import Event, Failure


class Board:
    """The queue of works and the notes on their progress; a Ray actor.

    Each start of the worker group is an attempt. A new attempt puts back what the last one had taken and
    not finished.
    """

    def __init__(self, works: int) -> None:
        self._works = works
        self._attempt = ""
        self._waiting = list(range(works))
        self._finished: set[int] = set()
        self._failures: dict[int, Failure] = {}
        self._events: list[Event] = []

    def take(self, attempt: str) -> int | None:
        """Return the next work of this attempt, ``None`` when there is none left."""
        if attempt != self._attempt:
            self._attempt = attempt
            self._waiting = [
                w for w in range(self._works) if w not in self._finished and w not in self._failures
            ]
        return self._waiting.pop(0) if self._waiting else None

    def finish(self, work: int) -> None:
        """Note that a work is done."""
        self._finished.add(work)
        self._events.append({"work": work, "done": True})

    def fail(self, failure: Failure) -> None:
        """Note that a work raised an error and is not to be tried again."""
        self._failures.setdefault(failure.work, failure)

    def tell(self, event: Event) -> None:
        """Note progress."""
        self._events.append(event)

    def listen(self) -> list[Event]:
        """Return what was noted since the last call."""
        events, self._events = self._events, []
        return events

    def failures(self) -> list[Failure]:
        """Return all failures."""
        return list(self._failures.values())
