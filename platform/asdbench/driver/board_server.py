"""The leaderboard in a browser: MLflow's server, its pages brought up to date, and their addresses."""

import contextlib
import os
import sys
import time
import webbrowser
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from asdbench.driver.board import outdated_entries
from asdbench.driver.board_models import exporter
from asdbench.driver.recording import note_left
from asdbench.errors import InfrastructureError
from asdbench.io.workspace import Workspace
from asdbench.report.formatting import print_message, print_note

if TYPE_CHECKING:
    from asdbench.tracking.address import Address
    from asdbench.tracking.recorder import Undelivered


def bring_up_to_date(workspace: Workspace, address: "Address") -> "tuple[int, Undelivered]":
    """Record what is missing or has changed in MLflow, and what earlier commands have left.

    Returns
    -------
    delivered : number of records
    left : those that could not be delivered

    Raises
    ------
    InfrastructureError
        The store cannot be read.
    """
    from asdbench.tracking.mlflow_runs import NotWritten, Store, source_tags
    from asdbench.tracking.outbox import Outbox
    from asdbench.tracking.recorder import deliver, outbox_folder

    export = exporter(workspace)
    delivered, left = deliver(workspace, address, export=export)
    not_exported = left.not_exported
    if left.entries:
        return delivered, left
    outbox = Outbox(outbox_folder(workspace))
    try:
        for entry in outdated_entries(workspace, Store(address, workspace), source_tags()):
            outbox.put(entry)
    except NotWritten as error:
        raise InfrastructureError(f"the leaderboards cannot be brought up to date because {error}") from error
    more, left = deliver(workspace, address, export=export)
    return delivered + more, replace(left, not_exported=left.not_exported or not_exported)


def show_board(
    workspace: Workspace, address: "Address", *, host: str, port: int | None, console: Console
) -> None:
    """Serve the recorded results until an interruption, and open the page of the leaderboard on a desktop.

    The pages of a tracking server are printed and opened, and nothing is served.
    """
    from asdbench.tracking.mlflow_runs import Store
    from asdbench.tracking.server import serving, wait_until_ready

    if address.is_server:
        _show_pages(address.base, workspace, address, console)
        return
    Store(address, workspace)  # makes or migrates the tables, before the server does so at the same time
    log = workspace.home / "logs" / "mlflow.log"
    with contextlib.suppress(KeyboardInterrupt), serving(address, log, host=host, port=port) as base:
        with console.status("bringing the leaderboards up to date"):
            _, left = bring_up_to_date(workspace, address)
            wait_until_ready(base, log)
        note_left(left, console=console)
        _show_pages(base, workspace, address, console)
        print_message(console, "Ctrl-C ends it")
        _wait()
    print_message(console, "MLflow's server has ended")


def _wait() -> None:
    """Wait for Ctrl-C, in short waits: a signal that another thread has got is looked at after the wait."""
    while True:
        time.sleep(0.2)


def _show_pages(base: str, workspace: Workspace, address: "Address", console: Console) -> None:
    """Print the addresses of the pages, and open the first on a desktop."""
    from asdbench.tracking.address import runs_page
    from asdbench.tracking.mlflow_runs import Store

    experiments = Store(address, workspace).recorded_experiments()
    pages = {name: runs_page(base, experiment, name) for name, experiment in experiments.items()}
    if not pages:
        print_note(console, "no results are recorded yet; 'asdbench run SYSTEM --data NAME' records some")
        pages = {"MLflow": base}
    for name, page in pages.items():
        print_message(console, f"{name}: {page}")
    if _has_desktop():
        webbrowser.open(next(iter(pages.values())))


def _has_desktop() -> bool:
    is_graphical = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(is_graphical) and not os.environ.get("SSH_CONNECTION")
