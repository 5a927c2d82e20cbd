"""The end of a run: wait for MLflow, and say how to see its results."""

from typing import TYPE_CHECKING

from rich.console import Console

from asdbench.report.formatting import print_message, print_note

if TYPE_CHECKING:
    from asdbench.tracking.recorder import Recorder, Undelivered


_RECORDING_PATIENCE_S = 30.0  # at the end of a run; the rest is recorded later


def show_recorded(recorder: "Recorder", *, console: Console) -> None:
    """Wait until results are recorded, and say how to see them or why they are not recorded yet."""
    address = recorder.address
    with console.status(f"recording in MLflow at {address.shown}"):
        undelivered = recorder.close(patience_s=_RECORDING_PATIENCE_S)
    note_left(undelivered, console=console)
    if recorder.experiments:
        print_message(console, f"to see the results in MLflow, run '{address.ui_command()}'")


def note_left(left: "Undelivered", *, console: Console) -> None:
    """Say what is not in MLflow, and why."""
    for note in (left.why, left.not_exported):
        if note:
            print_note(console, note)
