"""Atomic files: content is written under a temporary name, then renamed."""

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asdbench.errors import InputError

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path next to ``path``; on success it becomes ``path``, on an error it is removed.

    The content is on the disk before it gets its name, so that a reader, a crash or a power cut sees
    the old file or the new one and never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def create(path: Path, content: bytes) -> bool:
    """Write a file, whole, unless it exists; return whether this process has created it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part")
    try:
        temporary.write_bytes(content)
        os.link(temporary, path)  # unlike a renaming, it fails if there is one
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _create_in_place(path, content)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _create_in_place(path: Path, content: bytes) -> bool:
    """Do as `create` on a file system without links, where a reader may see a part of the file."""
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def json_bytes(content: object) -> bytes:
    """Return ``content`` as indented JSON; NaN and infinity are refused (``ValueError``)."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()


def parsed_json(content: bytes, *, place: str) -> Any:
    """Return parsed JSON; raise :class:`InputError` if the content of the file ``place`` is not JSON.

    Examples
    --------
    >>> parsed_json(b'{"a": 1}', place="a.json")
    {'a': 1}
    """
    try:
        return json.loads(content)
    except ValueError as error:
        raise InputError(
            f"the file {place!r} is damaged ({error}); delete it, then run the same command again to "
            f"recreate it"
        ) from error


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON, atomically; NaN and infinity are refused (``ValueError``)."""
    text = json_bytes(content)
    with replacing(path) as temporary:
        temporary.write_bytes(text)


def read_json(path: Path) -> Any:
    """Read a JSON file; raise :class:`InputError` if it is not JSON."""
    return parsed_json(path.read_bytes(), place=str(path))
