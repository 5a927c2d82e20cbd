"""Where a call of the API finds data and results, and where it shows its progress."""

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from asdbench.io.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console

Progress: TypeAlias = Union[bool, "Console", None]
"""Where to show progress: ``True`` for standard error, ``False`` for nowhere, or a rich console; ``None`` for
standard error if that is a terminal, else nowhere."""


def workspace_of(home: Path | str | None = None, storage: str | None = None) -> Workspace:
    """Return the workspace of a call.

    Parameters
    ----------
    home
        The data home; by default that of the command line: ``ASDBENCH_HOME``, or the operating system's
        folder for a user's data.
    storage
        Where results are: a folder, or a URI such as ``s3://bucket/folder``; by default ``ASDBENCH_STORAGE``
        or, if that is not set or ``home`` is given, the data home.

    Examples
    --------
    >>> workspace_of("/data/asdbench", "s3://bucket/results").storage
    Storage('s3://bucket/results')
    """
    if home is None:
        return Workspace.from_environment(storage=storage)
    return Workspace.from_home(home, storage=storage)


def results_of(home: Path | str | None = None, storage: str | None = None) -> Workspace:
    """Return the workspace of a call that reads results; :class:`InputError` if it cannot be read."""
    workspace = workspace_of(home, storage)
    workspace.check_storage()
    return workspace


def console_of(progress: Progress) -> "Console":
    """Return the console for the progress of a call.

    >>> console_of(False).quiet
    True
    """
    from rich.console import Console

    if isinstance(progress, Console):
        return progress
    is_shown = sys.stderr.isatty() if progress is None else progress
    return Console(stderr=True) if is_shown else Console(file=io.StringIO(), quiet=True)
