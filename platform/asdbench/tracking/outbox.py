"""The outbox: what is to be recorded and is not yet, one JSON file an entry, in a folder of the data home.

Conventions: a file is named by the time that it was put there and by its entry's group, so that names in
order are entries in order, and what must not be written by two at once is seen without reading. A file is
whole or not there; it goes when its entry is recorded. Each group has a lock of its own, which ends with the
process that holds it.

Nothing here is the only copy of a result: those are in the job store.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from asdbench.errors import InputError
from asdbench.io.files import replacing
from asdbench.tracking.runs import OutboxEntry


class Outbox:
    """The entries in a folder, which several processes may share.

    Attributes
    ----------
    folder : the folder; it is made when there is something to put into it
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unwritten: dict[str, str] = {}  # file name to content
        self._lock = threading.Lock()

    def put(self, entry: OutboxEntry) -> None:
        """Put an entry on the disk; where that cannot be it is kept in memory until `flush` can."""
        with self._lock:
            self._unwritten[f"{time.time_ns()}-{entry.group}.json"] = entry.to_json()
        self.flush()

    def flush(self) -> int:
        """Put on the disk what could not be put there; returns how many entries are in memory alone."""
        with self._lock:
            for name, content in list(self._unwritten.items()):
                try:
                    with replacing(self.folder / name) as temporary:
                        temporary.write_text(content, encoding="utf-8")
                except OSError:  # the disk is full, or not there for a while
                    break
                del self._unwritten[name]
            return len(self._unwritten)

    def names(self) -> list[str]:
        """Return the names of the entries on the disk, the oldest first."""
        try:
            return sorted(path.name for path in self.folder.glob("[0-9]*.json"))
        except OSError:
            return []

    def groups(self) -> dict[str, list[str]]:
        """Return the names of the entries on the disk by group, the oldest group first."""
        groups: dict[str, list[str]] = {}
        for name in self.names():
            groups.setdefault(Path(name).stem.partition("-")[2], []).append(name)
        return groups

    @contextmanager
    def alone(self, group: str) -> Iterator[bool]:
        """Give whether nobody else has hold of a group; if so, nobody gets it until the end."""
        path = self.folder / f"{group}.lock"
        with path.open("w") as lock:
            if not _locked(lock.fileno()):
                yield False
                return
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)

    def read(self, name: str) -> OutboxEntry | None:
        """Read an entry; one that is gone is ``None``, a damaged one is an :class:`InputError`."""
        path = self.folder / name
        try:
            return OutboxEntry.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"the file {str(path)!r} is damaged ({error}); remove it, and the command that made its "
                f"result records it again"
            ) from error

    def remove(self, names: Iterable[str]) -> None:
        """Remove entries."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)


def _locked(file: int) -> bool:
    """Lock a file if nobody else has, and if it is still there: its last holder may just have removed it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(file).st_nlink > 0
