"""Work that the processes of a group share, each doing a part: what one of them fails at reaches all."""

import pickle
from collections.abc import Callable
from typing import TypeVar

from asdbench.engine.runtime import Runtime
from asdbench.engine.tracebacks import traceback_of

T = TypeVar("T")


class GroupLostError(RuntimeError):
    """A process of the group is gone; the group has to start again."""


def gathered(runtime: Runtime, part: Callable[[], T]) -> list[T]:
    """Return what ``part`` returns in each process of the group, by rank.

    Raises
    ------
    GroupLostError
        A process is gone.
    Exception
        The error of ``part``: this process's own, or else that of the first one that met one. Every process
        raises it, so that none waits for another.

    Examples
    --------
    >>> gathered(Runtime(), lambda: 3)
    [3]
    """
    value, failure = _attempt(part)
    try:
        every = runtime.gather((value, _sendable(failure, runtime.rank)))
    except Exception as error:
        if failure is None:
            raise GroupLostError(str(error)) from error
        raise failure from None
    first = failure or next((other for _, other in every if other is not None), None)
    if first is not None:
        raise first
    return [each for each, _ in every]  # type: ignore[misc]  # None only where a process failed


def _attempt(part: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return part(), None
    except Exception as error:
        return None, error


def _sendable(error: Exception | None, rank: int) -> Exception | None:
    """Return an error that another process can raise; it says where it was raised, which pickling forgets."""
    if error is None:
        return None
    try:
        sent: Exception = pickle.loads(pickle.dumps(error))
    except Exception:
        sent = RuntimeError(f"{type(error).__name__}: {error}")
    sent.add_note(f"raised in process {rank}:\n{traceback_of(error)}")
    return sent
