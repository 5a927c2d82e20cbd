"""What commands print: results on standard output, messages that --quiet silences, and reports."""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, TypeVar

from asdbench.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from asdbench.report.rendering import Format, Report, Row

FormatT = TypeVar("FormatT", bound=str)

IS_QUIET: ContextVar[bool] = ContextVar("IS_QUIET", default=False)
"""Whether the running command prints results and errors only; the launcher sets it."""


def new_console(stderr: bool = False) -> "Console":
    """Return a console for results, on standard output or on standard error."""
    from rich.console import Console

    return Console(stderr=stderr)


def message_console(stderr: bool = False) -> "Console":
    """Return a console for progress, notes and other messages, which --quiet silences."""
    from rich.console import Console

    return Console(stderr=stderr, quiet=IS_QUIET.get())


def print_line(line: str, *, style: str | None = None, stderr: bool = False) -> None:
    """Print a message, which --quiet silences."""
    from asdbench.report.formatting import print_message

    print_message(message_console(stderr), line, style=style)


def print_result(line: str) -> None:
    """Print a result on standard output, with --quiet too."""
    from asdbench.report.formatting import print_message

    print_message(new_console(), line)


def print_notes(notes: Sequence[str], *, stderr: bool = False) -> None:
    """Print notes; on standard error if standard output is for programs."""
    from asdbench.report.formatting import print_note

    for note in notes:
        print_note(message_console(stderr), note)


def print_report(report: "Report", format: "Format" = "table", *, notes: Sequence[str] = ()) -> None:
    """Print a report on standard output, after its notes."""
    from asdbench.report import rendering

    is_table = format == "table"
    print_notes(notes, stderr=not is_table)
    if is_table:
        rendering.print_report(new_console(), report)
    else:
        print(report.to_text(format), end="")


def print_json(content: "Sequence[Row] | Row") -> None:
    """Print rows as JSON on standard output."""
    from asdbench.report.rendering import to_json

    print(to_json(content), end="")


def format_of(format: FormatT, *, json: bool) -> "FormatT | Literal['json']":
    """Return the output format: that of --format, or JSON with --json.

    Raises :class:`InputError` if both are given and differ.
    """
    if json and format not in ("table", "json"):
        raise InputError(f"--json and --format {format} exclude each other; drop one of them")
    return "json" if json else format
