"""Logging of the command line: what -v and -q show on standard error, and the log file in the data home."""

import io
import logging
import os
import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from asdbench.cli.output import IS_QUIET
from asdbench.engine.events import LOGGERS
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace

N_LOG_FILES = 50  # only the newest are kept
_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}
_STDERR, _FILE = "asdbench stderr", "asdbench file"  # names of the handlers


def with_verbosity(app: App) -> App:
    """Return the launcher of an app: it takes ``-v`` on every command and configures logging first."""
    launcher = app.meta
    if launcher.default_command is None:
        launcher.group_parameters = Group("Messages", sort_key=1000)
        launcher.suppress_keyboard_interrupt = False  # guarded() prints how to resume

        @launcher.default
        def launch(
            *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
            verbose: Annotated[
                int, Parameter(name=("--verbose", "-v"), count=True, negative=(), show_default=False)
            ] = 0,
            quiet: Annotated[
                bool, Parameter(name=("--quiet", "-q"), negative=(), show_default=False)
            ] = False,
        ) -> object:
            """Configure logging and run a command.

            Parameters
            ----------
            verbose
                Show log messages of level INFO on standard error; -vv shows level DEBUG too.
            quiet
                Print results and errors only: no progress, no notes, no warnings.
            """
            if quiet and verbose:
                raise InputError("--quiet and --verbose exclude each other; drop one of them")
            IS_QUIET.set(quiet)
            configure_logging(-1 if quiet else verbose, Workspace.from_environment().home / "logs")
            return app(tokens, result_action="return_value", exit_on_error=False, print_error=False)

    return launcher


def configure_logging(verbose: int, logs_dir: Path) -> None:
    """Send log records to standard error and to a new file.

    Replaces the handlers of an earlier call in the same process.

    Parameters
    ----------
    verbose
        Lowest level on standard error: -1 for ERROR, 0 for WARNING, 1 for INFO, 2 or more for DEBUG.
    logs_dir
        Folder of the log files, which take every level.
    """
    from rich.console import Console
    from rich.logging import RichHandler

    stderr = RichHandler(_LEVELS[min(verbose, 2)], Console(stderr=True), show_path=False)
    stderr.set_name(_STDERR)
    file = LogFile(logs_dir)
    file.set_name(_FILE)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            if handler.name in (_STDERR, _FILE):
                logger.removeHandler(handler)
                handler.close()
        logger.setLevel(logging.DEBUG)
        logger.addHandler(stderr)
        logger.addHandler(file)


class LogFile(logging.FileHandler):
    """A log file of this process, named by time; it is created with its first record.

    A folder that cannot be written does not stop a command: then there is no log file.

    Parameters
    ----------
    logs_dir : folder of the log files
    """

    def __init__(self, logs_dir: Path) -> None:
        self._logs_dir = logs_dir
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        super().__init__(logs_dir / name, encoding="utf-8", delay=True)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, if the file can be written."""
        try:
            super().emit(record)
        except OSError:
            self.setLevel(logging.CRITICAL + 1)

    def _open(self) -> io.TextIOWrapper:
        self._logs_dir.mkdir(parents=True, exist_ok=True)
        for old in sorted(self._logs_dir.glob("*.log"))[: -N_LOG_FILES + 1]:
            old.unlink(missing_ok=True)
        return super()._open()
