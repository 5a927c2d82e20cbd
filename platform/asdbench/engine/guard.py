"""What tells labels cannot be read while the code of a system runs.

Idea
----
A task that trains and scores runs in a thread of its own, which gives up what tells labels: the truth
tables, the clip tables (names of recordings may contain labels), the recordings, and MLflow's records. Where
Linux has Landlock, the kernel refuses to read them, for that thread and all threads and processes that it
starts. In addition, and elsewhere alone, an audit hook of Python refuses to open, list, move and remove them,
in any thread, and elsewhere to start processes in that one.

Which of the two has held is stored with the scores: ``"kernel"``, ``"python"``, or ``"none"`` for whoever
calls `asdbench.engine.run_task.run_task` without the guard, as the conformance suite does.

Known departures
----------------
What stays possible is in docs/adding_a_system.md.
"""

import contextlib
import contextvars
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from asdbench.data.sets import catalog
from asdbench.engine.landlock import deny_reading
from asdbench.io.workspace import Workspace

T = TypeVar("T")
Isolation = Literal["kernel", "python", "none"]

_IN_HOME = ("data", "truth", "imported", "mlartifacts", "mlflow.db", "outbox")  # what tells labels
_MADE_IN_HOME = ("store", "jobs", "weights", "logs")  # what a task may need, and make later
_OF_PATHS = (  # audit events whose first argument is a path
    *("open", "os.listdir", "os.scandir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink"),
    *("os.chmod", "os.truncate", "sqlite3.connect"),
)
_OF_TWO_PATHS = ("os.rename", "os.link", "os.symlink")
_OF_MOVES = ("os.rename", "os.link")  # a folder that holds labels must stay where it is known to be
_OF_PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")

_WAIT_S = 1.0  # after which a signal that another thread has got is looked at

_isolation: contextvars.ContextVar[Isolation] = contextvars.ContextVar("isolation", default="none")
_refused: list[tuple[Path, ...]] = []  # of the tasks that run
_no_processes: set[int] = set()  # ids of the threads that may not start one
_hook_lock = threading.Lock()
_is_hooked = False


def isolation() -> Isolation:
    """Return what keeps this thread from reading labels.

    >>> isolation()
    'none'
    """
    return _isolation.get()


def label_places(workspaces: Sequence[Workspace]) -> tuple[Path, ...]:
    """Return the files and folders that tell labels of the data sets that are registered in ``workspaces``.

    Recordings in a folder that also holds the data home or code are left out: tasks read those.
    """
    places: dict[Path, None] = {}
    needed = [Path(entry).resolve() for entry in sys.path if entry]
    for workspace in workspaces:
        places |= dict.fromkeys(workspace.home.resolve() / name for name in _IN_HOME)
        needed.append(workspace.home.resolve())
        for name in catalog.names(workspace):
            places |= dict.fromkeys(catalog.recording_places(workspace, name))
    holding = {parent for path in needed for parent in (path, *path.parents)}
    return tuple(p for p in places if p not in holding and not any(parent in places for parent in p.parents))


def run_isolated(work: Callable[[], T], workspaces: Sequence[Workspace]) -> T:
    """Return what ``work`` returns, run in a thread that cannot read what tells labels of data sets.

    An interruption of the calling thread, such as Ctrl-C, ends the work.

    Parameters
    ----------
    work : called once
    workspaces : where data sets are registered
    """
    for workspace in workspaces:
        _make_folders(workspace)
    _enter_own_folder()
    places = label_places(workspaces)
    results: list[T] = []
    errors: list[BaseException] = []
    is_done = threading.Event()
    context = contextvars.copy_context()

    def isolated() -> None:
        try:
            held: Isolation = "kernel" if deny_reading(places) else "python"
            _isolation.set(held)
            if held == "python":
                _no_processes.add(threading.get_ident())
            results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            _no_processes.discard(threading.get_ident())
            is_done.set()

    thread = threading.Thread(target=context.run, args=(isolated,), name="isolated-task")
    with _refusing(places), catalog.hidden_paths():
        thread.start()
        errors += _interruptions(thread, is_done)  # after those of the work
    if errors:
        raise errors[0]
    return results[0]


def _interruptions(thread: threading.Thread, is_done: threading.Event) -> list[BaseException]:
    """Wait for a thread, pass interruptions of this one on to it, and return them."""
    interruptions: list[BaseException] = []
    while not is_done.is_set():
        try:
            is_done.wait(_WAIT_S)  # an interrupted join of Python 3.11 takes the thread for ended
        except BaseException as interruption:
            interruptions.append(interruption)
            kind = ctypes.py_object(type(interruption))
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), kind)
    thread.join()
    return interruptions


def _enter_own_folder() -> None:
    """Enter the folder that this process is in by its path.

    One that was entered in another mount namespace has to be searched for by whoever asks, and the kernel
    refuses to list what is above it.
    """
    with contextlib.suppress(OSError):  # it has been removed
        os.chdir(Path.cwd())


def _make_folders(workspace: Workspace) -> None:
    with contextlib.suppress(OSError):  # whoever needs them says what is wrong
        for name in _MADE_IN_HOME:
            (workspace.home / name).mkdir(parents=True, exist_ok=True)
        if workspace.job_storage.folder is not None:
            workspace.job_storage.folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _refusing(places: tuple[Path, ...]) -> Iterator[None]:
    """Let the audit hook refuse to open ``places``."""
    global _is_hooked
    with _hook_lock:
        if not _is_hooked:  # a hook cannot be removed
            sys.addaudithook(_audit)
            _is_hooked = True
    _refused.append(places)
    try:
        yield
    finally:
        _refused.remove(places)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _refused:
        return
    if event in _OF_PATHS:
        for path in args[: 2 if event in _OF_TWO_PATHS else 1]:
            if isinstance(path, str | bytes | os.PathLike) and _is_refused(path, event in _OF_MOVES):
                raise PermissionError(
                    f"{os.fsdecode(path)!r} tells labels, which no system may read while it trains or scores"
                )
    elif event in _OF_PROCESSES and threading.get_ident() in _no_processes:
        raise PermissionError(f"a system may not start a process while it trains or scores ({event})")


def _is_refused(path: str | bytes | os.PathLike[str], is_moved: bool = False) -> bool:
    """Whether a path leads into one of the places or, if it is moved, to a folder that holds one.

    A relative path may start at any open folder, which no audit event names: where the kernel refuses
    nothing, it is refused if it would lead there from a folder that holds a place.
    """
    text = os.fsdecode(path)
    try:
        real = os.path.realpath(text)
    except OSError:  # the folder of the process is out of its sight, as in another mount namespace
        real = text
    for place in (place for places in _refused for place in places):
        if _is_within(real, str(place)) or (is_moved and _is_within(str(place), real)):
            return True
        if _no_processes and any(_is_within(path, str(place)) for path in _from_holders(text, place)):
            return True
    return False


def _from_holders(text: str, place: Path) -> Iterator[str]:
    """Yield where a relative path leads from each folder that holds a place; nothing if it is absolute."""
    inner = os.path.normpath(text)
    while inner.startswith("../"):
        inner = inner[3:]
    if inner not in (".", "..") and not inner.startswith("/"):
        yield from (f"{str(parent).rstrip('/')}/{inner}" for parent in place.parents)


def _is_within(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")
