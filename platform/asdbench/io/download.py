"""Download of one file over HTTP: resumed after every interruption, bounded in time and size.

`requests` downloads; resuming by HTTP range, waiting as long as a busy server asks for, and giving up are
implemented here. The bytes so far are in a file that the caller names, and stay there when a download fails,
so that the next call resumes. Whether the content is the right one is for the caller to check.
"""

import contextlib
import fcntl
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema, TooManyRedirects
from urllib3.exceptions import HTTPError, InvalidHeader, LocationValueError
from urllib3.util import Retry

from asdbench.errors import InputError
from asdbench.io.files import read_json, write_json

BUSY = (429, 500, 502, 503, 504)
NO_ADDRESS = (InvalidSchema, InvalidURL, LocationValueError, MissingSchema)

_TIMEOUT_S = (10.0, 60.0)  # to connect, and between two chunks of a response
_PIECE_BYTES = 1 << 18
_ATTEMPTS = 8
_BACK_OFF_S = 0.25
_LONGEST_BACK_OFF_S = 30.0
_LONGEST_RETRY_AFTER_S = 600.0

Progress = Callable[[int, int | None], None]


class Refused(Exception):
    """A server's answer that trying again does not change, as what follows the address in a sentence."""


class Interrupted(Exception):
    """Why a download was given up that may succeed later, as a clause."""


class _Complete(Exception):
    """Raised when a file is complete, as far as is known without its checksum."""


def fetch(
    url: str,
    part: Path,
    *,
    size_bytes: int | None = None,
    limit_bytes: int | None = None,
    timeout_s: float | None = None,
    attempts: int = _ATTEMPTS,
    unchanged_only: bool = False,
    stopped: threading.Event | None = None,
    progress: Progress | None = None,
) -> bool:
    """Download a file to ``part``, which may hold its beginning; returns False if the download was stopped.

    Parameters
    ----------
    url
        Address of the file.
    part
        Where its bytes are put.
    size_bytes
        Its size, if that is known; a longer content is cut off after a piece too many.
    limit_bytes
        The most that is accepted from a server, for a file of unknown size.
    timeout_s
        The most that all attempts may take together (default: no limit, as long as bytes arrive).
    attempts
        Number of attempts in turn that bring no byte before the download is given up.
    unchanged_only
        Resume only if the server confirms that the file at this address is unchanged since ``part`` was
        begun; for a file whose checksum is unknown.
    stopped
        Event that stops the download.
    progress
        Called with the bytes so far and the total, if that is known.

    Raises
    ------
    Refused
        The server does not give the file.
    Interrupted
        The server did not respond, responded too slowly or broke off too often. ``part`` is kept.
    """
    download = _Download(url, part, size_bytes, limit_bytes, timeout_s, unchanged_only, stopped, progress)
    return download.run(attempts)


