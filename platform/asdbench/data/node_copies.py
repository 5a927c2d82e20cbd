"""Data for workers on other machines: published once to a storage, copied once to each node, verified.

The driver publishes what the jobs read: registrations without their truth tables (no worker judges) and Arrow
files, under the names that they have in a data home. A :class:`CopyList` lists what it publishes, with
the size and the BLAKE2b digest of each file. A worker creates a data home from it on its node's own disk. One
process of a node copies a file while the others wait for it; the copy is compared with the digest before it
gets its name. Recordings are never copied.

The digests of files are stored next to them (see `digests`). Where two
drivers publish the same Arrow file, the first one's bytes are kept: its name says that the content is equal,
but the last bits of a spectrogram may differ from processor to processor.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from asdbench.data.digests import digest_of, new_hash, note_of, noted_digest, parsed_note, write_note
from asdbench.data.feature_store import FeatureSpec, stored
from asdbench.data.sets.catalog import DataSet, paths_name, stored_clips
from asdbench.errors import InfrastructureError, InputError
from asdbench.io.files import read_json
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.weights import store as weights
from asdbench.weights.records import named

_NETWORK = re.compile(r"nfs4?|cifs|smb3|lustre|gpfs|beegfs|ceph|9p|fuse\..*")
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class FeatureFile:
    """Clips that a job reads: an Arrow file of the data home, and whose recordings it is built from."""

    data: DataSet
    machine_type: str
    path: Path

    @property
    def name(self) -> str:
        """Its name in a data home and in a storage."""
        return f"store/{self.path.name}"


@dataclass(frozen=True)
class Published:
    """A file that workers need.

    Attributes
    ----------
    name : in a data home and in a storage
    size_bytes, digest : what its content is known by; BLAKE2b, 32 bytes, hexadecimal
    data : the data set that it is of
    machine_type : of an Arrow file; ``None`` for a file of the registration
    """

    name: str
    size_bytes: int
    digest: str
    data: str
    machine_type: str | None = None


@dataclass(frozen=True)
class CopyList:
    """What workers need of a data home; plain data that travels."""

    files: tuple[Published, ...]


def weights_files(workspace: Workspace, spec: FeatureSpec) -> list[Path]:
    """Return the files of pretrained weights that a job's node needs; receipts alone for embeddings."""
    ids = [*spec.weights, *([spec.encoder.id] if spec.encoder is not None else [])]
    receipts = [weights.receipt_path(workspace, one) for one in ids]
    return [weights.weights_path(workspace, named(one)) for one in spec.weights] + receipts


def publish(
    sources: Iterable[FeatureFile], storage: Storage, *, weights_files: Iterable[Path] = ()
) -> CopyList:
    """Bring what jobs read to a storage, unless it is there whole or the storage is the data home itself.

    Parameters
    ----------
    sources : the Arrow files that jobs read, which are built; their data sets are published too
    weights_files : files of pretrained weights in the data home of ``sources`` that jobs need
    storage : a place that the workers' nodes can read

    Raises
    ------
    StorageError
        The storage cannot be written.
    InputError
        An Arrow file is gone.
    """
    arrows = {source.name: source for source in sources}
    files: list[Published] = []
    for data in {source.data.name: source.data for source in arrows.values()}.values():
        files += _publish_registration(data, None if _is_home(storage, data) else storage)
    for name, source in arrows.items():
        elsewhere = None if _is_home(storage, source.data) else storage
        size, digest = _publish_file(source.path, name, elsewhere)
        files.append(Published(name, size, digest, source.data.name, source.machine_type))
    for path in dict.fromkeys(weights_files):
        data = next(iter(arrows.values())).data
        name = path.relative_to(data.workspace.home).as_posix()
        size, digest = _publish_file(path, name, None if _is_home(storage, data) else storage)
        files.append(Published(name, size, digest, data.name))
    return CopyList(tuple(files))


def node_home(storage: Storage, manifest: CopyList, *, cache_dir: Path) -> Path:
    """Return a data home on this node's disk that holds what ``manifest`` names; called by workers.

    It is in ``cache_dir``. Missing and incomplete files are copied, by one process of the node. An Arrow file
    that the storage has lost is built from the recordings later, if this node can read them.

    Raises
    ------
    InfrastructureError
        The cache belongs to another user, others can write to it, or it is full; the storage cannot be read
        (a :class:`~asdbench.io.storage.StorageError`), or has lost or changed a file.
    """
    place = _checked_cache(cache_dir) / hashlib.blake2b(storage.uri.encode(), digest_size=8).hexdigest()
    place.mkdir(mode=0o700, exist_ok=True)
    for file in manifest.files:
        _bring(file, storage, place)
    return place


