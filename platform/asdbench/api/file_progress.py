"""A progress bar over files or bytes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class FileProgress:
    """A progress bar for functions that call ``progress(done, total)``; a context manager.

    Parameters
    ----------
    verb : what is done with the files
    console : where to show the bar, which is hidden unless this is a terminal
    in_bytes : whether to show amounts as bytes, with the speed
    """

    def __init__(self, verb: str, console: "Console", *, in_bytes: bool = False) -> None:
        from rich import progress

        amounts = (progress.DownloadColumn(), progress.TransferSpeedColumn()) if in_bytes else ()
        columns = (*progress.Progress.get_default_columns(), *amounts)
        self._bar = progress.Progress(
            *columns, console=console, disable=not console.is_terminal, transient=True
        )
        self._task = self._bar.add_task(verb, total=None)

    def __enter__(self) -> "FileProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int | None) -> None:
        """Show that ``done`` of ``total`` files or bytes are done; ``None`` for a total not yet known."""
        self._bar.update(self._task, completed=done, total=total)
