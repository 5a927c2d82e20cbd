"""The question before something is deleted."""

import sys

from asdbench.errors import InputError


def is_confirmed(question: str, *, yes: bool) -> bool:
    """Ask a question on the terminal and return whether the answer is yes.

    Parameters
    ----------
    question
        The question; ``[y/N]`` is appended.
    yes
        Whether the answer is given already, by ``--yes``.

    Raises
    ------
    InputError
        The answer is not given and nobody can be asked.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise InputError(
            "nothing is removed, because there is no terminal to ask for a confirmation; add --yes to confirm"
        )
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")
