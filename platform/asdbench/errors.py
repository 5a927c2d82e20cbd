"""Errors with a message for the user: bad input, and faults of a machine, disk, network or storage."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input. The message states what is wrong with which value, and what to do.

    The command line prints only the message and exits with code 2.
    """


class InfrastructureError(RuntimeError):
    """A fault of a machine, disk, network or storage. On a cluster, another node tries again.

    The command line prints only the message and exits with code 1.
    """


def unknown_name(kind: str, name: str, known: Iterable[str], *, of: str = "") -> InputError:
    """Return the error for a name that does not exist ``of`` a thing, with the nearest or all names.

    Examples
    --------
    >>> str(unknown_name("system", "multitask-mell", ["multitask-mel", "adversarial"]))
    "no system 'multitask-mell'; did you mean 'multitask-mel'?"
    """
    names, missing = sorted(known), f"no {kind} {name!r}{f' of {of}' if of else ''}"
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return InputError(f"{missing}; did you mean {near[0]!r}?")
    listed = ", ".join(names) if names else "none"
    return InputError(f"{missing}; there are: {listed}")
