"""Claims: which run works on what, so that two runs on one job store do not do the same work.

A claim is the record ``claims/<name>.json`` in the job store. Its holder refreshes a heartbeat in it every
five seconds and removes it at the end. A claim is dead if its process is gone, or if its heartbeat is half a
minute old; then another run takes it over. Since the clocks of two hosts may differ, a heartbeat that looks
old on another host is watched for ten seconds first.

In a folder, one of several processes gets a claim. An object store cannot promise that; there, each reads
back what it has written, and the last one has the claim.
"""

import contextlib
import getpass
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from asdbench.errors import InfrastructureError
from asdbench.io.records import RecordError, record_from_json, record_to_json
from asdbench.io.storage import Storage, StorageError

SCHEMA_VERSION = 1
_HEARTBEAT_S = 5.0
_DEAD_S = 30.0
_SETTLE_S = 0.5  # until all who saw no claim, or a dead one, have written theirs
_RETRY_S = 5.0
_REPORT_S = 60.0
_CURE = "wait for the run of that version, or remove the file"


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run's claim.

    Attributes
    ----------
    token : unique to this claim
    run : id of the run
    user, host, pid : whose process holds it, and where
    processes : names the processes that ``pid`` counts among, those of one container since its host's start
    since_unix_s, heartbeat_unix_s : when it began, and when its holder was last alive
    """

    token: str
    run: str
    user: str
    host: str
    pid: int
    processes: str
    since_unix_s: float
    heartbeat_unix_s: float
    schema_version: int = SCHEMA_VERSION

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since_unix_s))
        return f"run {self.run[:8]} of {self.user} on {self.host}, since {since},"


class ClaimedError(InfrastructureError):
    """A live claim of another run, the ``holder``."""

    def __init__(self, holder: Claim) -> None:
        super().__init__(f"{holder} works on this; 'asdbench status' shows that run")
        self.holder = holder

    def __reduce__(self) -> tuple[type["ClaimedError"], tuple[Claim]]:
        return ClaimedError, (self.holder,)


class HeldClaim:
    """A claim that this process holds, with the thread that refreshes it. Made by `claim`.

    Attributes
    ----------
    record : the claim
    is_lost : whether another process has taken it over, after this one had stood still for too long
    """

    def __init__(self, storage: Storage, name: str, record: Claim) -> None:
        self.record = record
        self.is_lost = False
        self._storage = storage
        self._name = f"claims/{name}.json"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name=f"claim {name}", daemon=True)

    def acquire(self) -> None:
        """Write the claim; raises :class:`ClaimedError` for a live one of another run."""
        while True:
            existing = self._read()
            if existing is not None and existing.run != self.record.run and self._is_live(existing):
                raise ClaimedError(existing)
            if existing is not None and self._read() == existing:
                self._storage.delete(self._name)
            self._storage.write_new(self._name, record_to_json(self.record))
            if existing is not None or self._storage.folder is None:
                time.sleep(_SETTLE_S)
            current = self._read()
            if current is not None and current.token == self.record.token:
                self._thread.start()
                return
            if current is not None:
                raise ClaimedError(current)

    def release(self) -> None:
        """End the refreshing, and remove the claim unless it is lost."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(StorageError):  # it is dead soon
            if self._is_own():
                self._storage.delete(self._name)

    def _refresh(self) -> None:
        while not self._ended.wait(_HEARTBEAT_S):
            with contextlib.suppress(StorageError):  # the next heartbeat may reach the storage
                if not self._is_own():
                    self.is_lost = True
                    return
                refreshed = msgspec.structs.replace(self.record, heartbeat_unix_s=time.time())
                self._storage.write(self._name, record_to_json(refreshed))

    def _is_own(self) -> bool:
        current = self._read()
        return current is not None and current.token == self.record.token

    def _is_live(self, other: Claim) -> bool:
        is_live = _is_live(other)
        if is_live is None:
            time.sleep(2 * _HEARTBEAT_S)
            return self._read() not in (None, other)
        return is_live

    def _read(self) -> Claim | None:
        return _read(self._storage, self._name)


def live_claims(storage: Storage) -> dict[str, Claim]:
    """Return the claims that living processes hold, by name; a storage may be watched for ten seconds."""
    live: dict[str, Claim] = {}
    unsure: dict[str, Claim] = {}
    for file in storage.names("claims", ".json"):
        record = _read(storage, file)
        if record is not None and (is_live := _is_live(record)) is not False:
            (unsure if is_live is None else live)[file] = record
    if unsure:
        time.sleep(2 * _HEARTBEAT_S)
        live |= {file: old for file, old in unsure.items() if _read(storage, file) not in (None, old)}
    return {file.removeprefix("claims/").removesuffix(".json"): record for file, record in live.items()}


@contextmanager
def claim(storage: Storage, name: str, *, run: str) -> Iterator[HeldClaim]:
    """Hold a claim while the ``with`` block runs.

    A claim of the same run is taken over: the run has started the work again after a process was lost.

    Parameters
    ----------
    storage : the storage of the job store
    name : what is claimed; may contain ``/``
    run : id of the run that claims it

    Raises
    ------
    ClaimedError
        Another run has a live claim.
    StorageError
        The storage cannot be read or written.
    """
    held = HeldClaim(storage, name, _new_claim(run))
    held.acquire()
    try:
        yield held
    finally:
        held.release()


@contextmanager
def wait_for_claim(
    storage: Storage,
    name: str,
    *,
    run: str,
    on_wait: Callable[[str], object],
    on_retry: Callable[[], object] = lambda: None,
) -> Iterator[HeldClaim]:
    """Hold a claim as `claim` does, once no other run holds it.

    ``on_wait`` is called with who holds it, or what is wrong with the storage for now: at once and then every
    minute. ``on_retry`` is called before each attempt but the first, every five seconds.

    Raises
    ------
    StorageError
        The storage cannot be read or written, and that does not go away by itself.
    """
    held = HeldClaim(storage, name, _new_claim(run))
    reported = -_REPORT_S
    while True:
        try:
            held.acquire()
            break
        except (ClaimedError, StorageError) as error:
            if isinstance(error, StorageError) and not error.transient:
                raise
            if time.monotonic() - reported >= _REPORT_S:
                on_wait(str(error))
                reported = time.monotonic()
        time.sleep(_RETRY_S)
        on_retry()
    try:
        yield held
    finally:
        held.release()


def _is_live(record: Claim) -> bool | None:
    """Return whether the holder of a claim lives, ``None`` if only watching its heartbeat can tell."""
    if record.processes == _processes() and not Path(f"/proc/{record.pid}").exists():
        return False
    if abs(time.time() - record.heartbeat_unix_s) <= _DEAD_S:
        return True
    return False if record.host == socket.gethostname() else None


def _read(storage: Storage, file: str) -> Claim | None:
    try:
        content = storage.read(file)
    except FileNotFoundError:
        return None
    try:
        return record_from_json(
            content, Claim, schema_version=SCHEMA_VERSION, path=f"{storage}/{file}", cure=_CURE
        )
    except RecordError as error:
        if error.is_other_version:
            raise
        storage.delete(file)  # nobody can hold a damaged claim
        return None


def _new_claim(run: str) -> Claim:
    now = time.time()
    return Claim(
        token=uuid.uuid4().hex,
        run=run,
        user=_user(),
        host=socket.gethostname(),
        pid=os.getpid(),
        processes=_processes(),
        since_unix_s=now,
        heartbeat_unix_s=now,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may not know its user
        return str(os.getuid())


def _processes() -> str:
    """Return the start of this host and its container, within which process ids are unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return uuid.uuid4().hex  # then no process is looked up