class _Download:
    """The attempts to download one file."""

    def __init__(
        self,
        url: str,
        part: Path,
        size: int | None,
        limit: int | None,
        timeout_s: float | None,
        unchanged_only: bool,
        stopped: threading.Event | None,
        progress: Progress | None,
    ) -> None:
        self.url = url
        self.part = part
        self.size = size
        self.limit = limit
        self.timeout_s = timeout_s
        self.end = None if timeout_s is None else time.monotonic() + timeout_s
        self.unchanged_only = unchanged_only
        self.stopped = stopped or threading.Event()
        self.progress = progress or (lambda have, total: None)

    def run(self, attempts: int) -> bool:
        """Download, resuming after every interruption; False if the download was stopped."""
        fruitless, most = 0, 0
        while not self.stopped.is_set():
            pause_s = 0.0
            try:
                pause_s = self._fetch_rest()
                reason = "the server is busy" if pause_s else "the connection was interrupted"
            except _Complete:
                return True
            except NO_ADDRESS as error:
                raise Refused("is not a web address") from error
            except TooManyRedirects as error:
                raise Refused("redirects without end") from error
            except (requests.RequestException, HTTPError) as error:
                reason = f"the connection failed ({_innermost(error)})"
            have = part_bytes(self.part)
            fruitless = 0 if have > most else fruitless + 1
            most = max(have, most)
            self._check_time()
            if fruitless >= attempts:
                raise Interrupted(reason)
            self.stopped.wait(max(pause_s, min(_BACK_OFF_S * 2**fruitless, _LONGEST_BACK_OFF_S)))
        return False

    def _fetch_rest(self) -> float:
        """Download the rest of the file; return the seconds to wait before the next attempt."""
        have = self._resumable()
        self.progress(have, self.size)
        if have == self.size:
            raise _Complete
        headers, timeout = self._headers(have), self._timeout()
        with requests.get(self.url, headers=headers, stream=True, timeout=timeout) as answer:
            if answer.status_code in BUSY:
                return max(_BACK_OFF_S, asked_pause_s(answer))
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                if self.size is None and not self.unchanged_only:
                    raise _Complete  # the server has no further bytes: the checksum decides
                self.part.unlink()
                return _BACK_OFF_S
            self._check_answer(answer)
            if not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                have = 0  # the server sends the whole file
            elif have and self.unchanged_only and _validator(answer) != self._noted():
                self.part.unlink()
                return _BACK_OFF_S
            if self.unchanged_only:
                write_json(_note_of(self.part), {"url": self.url, "validator": _validator(answer)})
            total = _total_bytes(answer, have) if self.size is None else self.size
            have = self._receive(answer, have, total)
        if have == total or (self.size is None and total is None):
            raise _Complete
        return 0.0

    def _receive(self, answer: requests.Response, have: int, total: int | None) -> int:
        """Append what arrives; return the bytes so far."""
        with self.part.open("ab" if have else "wb", buffering=0) as file:
            # read1 returns what has arrived; iter_content would lose an incomplete chunk
            for piece in iter(lambda: answer.raw.read1(_PIECE_BYTES), b""):
                if self.stopped.is_set():
                    return have
                file.write(piece)
                have += len(piece)
                self.progress(have, total)
                if self.size is not None and have > self.size:
                    raise _Complete  # more bytes than the file has: the checksum decides
                if self.limit is not None and have > self.limit:
                    raise Refused(f"sends more than {shown_bytes(self.limit)}")
                self._check_time()
        return have

    def _resumable(self) -> int:
        """Return how many of the bytes in ``part`` can be kept; others are removed."""
        have = part_bytes(self.part)
        if (self.size is not None and have > self.size) or (self.unchanged_only and self._noted() is None):
            self.part.unlink(missing_ok=True)
            return 0
        return have

    def _headers(self, have: int) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if self.unchanged_only:
                headers["If-Range"] = str(self._noted())
        return headers

    def _check_answer(self, answer: requests.Response) -> None:
        """Raise unless an answer brings the file."""
        if not answer.ok:
            raise Refused(f"responds with {answer.status_code} {answer.reason}")
        steps = [step.url for step in (*answer.history, answer)]
        if self.url.startswith("https:") and not all(step.startswith("https:") for step in steps):
            raise Refused("redirects to an address without encryption")
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise Refused("responds with a web page in place of the file")

    def _noted(self) -> str | None:
        """Return by what the server knows the version that ``part`` is the beginning of, if that is known."""
        with contextlib.suppress(FileNotFoundError, InputError, KeyError):
            note = read_json(_note_of(self.part))
            return note["validator"] if note["url"] == self.url else None
        return None

    def _timeout(self) -> tuple[float, float]:
        """Return the seconds to connect in, and to wait between two chunks: no longer than time is left."""
        if self.end is None:
            return _TIMEOUT_S
        left_s = max(self.end - time.monotonic(), 0.1)
        return min(_TIMEOUT_S[0], left_s), min(_TIMEOUT_S[1], left_s)

    def _check_time(self) -> None:
        if self.end is not None and time.monotonic() > self.end:
            raise Interrupted(f"it took longer than {self.timeout_s:g} s")


def _innermost(error: BaseException) -> str:
    """Return what the innermost cause of an error says, on one line."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(said).partition("\n")[0]


def asked_pause_s(answer: requests.Response) -> float:
    """Return the pause that a busy server asks for, at most ten minutes."""
    try:
        asked_s = Retry().get_retry_after(answer.raw) or 0.0
    except InvalidHeader:
        asked_s = 0.0
    return min(asked_s, _LONGEST_RETRY_AFTER_S)


def part_bytes(part: Path) -> int:
    """Return the size of a partial download, 0 if there is none."""
    return part.stat().st_size if part.exists() else 0


def drop_part(part: Path) -> None:
    """Remove a partial download."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def check_room(folder: Path, needed_bytes: int, *, purpose: str, cure: str) -> None:
    """Raise :class:`InputError` if a folder, existing or not, has no room for so many bytes."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free_bytes = shutil.disk_usage(existing).free
    if needed_bytes > free_bytes:
        raise InputError(
            f"{shown_bytes(needed_bytes)} are needed in {str(folder)!r} for {purpose},"
            f" {shown_bytes(free_bytes)} are free; {cure}"
        )


@contextmanager
def only_one(folder: Path, *, target: Path, cure: str) -> Iterator[None]:
    """Lock a folder against other downloads to ``target``; the lock ends with the process.

    ``cure`` says what to do about a folder that cannot be written.

    Raises :class:`InputError` if another process has it, or if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = (folder / "lock").open("w")
    except OSError as error:
        raise InputError(f"cannot write to {str(folder)!r} ({error.strerror or error}); {cure}") from error
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another process is downloading to {str(target)!r}; wait for it to end"
            ) from error
        yield


def shown_bytes(count_bytes: int) -> str:
    """Return a number of bytes in a readable unit.

    Examples
    --------
    >>> shown_bytes(1_234_567)
    '1.2 MB'
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count_bytes >= factor:
            return f"{count_bytes / factor:.1f} {unit}"
    return f"{count_bytes / 1e3:.1f} kB"


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _validator(answer: requests.Response) -> str | None:
    """Return by what a server knows a version of a file: a strong ETag or the time of its last change."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _total_bytes(answer: requests.Response, have: int) -> int | None:
    """Return the size of the whole file as far as an answer tells it."""
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if have and total.isdigit():
        return int(total)
    length = answer.headers.get("Content-Length", "")
    return have + int(length) if length.isdigit() else None
