"""Places for results and data that every node sees: a folder, or any file system that pyarrow knows.

A place is named by a folder or a URI (``s3://bucket/folder?region=...``, ``gs://...``, ``file:///...``), and
what lies in it by names with ``/`` between their parts. Everything is written whole or not at all: in a
folder by a temporary name that is renamed, in an object store since an object appears once it is complete.
What goes wrong there is a :class:`StorageError`, but for what is not there: that is a ``FileNotFoundError``.

URIs may hold a password. They travel to the workers as they are; messages show them without it.
"""

import errno
import io
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import SplitResult, unquote, urlsplit

from asdbench.errors import InfrastructureError, InputError
from asdbench.io.files import create, json_bytes, parsed_json, replacing

_FULL = {errno.ENOSPC, errno.EDQUOT}
_TRANSIENT = _FULL | {errno.EIO, errno.ESTALE, errno.EREMOTEIO, errno.EAGAIN, errno.ETIMEDOUT, errno.ENOTCONN}
_TRANSIENT |= {errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH}
_TRANSIENT |= {errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED}
# What the clients of object stores say of a server or network that is away, slow or asks for patience.
_TRANSIENT_WORDS = re.compile(
    r"NETWORK_CONNECTION|curlCode|SLOW_?DOWN|THROTTL|SERVICE_UNAVAILABLE|INTERNAL_(FAILURE|ERROR)|REQUEST_TIME"
    r"|UNAVAILABLE|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|ABORTED|HTTP status (429|5\d\d)|[Tt]imed? ?out"
)
_REQUEST = re.compile(r"\s*\(Request ID: [^)]*\)")
_SECRET = re.compile(r"(?i)([?&][^=&]*(?:secret|token|password|credential|key|sas|sig)[^=&]*=)[^&]*")
_OBJECT_STORES = ("s3", "gcs", "abfs")  # where a write appears once it is complete
_AT_ONCE = 16  # reads; a folder may lie on a network, too
_BATCH = 1024
_CHUNK_BYTES = 1 << 24
_CONNECT_S, _SILENCE_S, _ATTEMPTS = 5.0, 6.0, 3  # of requests to S3: a silent server is reported after 20 s

logger = logging.getLogger(__name__)


