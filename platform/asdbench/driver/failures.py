"""The failures of a run, for the user: each distinct error once."""

from collections.abc import Iterable

from rich.console import Console

from asdbench.engine.events import Failure
from asdbench.report.formatting import print_message

_NAMED = 3


def show_failures(failures: Iterable[Failure], *, console: Console) -> None:
    """Show each distinct message once, with the tasks that failed with it.

    >>> import sys
    >>> both = [Failure(f"{machine} mine seed 0", "no 'x'", bad_input=True) for machine in ("fan", "valve")]
    >>> show_failures(both, console=Console(file=sys.stdout))
    failed: fan mine seed 0, valve mine seed 0: no 'x'
    """
    labels: dict[str, list[str]] = {}
    for failure in failures:
        labels.setdefault(failure.message, []).append(failure.label)
    for message, failed in labels.items():
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        gap = "\n" if "\n" in message else " "
        print_message(console, f"failed: {', '.join(failed[:_NAMED])}{more}:{gap}{message}", style="red")
