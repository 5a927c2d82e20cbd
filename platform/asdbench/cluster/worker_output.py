"""What code in a worker prints and warns of, as lines."""

import contextlib
import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

SendLine = Callable[[str, int, str], object]
"""Takes the origin of a line (``"stdout"``, ``"stderr"`` or ``"warnings"``), its level and its text."""

_MAX_LINES, _WINDOW_S = 50, 10.0
_MAX_CHARS = 2000


class LineLimit:
    """Passes on a bounded number of lines per time window and counts those that it drops.

    A note with the count follows the dropped lines: with the next window's first line, or at the end.

    Parameters
    ----------
    send : receives the lines; what it raises is ignored, so that a ``print`` never fails
    max_lines, window_s : number of lines that are passed on in each window of so many seconds
    clock : returns the time in seconds

    >>> limit = LineLimit(lambda origin, level, text: print(text), max_lines=1)
    >>> for text in ("first", "second", "third"):
    ...     limit.send("stdout", logging.INFO, text)
    first
    >>> limit.close()
    (2 more printed; all lines are in the worker's log on its host)
    """

    def __init__(
        self,
        send: SendLine,
        *,
        max_lines: int = _MAX_LINES,
        window_s: float = _WINDOW_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._max_lines = max_lines
        self._window_s = window_s
        self._clock = clock
        self._window_start = clock()
        self._n_sent = self._n_dropped = 0
        self._is_sending = False
        self._lock = threading.RLock()

    def send(self, origin: str, level: int, text: str) -> None:
        """Pass on a line, shortened if it is very long, or drop it."""
        with self._lock:
            if self._is_sending:  # sending prints something itself
                return
            if self._clock() - self._window_start >= self._window_s:
                self.close()
                self._window_start, self._n_sent = self._clock(), 0
            if self._n_sent == self._max_lines:
                self._n_dropped += 1
                return
            self._n_sent += 1
            self._pass_on(origin, level, text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]} ...")

    def close(self) -> None:
        """Tell how many lines have been dropped since the last call, if any."""
        with self._lock:
            if self._n_dropped:
                text = f"({self._n_dropped} more printed; all lines are in the worker's log on its host)"
                self._n_dropped = 0
                self._pass_on("stdout", logging.INFO, text)

    def _pass_on(self, origin: str, level: int, text: str) -> None:
        self._is_sending = True
        try:
            with contextlib.suppress(Exception):
                self._send(origin, level, text)
        finally:
            self._is_sending = False


class _Tee:
    """A text stream that writes to another one, and its lines also to a limit while there is one.

    Each process has one for each stream, because a handler that a plugin creates keeps the stream that it
    found, and the process may run other tasks later.
    """

    def __init__(self, origin: str, level: int) -> None:
        self._origin = origin
        self._level = level
        self._lock = threading.RLock()
        self.stream: TextIO = getattr(sys, f"__{origin}__")
        self._limit: LineLimit | None = None
        self._partial = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def open(self, stream: TextIO, limit: LineLimit) -> None:
        self.stream, self._limit, self._partial = stream, limit, ""

    def close(self) -> None:
        if self._partial:
            self._send(self._partial)
        self._limit, self._partial = None, ""

    def write(self, text: str) -> int:
        n_chars = self.stream.write(text)
        if self._limit is not None:
            with self._lock:
                *lines, rest = (self._partial + text).split("\n")
                for line in lines:
                    self._send(line)
                # a progress bar returns to the start of its line; only its last state counts
                self._partial = rest.rpartition("\r")[2][:_MAX_CHARS]
        return n_chars

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def _send(self, line: str) -> None:
        text = line.rstrip().rpartition("\r")[2]
        if text and self._limit is not None:
            self._limit.send(self._origin, self._level, text)


_TEES = {"stdout": _Tee("stdout", logging.INFO), "stderr": _Tee("stderr", logging.WARNING)}


@contextmanager
def captured_output(send: SendLine) -> Iterator[None]:
    """Pass on what this process prints and warns of while the context is open; not to be nested.

    Everything is written to its stream, too. Not seen is what does not go through ``sys.stdout`` and
    ``sys.stderr``, such as the output of libraries in C.

    >>> lines = []
    >>> with captured_output(lambda *line: lines.append(line)):
    ...     print("12 clips are silent")
    12 clips are silent
    >>> lines
    [('stdout', 20, '12 clips are silent')]
    """
    limit = LineLimit(send)
    streams = {name: getattr(sys, name) for name in _TEES}
    show_warning = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is None:
            limit.send(
                "warnings", logging.WARNING, f"{category.__name__}: {message} ({filename}, line {lineno})"
            )
            file = streams["stderr"]
        show_warning(message, category, filename, lineno, file, line)

    for name, tee in _TEES.items():
        tee.open(streams[name], limit)
        setattr(sys, name, tee)
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = show_warning
        for name, tee in _TEES.items():
            setattr(sys, name, streams[name])
            tee.close()
        limit.close()
