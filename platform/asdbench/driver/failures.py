"""How failures are shown: each distinct message once."""

from collections.abc import Iterable

from asdbench.engine.events import Failure

_NAMED = 3


def failure_messages(failures: Iterable[Failure]) -> list[str]:
    """Return each distinct message once, with the tasks that failed with it.

    >>> both = [Failure(f"{machine} mine seed 0", "no 'x'", bad_input=True) for machine in ("fan", "valve")]
    >>> failure_messages(both)
    ["failed: fan mine seed 0, valve mine seed 0: no 'x'"]
    """
    labels: dict[str, list[str]] = {}
    for failure in failures:
        labels.setdefault(failure.message, []).append(failure.label)
    messages = []
    for message, failed in labels.items():
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        gap = "\n" if "\n" in message else " "
        messages.append(f"failed: {', '.join(failed[:_NAMED])}{more}:{gap}{message}")
    return messages
