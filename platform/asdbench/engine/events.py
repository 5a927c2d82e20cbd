"""What workers tell of their work, and what became of it."""

from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]
"""``{"work": index, "step": n, "steps": n, "epoch": n, "losses": {...}}`` as training goes on, and
``{"work": index, "done": True}`` at its end."""


@dataclass(frozen=True)
class Failure:
    """Work that could not be done.

    Attributes
    ----------
    work : its place in the list of works
    message : why, for the user
    bad_input : whether the user's input is the cause, rather than the code of the system or the platform
    """

    work: int
    message: str
    bad_input: bool
