"""What workers tell of their work, and what became of it."""

import traceback
from dataclasses import dataclass
from typing import Any

from asdbench.errors import InputError

Event = dict[str, Any]
"""``{"work": index, "step": n, "steps": n, "epoch": n, "losses": {...}}`` as training goes on, and
``{"work": index, "done": True}`` at its end.

``{"work": index, "note": "..."}`` tells what the user should know: a checkpoint that could not be written.
``{"work": index, "waiting": "..."}`` tells what must be before the work can go on, a full disk or a storage
that is away: when the wait begins and then once a minute. Whatever comes after it says that it is over."""


@dataclass(frozen=True)
class Failure:
    """Work that could not be done.

    Attributes
    ----------
    work : its place in the list of works
    systems : names of the systems whose jobs failed; all of the work if its training did
    message : why, for the user
    bad_input : whether the user's input is the cause, rather than the code of the system or the platform
    """

    task: int
    systems: tuple[str, ...]
    message: str
    bad_input: bool

    @classmethod
    def from_error(cls, task: int, systems: tuple[str, ...], error: Exception) -> "Failure":
        """Return the failure that ``error`` means: a sentence if input is to blame, else the traceback."""
        if isinstance(error, InputError):
            return cls(task, systems, str(error), bad_input=True)
        return cls(task, systems, "".join(traceback.format_exception(error)).rstrip(), bad_input=False)
