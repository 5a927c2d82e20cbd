"""Attempts at tasks that Ray has been given: how they end, and those that it could never begin."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from ray.exceptions import RayError, RuntimeEnvSetupError

from asdbench.cluster.messages import Outcome

T = TypeVar("T")


class Attempts:
    """The attempts under way.

    Attributes
    ----------
    under_way : each with the nodes that it must not run on, by the key of its task or features
    """

    def __init__(self) -> None:
        self.under_way: dict[str, tuple[asyncio.Future[Any], set[str]]] = {}

    async def outcome(self, key: str, submitted: Awaitable[T], excluded: set[str]) -> T | Outcome:
        """Return how an attempt ended; it was misplaced if it was recalled."""
        attempt = asyncio.ensure_future(_outcome(submitted))
        self.under_way[key] = attempt, excluded
        try:
            return await attempt
        except asyncio.CancelledError:
            return Outcome("misplaced")
        finally:
            del self.under_way[key]

    def recall_stranded(self, fit: Collection[str], has_begun: Callable[[str], bool]) -> None:
        """Wait no longer for attempts that have not begun and whose nodes are gone: Ray would for ever.

        Parameters
        ----------
        fit : ids of the nodes that are fit for tasks
        has_begun : tells of a key whether its attempt runs
        """
        for key, (attempt, excluded) in self.under_way.items():
            if excluded and fit and excluded.issuperset(fit) and not has_begun(key):
                attempt.cancel()


async def _outcome(attempt: Awaitable[T]) -> T | Outcome:
    """Return how an attempt ended; a task that Ray could not bring to an end died."""
    try:
        return await attempt
    except RuntimeEnvSetupError as error:
        return Outcome("infrastructure", message=line_of(error))
    except RayError as error:
        return Outcome("death", message=line_of(error))


def line_of(error: BaseException) -> str:
    """Return the message of an error in one line.

    >>> line_of(ValueError("two   words"))
    'two words'
    """
    return " ".join(str(error).split())[:200] or type(error).__name__