def reads_over_network(path: Path, *, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Return whether a path, existing or not, is on a network file system; false if mounts are unknown."""
    resolved = path.absolute().resolve()
    kinds: dict[Path, str] = {}
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    for line in lines:
        before, _, after = line.partition(" - ")
        point = _ESCAPED.sub(lambda code: chr(int(code[1], 8)), before.split(" ")[4])
        kinds[Path(point)] = after.split(" ")[0]  # of several mounts at one place the last is seen
    for folder in (resolved, *resolved.parents):
        if folder in kinds:
            return _NETWORK.fullmatch(kinds[folder]) is not None
    return False


def _is_home(storage: Storage, data: DataSet) -> bool:
    return storage.folder is not None and storage.folder.resolve() == data.workspace.home.resolve()


def _publish_registration(data: DataSet, storage: Storage | None) -> list[Published]:
    home, folder = data.workspace.home, f"data/{data.name}"
    record = read_json(home / folder / "dataset.json")
    published = []
    names = (record["clips"], paths_name(record["clips"]), "dataset.json")  # the record last, as in a home
    for name in (f"{folder}/{each}" for each in names):
        content = (home / name).read_bytes()
        if storage is not None and not _holds(storage, name, content):
            storage.write(name, content)
        published.append(Published(name, len(content), new_hash(content).hexdigest(), data.name))
    return published


def _holds(storage: Storage, name: str, content: bytes) -> bool:
    return storage.size_bytes(name) == len(content) and storage.read(name) == content


def _publish_file(path: Path, name: str, storage: Storage | None) -> tuple[int, str]:
    """Return size and digest of a file, in the storage if that is not the data home."""
    note = note_of(name)
    if storage is not None and storage.exists(note):
        known = parsed_note(storage.read(note))
        if known is not None and storage.size_bytes(name) == known["size_bytes"]:
            return known["size_bytes"], known["blake2b"]
    try:
        size, digest = _local_digest(path)
    except FileNotFoundError:
        raise InputError(f"{str(path)!r} is gone; run the same command again to rebuild it") from None
    if storage is not None:
        storage.put(path, name)
        storage.write_json(note, {"size_bytes": size, "blake2b": digest})
    return size, digest


def _local_digest(path: Path) -> tuple[int, str]:
    """Return size and digest of a file of this machine, computed once; a damaged file is removed."""
    status = path.stat()
    if (digest := noted_digest(path, status)) is None:
        digest = digest_of(path)
        if noted_digest(path) not in (None, digest):
            path.unlink()
            raise InfrastructureError(
                f"{str(path)!r} was damaged and is removed; run the same command again to rebuild it"
            )
        with contextlib.suppress(OSError):  # it is computed again next time
            write_note(path, status, digest)
    return status.st_size, digest


def _bring(file: Published, storage: Storage, place: Path) -> None:
    path = place / file.name
    if _is_complete(path, file):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if _is_complete(path, file):
                return
            if _is_correct(path, file) or _copied(file, storage, path):
                write_note(path, path.stat(), file.digest)
            else:
                _check_buildable(file, storage, place)
    except OSError as error:
        raise InfrastructureError(
            f"cannot keep {path.name!r} in {str(place)!r} ({error.strerror or error}); make room there, or "
            f"set ASDBENCH_CACHE to a folder with room for the data"
        ) from error


def _copied(file: Published, storage: Storage, path: Path) -> bool:
    """Copy a file, twice if the first copy is not right; returns whether the storage has it."""
    part = path.with_name(f".{path.name}.copy")
    for _ in range(2):
        try:
            storage.fetch(file.name, part)
        except FileNotFoundError:
            return False
        if _is_correct(part, file):
            part.replace(path)
            return True
    part.unlink()
    raise InfrastructureError(
        f"{file.name!r} in the storage {str(storage)!r} differs from the published file; delete it there, "
        f"then run the same command again to publish it"
    )


def _check_buildable(file: Published, storage: Storage, place: Path) -> None:
    """Raise :class:`InfrastructureError` unless a file is already here or can be built from recordings."""
    if file.machine_type is not None:
        if stored(place / file.name) is not None:
            return
        record = read_json(place / "data" / file.data / "dataset.json")
        clips = stored_clips(place / "data" / file.data, record["clips"])
        type_clips = clips.filter(pl.col("machine_type") == file.machine_type)
        expected = type_clips.select("path", "size_bytes", "mtime_ns").iter_rows()
        if all(_stands(Path(record["root"]) / path, *rest) for path, *rest in expected):
            return
    raise InfrastructureError(
        f"the storage {str(storage)!r} has lost {file.name!r}, and the recordings of data set {file.data!r} "
        f"cannot be read on {socket.gethostname()!r}; run the same command again to publish it again"
    )


def _stands(recording: Path, size_bytes: int, mtime_ns: int) -> bool:
    try:
        status = recording.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (size_bytes, mtime_ns) and os.access(recording, os.R_OK)


def _checked_cache(place: Path) -> Path:
    """Create the folder for copies if necessary; refuse one that another user could have put things into."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        statuses = (place.lstat(), place.stat())
    except OSError as error:
        raise InfrastructureError(
            f"cannot keep copies of data in {str(place)!r} ({error.strerror or error}); set ASDBENCH_CACHE "
            f"to a folder of your own"
        ) from error
    if any(status.st_uid != os.getuid() for status in statuses) or statuses[1].st_mode & 0o022:
        raise InfrastructureError(
            f"the cache {str(place)!r} belongs to another user or can be written by others, who could "
            f"exchange the data; set ASDBENCH_CACHE to a folder that only you can write to"
        )
    return place


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep the other processes of this node from making ``path``; it waits for one that does."""
    with path.with_name(f".{path.name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_complete(path: Path, file: Published) -> bool:
    """Return whether a file is complete according to its stored digest."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return status.st_size == file.size_bytes and noted_digest(path, status) == file.digest


def _is_correct(path: Path, file: Published) -> bool:
    """Return whether a file has the published content."""
    return path.exists() and path.stat().st_size == file.size_bytes and digest_of(path) == file.digest
