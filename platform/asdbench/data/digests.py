"""Digests of large files, by which damage to them is noticed.

The BLAKE2b digest of a file is noted in ``.<name>.digest`` beside it, with the size and the modification time
that the file had. While these are the same, the noted digest is believed; otherwise the file is read again
and its content compared. What changes a file without a trace in either, such as a faulty disk, is noticed
where a process uses the file for the first time: then it is read in any case (about 0.2 s for 100 MB).
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from asdbench.io.files import write_json

_verified: dict[Path, tuple[int, int]] = {}  # files that this process has read: size and modification time


def note_of(name: str) -> str:
    """Return the name of the note on a file, by the file's name or path.

    >>> note_of("store/fan.arrow")
    'store/.fan.arrow.digest'
    """
    folder, _, file = name.rpartition("/")
    return f"{folder}/.{file}.digest"


def parsed_note(content: bytes) -> dict[str, Any] | None:
    """Return what a note says: ``size_bytes``, ``blake2b`` and perhaps ``mtime_ns``; ``None`` if damaged."""
    try:
        note = json.loads(content)
    except ValueError:
        return None
    return note if isinstance(note, dict) and {"size_bytes", "blake2b"} <= note.keys() else None


def write_note(path: Path, status: os.stat_result, digest: str) -> None:
    """Note the digest of a file which has or will have this status."""
    note = {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "blake2b": digest}
    write_json(Path(note_of(str(path))), note)


def noted_digest(path: Path, status: os.stat_result | None = None) -> str | None:
    """Return the noted digest of a file, ``None`` if there is none, or none for that ``status``."""
    try:
        note = parsed_note(Path(note_of(str(path))).read_bytes())
    except OSError:
        return None
    if note is None:
        return None
    if status and (note["size_bytes"], note.get("mtime_ns")) != (status.st_size, status.st_mtime_ns):
        return None
    return str(note["blake2b"])


def is_unchanged(path: Path, *, thorough: bool = False) -> bool:
    """Return whether an existing file has its noted digest; a file without a note gets one.

    Parameters
    ----------
    path : the file
    thorough : read the file even if its size and modification time are the noted ones, once per process
    """
    status = path.stat()
    state = (status.st_size, status.st_mtime_ns)
    if _verified.get(path) == state:
        return True
    if not thorough and noted_digest(path, status) is not None:
        return True
    digest = digest_of(path)
    if noted_digest(path) not in (None, digest):
        return False
    if noted_digest(path, status) is None:
        with contextlib.suppress(OSError):  # it is read again next time
            write_note(path, status, digest)
    _verified[path] = state
    return True


def new_hash(content: bytes = b"") -> hashlib.blake2b:
    """Return the hash of a content that digests are of."""
    return hashlib.blake2b(content, digest_size=32)


def digest_of(path: Path) -> str:
    """Return the digest of a file's content, hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, new_hash).hexdigest()
