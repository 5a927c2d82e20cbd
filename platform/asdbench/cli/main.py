"""The command line. Commands import heavy modules when they need them, so that help appears at once."""

import sys
from collections.abc import Sequence

from cyclopts import App

from asdbench import __version__
from asdbench.cli import detect, reports, run, ui
from asdbench.cli.cite import cite
from asdbench.cli.data import data_app
from asdbench.cli.exit import EXIT_CODES, guarded
from asdbench.cli.new_system import new_system
from asdbench.cli.report import report
from asdbench.cli.results import results_app
from asdbench.cli.weights import weights_app

app = App(
    name="asdbench",
    version=__version__,
    suppress_keyboard_interrupt=False,  # guarded() prints how to resume
    help="A benchmark of detectors of anomalous machine sound (DCASE Challenge Task 2).",
    help_epilogue=EXIT_CODES,
)
app.register_install_completion_command(help="Install the completion of commands and options in your shell.")
app.command(data_app)
app.command(weights_app)
app.command(run.run)
app.command(run.tune)
app.command(run.fuse)
app.command(run.features)
app.command(run.record)
app.command(detect.export)
app.command(detect.detect)
app.command(ui.ui)
app.command(reports.status)
app.command(reports.leaderboard)
app.command(reports.compare)
app.command(reports.submission)
app.command(reports.evaluate)
app.command(reports.systems)
app.command(report)
app.command(results_app)
app.command(new_system)
app.command(cite)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; bad input prints one sentence and exits with code 2."""
    sys.exit(guarded(app, arguments))
