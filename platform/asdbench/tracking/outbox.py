"""The outbox: entries that are not recorded yet, one file each, in a folder of the data home.

Conventions: a file is named by the time at which it was added and by the group of its entry. Sorted names
are therefore entries in order, and the group, which only one process may write at a time, is known without
reading the file. A file is either complete or absent; it is removed once its entry is recorded. Each group
has its own lock, which is released when the process that holds it ends.

The outbox never holds the only copy of a result: results are in the job store.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from asdbench.errors import InputError
from asdbench.io.files import replacing
from asdbench.tracking.records import Entry, from_bytes, to_bytes


class Outbox:
    """The entries in a folder, which several processes may share.

    Attributes
    ----------
    folder : the folder; it is created with the first entry
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unwritten: dict[str, bytes] = {}  # file name to content
        self._lock = threading.Lock()

    def put(self, entry: Entry) -> None:
        """Add an entry on disk; if that fails, keep it in memory for `flush`."""
        with self._lock:
            self._unwritten[f"{time.time_ns()}-{entry.group}.entry"] = to_bytes(entry)
        self.flush()

    def flush(self) -> int:
        """Write the entries in memory to disk; return how many could not be written."""
        with self._lock:
            for name, content in list(self._unwritten.items()):
                try:
                    with replacing(self.folder / name) as temporary:
                        temporary.write_bytes(content)
                except OSError:  # the disk is full or temporarily unavailable
                    break
                del self._unwritten[name]
            return len(self._unwritten)

    def names(self) -> list[str]:
        """Return the names of the entries on disk, the oldest first."""
        try:
            return sorted(path.name for path in self.folder.glob("[0-9]*.entry"))
        except OSError:
            return []

    def groups(self) -> dict[str, list[str]]:
        """Return the names of the entries on disk by group, the oldest group first."""
        groups: dict[str, list[str]] = {}
        for name in self.names():
            groups.setdefault(Path(name).stem.partition("-")[2], []).append(name)
        return groups

    @contextmanager
    def lock_group(self, group: str) -> Iterator[bool]:
        """Try to lock a group for this process; yield whether it succeeded."""
        path = self.folder / f"{group}.lock"
        with path.open("w") as lock:
            if not _try_lock(lock.fileno()):
                yield False
                return
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)

    def read(self, name: str) -> Entry | None:
        """Read an entry, ``None`` if it was removed; a damaged one raises :class:`InputError`."""
        path = self.folder / name
        try:
            return from_bytes(path.read_bytes())
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise InputError(
                f"the file {str(path)!r} is damaged ({error}); remove it, then repeat the command that "
                f"computed the result to record it again"
            ) from error

    def remove(self, names: Iterable[str]) -> None:
        """Remove entries."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)


def _try_lock(file: int) -> bool:
    """Lock a file unless it is locked or its last holder has just removed it; return whether it is locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(file).st_nlink > 0