class StorageError(InfrastructureError):
    """A storage that cannot be reached, read or written; the message says which, why and the cure.

    Attributes
    ----------
    transient : whether the cause may go away by itself: a full disk, an unreachable server
    full : whether it has no space left
    """

    def __init__(self, message: str, transient: bool = False, full: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
        self.full = full

    def __reduce__(self) -> tuple[type["StorageError"], tuple[str, bool, bool]]:
        return StorageError, (str(self), self.transient, self.full)


@dataclass(frozen=True, repr=False)
class Storage:
    """A place where files are kept under names; plain data that travels. Made by :meth:`of`.

    Attributes
    ----------
    uri : the URI or the absolute path of the folder; it may hold a password, ``str`` of the storage does not
    """

    uri: str

    @classmethod
    def from_location(cls, place: "Storage | Path | str") -> "Storage":
        """Return the storage in a folder or at a URI; nothing is looked up there.

        Raises :class:`InputError` for a ``file://`` URI of another host.
        """
        if isinstance(place, Storage):
            return place
        if isinstance(place, Path) or "://" not in place:
            return cls(str(Path(place).expanduser().absolute()))
        parts = urlsplit(place)
        if parts.scheme == "file":
            if parts.netloc not in ("", "localhost"):
                raise InputError(
                    f"{place!r} names a file on the host {parts.netloc!r}; a folder of this one is file:///..."
                )
            return cls(str(Path(unquote(parts.path))))
        return cls(place)

    @cached_property
    def folder(self) -> Path | None:
        """The folder, if it is one."""
        return None if "://" in self.uri else Path(self.uri)

    def within(self, folder: str) -> "Storage":
        """Return the storage in a folder of this one."""
        if self.folder is not None:
            return Storage(str(self.folder / folder))
        parts = urlsplit(self.uri)
        return Storage(_joined(parts._replace(path=f"{parts.path.rstrip('/')}/{folder}")))

    def __str__(self) -> str:
        if self.folder is not None:
            return self.uri
        parts = urlsplit(self.uri)
        _, _, host = parts.netloc.rpartition("@")
        return _SECRET.sub(r"\1***", _joined(parts._replace(netloc=host)))

    def __repr__(self) -> str:
        return f"Storage({str(self)!r})"

    def __reduce__(self) -> tuple[type["Storage"], tuple[str]]:  # connections cannot be pickled
        return Storage, (self.uri,)

    def exists(self, name: str) -> bool:
        """Return whether there is a file of that name."""
        return self.size_bytes(name) is not None

    def size_bytes(self, name: str) -> int | None:
        """Return the size of a file, ``None`` if there is none of that name."""
        with self._reaching():
            if self.folder is not None:
                path = self._fresh(name)
                return path.stat().st_size if path.is_file() else None
            system, base = self._remote
            info = system.get_file_info(f"{base}/{name}")
            return info.size if info.is_file else None

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """Return the names of all files in a folder, at any depth, that end in ``suffix``, sorted.

        Files whose name starts with a dot are left out. Over a network, a thousand files take one request.
        """
        with self._reaching():
            if self.folder is not None:
                return sorted(name for name, _ in self._walk(folder, suffix))
            return sorted(name for name, _ in self._select(folder, suffix))

    def versions(self, folder: str, suffix: str = "") -> dict[str, str]:
        """Return `names` with the version of each file: another text after the file was written again.

        It is made up of what a listing tells without reading a file: its size and when it was written.
        """
        with self._reaching():
            if self.folder is not None:
                return dict(sorted((name, _version(entry)) for name, entry in self._walk(folder, suffix)))
            infos = ((name, f"{info.size}-{info.mtime_ns}") for name, info in self._select(folder, suffix))
            return dict(sorted(infos))

    def sizes_bytes(self, folder: str) -> dict[str, int]:
        """Return the size of each file in a folder, at any depth, by the files' names."""
        with self._reaching():
            if self.folder is not None:
                return {name: _size_bytes(entry) for name, entry in self._walk(folder, "")}
            return {name: info.size for name, info in self._select(folder, "")}

    def _walk(self, folder: str, suffix: str) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
        folders = [(f"{folder}/" if folder else "", str(self._fresh(folder)))]
        while folders:
            start, path = folders.pop()
            try:
                with os.scandir(path) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append((f"{start}{entry.name}/", entry.path))
                        elif (name := start + entry.name).endswith(suffix) and _is_shown(entry):
                            yield name, entry
            except FileNotFoundError:  # it was removed
                continue

    def _select(self, folder: str, suffix: str) -> Iterator[tuple[str, Any]]:
        from pyarrow.fs import FileSelector

        system, base = self._remote
        selector = FileSelector(f"{base}/{folder}", recursive=True, allow_not_found=True)
        for info in system.get_file_info(selector):
            if info.is_file and info.path.endswith(suffix) and not info.base_name.startswith("."):
                yield info.path.removeprefix(f"{base}/"), info

    def read(self, name: str) -> bytes:
        """Return the content of a file; ``FileNotFoundError`` if there is none of that name."""
        with self._reaching():
            if self.folder is not None:
                return self._fresh(name).read_bytes()
            system, base = self._remote
            with system.open_input_file(f"{base}/{name}") as stream:
                return stream.read()  # type: ignore[no-any-return]

    def read_json(self, name: str) -> Any:
        """Return what a JSON file says; one that holds none is an :class:`InputError`."""
        return parsed_json(self.read(name), place=f"{self}/{name}")

    def read_each(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield names with their content, in order, but for what is gone; several are read at once."""
        remaining = iter(names)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while batch := list(islice(remaining, _BATCH)):  # so that few contents are in memory
                for name, content in zip(batch, pool.map(self._read_if_there, batch), strict=True):
                    if content is not None:
                        yield name, content

    def _read_if_there(self, name: str) -> bytes | None:
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def readable(self, name: str) -> Path | BinaryIO:
        """Return what polars and torch read a file from: its path, or its content if it is in no folder."""
        return io.BytesIO(self.read(name)) if self.folder is None else self.folder / name

    def write(self, name: str, content: bytes | memoryview | Callable[[BinaryIO], object]) -> None:
        """Write a file, whole or not at all: these bytes, or what ``content`` writes to a stream."""
        if callable(content):
            # To memory first: what torch and polars make of a disk that fills up is no OSError.
            buffer = io.BytesIO()
            content(buffer)
            content = buffer.getbuffer()
        with self._reaching(writing=True):
            if self.folder is not None:
                if (self.folder / name).is_dir():
                    self.set_aside(name, "it is a folder")
                with replacing(self.folder / name) as temporary:
                    temporary.write_bytes(content)
            else:
                self._send(name, content)

    def write_new(self, name: str, content: bytes) -> bool:
        """Write a file unless there is one of that name; return whether this call has written it.

        In a folder, one of several processes succeeds. Elsewhere several may: read back who was the last.
        """
        with self._reaching(writing=True):
            if self.folder is not None:
                return create(self.folder / name, content)
            if self.exists(name):
                return False
            self._send(name, content)
            return True

    def write_json(self, name: str, content: object) -> None:
        """Write ``content`` as JSON; NaN and infinity are refused (``ValueError``)."""
        self.write(name, json_bytes(content))

    def delete(self, name: str) -> None:
        """Remove a file if it exists."""
        with self._reaching():
            try:
                if self.folder is not None:
                    (self.folder / name).unlink()
                else:
                    system, base = self._remote
                    system.delete_file(f"{base}/{name}")
            except FileNotFoundError:
                pass

    def set_aside(self, name: str, why: str) -> None:
        """Rename a damaged file, or what is in its place, to ``<name>.damaged``, and log a warning.

        Nothing happens if it no longer exists: another process has set it aside.
        """
        aside = f"{name}.damaged"
        with self._reaching():
            try:
                if self.folder is not None:
                    if (self.folder / aside).is_dir():
                        shutil.rmtree(self.folder / aside)
                    (self.folder / name).replace(self.folder / aside)
                else:
                    system, base = self._remote
                    if not system.get_file_info(f"{base}/{name}").is_file:
                        return
                    system.move(f"{base}/{name}", f"{base}/{aside}")
            except FileNotFoundError:
                return
        last = PurePosixPath(aside).name
        logger.warning("%s/%s is damaged (%s); it is renamed to %s and made again", self, name, why, last)

    def delete_folder(self, folder: str) -> None:
        """Remove a folder and its content if it exists."""
        with self._reaching():
            try:
                if self.folder is not None:
                    shutil.rmtree(self.folder / folder)
                else:
                    system, base = self._remote
                    system.delete_dir(f"{base}/{folder}")
            except FileNotFoundError:
                pass

    def fetch(self, name: str, to: Path) -> None:
        """Copy a file of any size to a path of this machine.

        Raises ``FileNotFoundError`` if there is none of that name, any other ``OSError`` for this disk.
        """
        with self._reaching():
            if self.folder is not None:
                stream: BinaryIO = self._fresh(name).open("rb")
            else:
                system, base = self._remote
                stream = system.open_input_file(f"{base}/{name}")
        with stream, replacing(to) as temporary, temporary.open("wb") as written:
            while True:
                with self._reaching():
                    chunk = stream.read(_CHUNK_BYTES)
                if not chunk:
                    return
                written.write(chunk)

    def put(self, path: Path, name: str) -> None:
        """Copy a file of this machine, of any size, to the storage."""
        with self._reaching(writing=True):
            if self.folder is not None:
                with replacing(self.folder / name) as temporary:
                    shutil.copyfile(path, temporary)
            else:
                import pyarrow as pa

                with pa.memory_map(str(path)) as content:
                    self._send(name, content.read_buffer())

    def check(self) -> None:
        """Check that files can be written here; raise :class:`StorageError` if not."""
        probe = f".{uuid.uuid4().hex}.probe"
        self.write(probe, b"may be removed")
        self.delete(probe)

    @cached_property
    def _remote(self) -> tuple[Any, str]:
        """The pyarrow file system, and the path in it that names start from."""
        from pyarrow.fs import FileSystem

        system, base = FileSystem.from_uri(self.uri)
        return _impatient(system) if system.type_name == "s3" else system, base.rstrip("/")

    def _fresh(self, name: str) -> Path:
        """Return the path of a file in the folder, as the server of a network file system sees it now.

        An NFS client may remember for up to a minute that a name was not there (nfs(5), "Directory entry
        caching"); opening a folder makes Linux ask the server again.
        """
        assert self.folder is not None
        path = self.folder / name
        depth = len(path.relative_to(self.folder).parts)
        for folder in reversed([path, *path.parents][1 : depth + 1]):
            try:
                os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
            except OSError:  # what comes next says what is wrong
                break
        return path

    def _send(self, name: str, content: object) -> None:
        """Write in one go: the end of a stream completes what was sent, whatever went wrong before."""
        system, base = self._remote
        target = f"{base}/{name}"
        complete = system.type_name in _OBJECT_STORES
        written = target if complete else str(PurePosixPath(target).with_name(f".{uuid.uuid4().hex}.part"))
        if not complete:
            system.create_dir(str(PurePosixPath(target).parent))
        with system.open_output_stream(written) as stream:
            stream.write(content)
        if not complete:
            system.move(written, target)

    @contextmanager
    def _reaching(self, *, writing: bool = False) -> Iterator[None]:
        """Turn what goes wrong in reaching this place into a :class:`StorageError`."""
        try:
            yield
        except InputError:
            raise
        except (OSError, ValueError, NotImplementedError) as error:
            if isinstance(error, FileNotFoundError) and not writing:
                raise
            raise self._fault(error) from (error if isinstance(error, OSError) else None)

    def _fault(self, error: Exception) -> StorageError:
        number = getattr(error, "errno", None)
        if number in _FULL:
            return StorageError(
                f"no space left in {str(self)!r} ({os.strerror(number)}); make room there", True, full=True
            )
        why = os.strerror(number) if number else " ".join(_REQUEST.sub("", str(error)).split())
        why = why.replace(self.uri, str(self))
        if number in _TRANSIENT or _TRANSIENT_WORDS.search(why):
            return StorageError(
                f"the storage {str(self)!r} cannot be reached ({why}); check the server and the network", True
            )
        return StorageError(
            f"the storage {str(self)!r} cannot be used ({why}); fix this, or choose another storage "
            f"with --storage or ASDBENCH_STORAGE"
        )


def _is_shown(entry: "os.DirEntry[str]") -> bool:
    return not entry.name.startswith(".") and entry.is_file()


def _version(entry: "os.DirEntry[str]") -> str:
    try:
        status = entry.stat()
    except FileNotFoundError:
        return "removed"
    return f"{status.st_size}-{status.st_mtime_ns}"


def _size_bytes(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:  # it was removed
        return 0


def _impatient(system: Any) -> Any:
    """Return an S3 file system with the same options that gives up in half a minute; no URI can say that."""
    from pyarrow.fs import AwsStandardS3RetryStrategy

    make, (options,) = system.__reduce__()
    times = {"connect_timeout": _CONNECT_S, "request_timeout": _SILENCE_S}
    return make({**options, **times, "retry_strategy": AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS)})


def _joined(parts: SplitResult) -> str:
    """Return a URI; ``urlunsplit`` drops the slashes of one without a host, as hdfs:///folder."""
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}"
