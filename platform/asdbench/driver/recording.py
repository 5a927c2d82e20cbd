"""The end of a run: wait for MLflow, and show where its results are."""

from typing import TYPE_CHECKING

from rich.console import Console

from asdbench.io.workspace import Workspace
from asdbench.report.formatting import print_message, print_note

if TYPE_CHECKING:
    from asdbench.tracking.recorder import Recorder


_RECORDING_PATIENCE_S = 30.0  # at the end of a run; the rest is recorded later


def show_recorded(recorder: "Recorder", workspace: Workspace, *, console: Console) -> None:
    """Wait until results are recorded, and show where they are or why they are not recorded yet."""
    from asdbench.tracking.mlflow_runs import runs_page, shown_uri, ui_command

    with console.status(f"recording in MLflow at {shown_uri(workspace)}"):
        undelivered = recorder.close(patience_s=_RECORDING_PATIENCE_S)
    if undelivered.entries:
        print_note(console, undelivered.why)
    if recorder.experiments:
        print_message(console, f"MLflow UI: {ui_command(workspace)}")
    for name, experiment in recorder.experiments.items():
        metric = "best_score" if name.endswith("/searches") else "official_score"
        page = runs_page(workspace, experiment, metric=metric)
        print_message(console, f"  then open {page}")
