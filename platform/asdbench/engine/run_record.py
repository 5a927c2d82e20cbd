"""The record of a run that is under way, ``runs/<run id>.json`` of the job store.

It serves two purposes. ``asdbench status`` reads it from another terminal, without a connection to the run.
And it is the run's nonce: the driver writes it before the first task, so a worker that does not see it sees
another storage than the driver's, such as an empty folder where nothing is mounted.

This module imports neither torch nor polars. The parameter ``root`` is the storage of the job store.
"""

import getpass
import os
import socket
import time
import uuid
from typing import NotRequired, TypedDict

import msgspec

from asdbench.errors import InfrastructureError
from asdbench.io.records import RecordError, record_from_json, record_to_json
from asdbench.io.storage import Storage

SCHEMA_VERSION = 1
UNHEARD_S = 30.0  # a heartbeat older than this: the run's process may be dead
STALE_S = 86_400.0  # a heartbeat older than this: it is dead
_CURE = "it may be removed unless its run is under way"


class SchedulerStatus(TypedDict):
    """What the scheduler says of itself, as plain data.

    Attributes
    ----------
    waiting, done, failed : number of tasks
    features : number of features that wait or are being built
    running : tasks, each with the fields of `RunningTask`; one without a host waits for a process
    nodes : each with the fields of `NodeStatus`
    retries : each with the fields of `Retry`, the newest last
    done_s : total running time of the tasks that are done; without it, no time left is estimated before
        running tasks report their steps
    """

    waiting: int
    running: list[dict[str, object]]
    done: int
    failed: int
    features: int
    nodes: list[dict[str, object]]
    retries: list[dict[str, object]]
    done_s: NotRequired[float]


class RunningTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task that runs.

    Attributes
    ----------
    label : the task, for people
    host, node : host name and id of its node
    since_unix_s : when it started
    step, steps : finished training steps, and the number of all; ``None`` or 0 before its first report
    """

    label: str
    host: str
    node: str
    since_unix_s: float
    step: int | None = None
    steps: int | None = None


class NodeStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node of the cluster.

    Attributes
    ----------
    node, host : its id and host name
    running, done : number of tasks
    quarantined_unix_s : since when it gets no tasks, ``None`` if it gets some
    reason : why
    """

    node: str
    host: str
    running: int
    done: int
    quarantined_unix_s: float | None = None
    reason: str | None = None


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A failed attempt at a task that is tried again: which task, where and why it failed, and when."""

    label: str
    host: str
    reason: str
    unix_s: float


class SearchStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A search.

    Attributes
    ----------
    name : for people
    done, trials, running : number of trials that have ended, of all and of those that run
    best, untuned : the best official score so far and that of the untuned system, if known
    began_unix_s, done_before : when the run took it up, and how many trials had ended by then
    """

    name: str
    done: int
    trials: int
    running: int
    best: float | None
    untuned: float | None
    began_unix_s: float
    done_before: int


class RunStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The state of a run.

    Attributes
    ----------
    run_id : unique among all runs
    command : as typed, without passwords
    user, host, pid : whose run it is, and its process
    began_unix_s, heartbeat_unix_s : when it began, and when this record was written
    waiting, done, failed : number of tasks
    features : number of features that wait or are being built
    running : the tasks that run
    nodes, retries, searches, notes : each of these; of retries and notes the newest, which are last
    left_s : estimated time until all tasks and trials are done, if known
    """

    run_id: str
    command: str
    user: str
    host: str
    pid: int
    began_unix_s: float
    heartbeat_unix_s: float
    waiting: int = 0
    done: int = 0
    failed: int = 0
    features: int = 0
    running: tuple[RunningTask, ...] = ()
    nodes: tuple[NodeStatus, ...] = ()
    retries: tuple[Retry, ...] = ()
    searches: tuple[SearchStatus, ...] = ()
    left_s: float | None = None
    notes: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def from_command(cls, command: str) -> "RunStatus":
        """Return the status of a new run of this process, before its first task.

        >>> RunStatus.from_command("asdbench run ensemble --data tiny").done
        0
        """
        now = time.time()
        return cls(
            run_id=uuid.uuid4().hex,
            command=command,
            user=_user(),
            host=socket.gethostname(),
            pid=os.getpid(),
            began_unix_s=now,
            heartbeat_unix_s=now,
        )

    def unheard_s(self, now_unix_s: float) -> float | None:
        """Return for how long the run was not heard from, ``None`` while it writes its heartbeats."""
        age_s = now_unix_s - self.heartbeat_unix_s
        return age_s if age_s > UNHEARD_S else None


def name_of(run_id: str) -> str:
    """Return the name of a run's file in the job store."""
    return f"runs/{run_id}.json"


def save_run(root: Storage, status: RunStatus) -> None:
    """Store the state of a run."""
    root.write(name_of(status.run_id), record_to_json(status))


def load_runs(root: Storage) -> tuple[list[RunStatus], list[str]]:
    """Return the runs under way, the oldest first, and a sentence about each file that cannot be read."""
    runs, unreadable = [], []
    for name, content in root.read_each(root.names("runs", ".json")):
        try:
            runs.append(_parsed(content, f"{root}/{name}"))
        except RecordError as error:
            unreadable.append(str(error))
    return sorted(runs, key=lambda run: run.began_unix_s), unreadable


def exists(root: Storage, run_id: str) -> bool:
    """Return whether a storage holds the file of a run: whether it is the storage of the run's driver."""
    return root.exists(name_of(run_id))


def check_storage(root: Storage, run_id: str) -> None:
    """Check that this process sees the storage of a run's driver.

    Raises
    ------
    InfrastructureError
        The file of the run does not exist here; the message names host and storage.
    """
    if not exists(root, run_id):
        raise InfrastructureError(
            f"the storage {str(root)!r} on host {socket.gethostname()} is not the driver's: it has no "
            f"{name_of(run_id)}, which the driver wrote; mount the driver's folder there, or choose with "
            f"--storage one that all nodes can access"
        )


def remove_run(root: Storage, run_id: str) -> None:
    """Remove the file of a run that has ended."""
    root.delete(name_of(run_id))


def remove_stale_runs(root: Storage) -> None:
    """Remove the files of runs whose process is dead: on this host, or not heard from for a day."""
    now = time.time()
    for run in load_runs(root)[0]:
        if _is_dead(run, now):
            remove_run(root, run.run_id)


def _is_dead(run: RunStatus, now_unix_s: float) -> bool:
    age_s = run.unheard_s(now_unix_s)
    if age_s is None:  # alive, even if its process is in a container of this host and not seen from here
        return False
    return age_s > STALE_S or (run.host == socket.gethostname() and not _is_running(run.pid))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry in the password database
        return str(os.getuid())


def _parsed(content: bytes, path: str) -> RunStatus:
    return record_from_json(content, RunStatus, schema_version=SCHEMA_VERSION, path=path, cure=_CURE)
