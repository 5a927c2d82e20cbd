"""The state of a run for ``asdbench status``: what is collected, the time that is left, and who writes it."""

import logging
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from asdbench.engine.run_record import (
    NodeStatus,
    Retry,
    RunningTask,
    RunStatus,
    SchedulerStatus,
    SearchStatus,
    exists,
    name_of,
    remove_run,
    remove_stale_runs,
    save_run,
)
from asdbench.errors import InfrastructureError
from asdbench.io.retry import retry_until_stored
from asdbench.io.storage import Storage

N_KEPT = 20  # retries and notes
_PERIOD_S = 2.0
_CLEANING_PERIOD_S = 30.0
_CLOSING_PATIENCE_S = 10.0  # for a storage that hangs at the end of a run

logger = logging.getLogger(__name__)


class RunMonitor:
    """Collects what becomes known of a run besides the state of its tasks.

    Parameters
    ----------
    run : the run at its start, by default this process with its command line

    Examples
    --------
    >>> monitor = RunMonitor(RunStatus.from_command("asdbench tune mine --data tiny --trials 8"))
    >>> monitor.update_search("mine", done=2, trials=8, running=2, best=None, untuned=0.6)
    >>> counts = {"waiting": 1, "done": 2, "failed": 0, "features": 0}
    >>> status = monitor.status({**counts, "running": [], "nodes": [], "retries": []})
    >>> status.waiting, status.searches[0].trials
    (1, 8)
    """

    def __init__(self, run: RunStatus | None = None) -> None:
        self.run = run or RunStatus.from_command(typed_command())
        self._searches: dict[str, SearchStatus] = {}
        self._notes: tuple[str, ...] = ()

    def add_note(self, message: str) -> None:
        """Add something that the user should know, with the time, since it may be over when it is read."""
        self._notes = (*self._notes, f"{time.strftime('%H:%M:%S')} {message}")[-N_KEPT:]

    def update_search(
        self,
        name: str,
        *,
        done: int,
        trials: int,
        running: int,
        best: float | None,
        untuned: float | None,
    ) -> None:
        """Note the state of a search; the first call says how many trials had ended before this run.

        Parameters are those of :meth:`asdbench.driver.progress.ProgressDisplay.update_search`.
        """
        first = self._searches.get(name)
        began_unix_s, done_before = (first.began_unix_s, first.done_before) if first else (time.time(), done)
        self._searches[name] = SearchStatus(
            name, done, trials, running, best, untuned, began_unix_s, done_before
        )

    def status(self, scheduler: SchedulerStatus) -> RunStatus:
        """Return the state of the run, given that of its tasks."""
        return status_from(
            scheduler, tuple(self._searches.values()), run=self.run, notes=self._notes, now_unix_s=time.time()
        )


class LocalTasks:
    """The state of tasks that run one after the other in this process.

    Parameters
    ----------
    n_tasks : number of all

    Examples
    --------
    >>> tasks = LocalTasks(3)
    >>> tasks.note_progress("fan mine seed 0", 10, 100)
    >>> tasks.note_end(is_failed=False)
    >>> tasks.note_progress("valve mine seed 0", 50, 100)
    >>> tasks.status()["waiting"], tasks.status()["done"], tasks.status()["running"][0]["label"]
    (1, 1, 'valve mine seed 0')
    """

    def __init__(self, n_tasks: int) -> None:
        self._n_tasks = n_tasks
        self._n_done = self._n_failed = 0
        self._done_s = 0.0
        self._began_unix_s = time.time()
        self._running: RunningTask | None = None

    def note_progress(self, label: str, step: int, steps: int) -> None:
        """Note the finished steps, and the number of all, of the task that runs."""
        host, since = socket.gethostname(), self._began_unix_s
        self._running = RunningTask(label, host, "", since, step, steps)

    def note_end(self, *, is_failed: bool) -> None:
        """Note that the task that runs has ended."""
        now = time.time()
        if is_failed:
            self._n_failed += 1
        else:
            self._n_done += 1
            self._done_s += now - self._began_unix_s
        self._began_unix_s, self._running = now, None

    def status(self) -> SchedulerStatus:
        """Return the state as the scheduler of a cluster would."""
        running = [] if self._running is None else [msgspec.to_builtins(self._running)]
        return {
            "waiting": self._n_tasks - self._n_done - self._n_failed - len(running),
            "done": self._n_done,
            "done_s": self._done_s,
            "failed": self._n_failed,
            "features": 0,
            "running": running,
            "nodes": [],
            "retries": [],
        }


def status_from(
    scheduler: SchedulerStatus,
    searches: Sequence[SearchStatus] = (),
    *,
    run: RunStatus,
    notes: Sequence[str] = (),
    now_unix_s: float,
) -> RunStatus:
    """Return the state of a run.

    Parameters
    ----------
    scheduler : the state of its tasks
    searches, notes : of the run so far
    run : the run at its start
    now_unix_s : the time

    Raises
    ------
    msgspec.ValidationError
        The scheduler's data lacks a field or has an unknown one.
    """
    submitted = msgspec.convert(scheduler["running"], tuple[RunningTask, ...])
    running = tuple(task for task in submitted if task.host)
    n_waiting = scheduler["waiting"] + len(submitted) - len(running)
    n_done, done_s = scheduler["done"], scheduler.get("done_s")
    left_s = [
        tasks_left_s(
            running,
            n_waiting=n_waiting,
            mean_s=done_s / n_done if n_done and done_s else None,
            now_unix_s=now_unix_s,
        ),
        *(search_left_s(search, now_unix_s) for search in searches),
    ]
    known_s = [seconds for seconds in left_s if seconds is not None]
    return msgspec.structs.replace(
        run,
        heartbeat_unix_s=now_unix_s,
        waiting=n_waiting,
        done=n_done,
        failed=scheduler["failed"],
        features=scheduler["features"],
        running=running,
        nodes=msgspec.convert(scheduler["nodes"], tuple[NodeStatus, ...]),
        retries=msgspec.convert(scheduler["retries"], tuple[Retry, ...])[-N_KEPT:],
        searches=tuple(searches),
        left_s=max(known_s) if len(known_s) == len(left_s) else None,
        notes=tuple(notes)[-N_KEPT:],
    )


def tasks_left_s(
    running: Sequence[RunningTask], *, n_waiting: int, mean_s: float | None, now_unix_s: float
) -> float | None:
    """Estimate how long the tasks of a run still take, if nothing else is asked for.

    As many tasks go on at the same time as run now. A running task that reports its steps takes as long as
    these predict, another one as long as the mean.

    Parameters
    ----------
    running : the tasks that run
    n_waiting : number of tasks that wait
    mean_s : mean duration of the tasks that are done, ``None`` if none is
    now_unix_s : the time

    Returns
    -------
    float or None
        Seconds; ``None`` if nothing tells how long a task takes, or if tasks wait and none runs.

    Examples
    --------
    >>> tasks = [RunningTask("fan", "gpu1", "1", since_unix_s=80.0, step=20, steps=100)] * 2
    >>> tasks_left_s(tasks, n_waiting=4, mean_s=100.0, now_unix_s=100.0)  # (2 * 80 + 4 * 100) / 2
    280.0
    """
    if not running:
        return None if n_waiting else 0.0
    totals_s = [_predicted_s(task, now_unix_s) or mean_s for task in running]
    known_s = [seconds for seconds in totals_s if seconds is not None]
    if not known_s:
        return None
    usual_s = mean_s or sum(known_s) / len(known_s)
    rest_s = [
        max((total_s or usual_s) - (now_unix_s - task.since_unix_s), 0.0)
        for task, total_s in zip(running, totals_s, strict=True)
    ]
    return max((sum(rest_s) + n_waiting * usual_s) / len(running), *rest_s)


def search_left_s(search: SearchStatus, now_unix_s: float) -> float | None:
    """Estimate how long a search still takes, from the trials that have ended in this run.

    Returns
    -------
    float or None
        Seconds; ``None`` before the first trial has ended.

    Examples
    --------
    >>> search = SearchStatus("mine", 6, 20, 2, None, None, began_unix_s=100.0, done_before=4)
    >>> search_left_s(search, now_unix_s=160.0)  # 30 s per trial, 14 trials
    420.0
    """
    if search.done >= search.trials:
        return 0.0
    n_ended = search.done - search.done_before
    if n_ended <= 0:
        return None
    return (search.trials - search.done) * (now_unix_s - search.began_unix_s) / n_ended


def typed_command() -> str:
    """Return the command line of this process; passwords in URIs are left out."""
    program = Path(sys.argv[0])
    is_script = program.suffix == ".py" and program.name != "__main__.py"  # such as sweeps/all_types.py
    start = ["python", str(program)] if is_script else ["asdbench"]
    return shlex.join([*start, *map(_without_password, sys.argv[1:])])


class StatusWriter:
    """Writes the state of a run to the job store every two seconds; a context manager.

    The first record is written on entering, since workers look for it. From then on a fault of the storage or
    of ``status`` is logged and ends nothing: the next write may succeed. The file is removed at the end.

    Parameters
    ----------
    root : the storage of the job store
    run : the run at its start
    status : returns its state; called in a thread

    Raises
    ------
    StorageError
        On entering: the storage cannot be written. Full and unreachable ones are waited for.
    """

    def __init__(self, root: Storage, run: RunStatus, status: Callable[[], RunStatus]) -> None:
        self._root = root
        self._run = run
        self._status = status
        self._latest = run
        self._ended = threading.Event()
        self._is_lost = False
        self._problems: set[str] = set()

    def __enter__(self) -> Self:
        retry_until_stored(self._begin, on_wait=logger.warning, transient_only=True)
        self._thread = threading.Thread(target=self._keep_writing, name="run status", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(_CLOSING_PATIENCE_S)
        if not self._thread.is_alive():  # else the storage hangs
            self._attempt(lambda: remove_run(self._root, self._run.run_id))

    def check(self) -> None:
        """Check that the storage is still the one that the run began with.

        Raises
        ------
        InfrastructureError
            The file of the run is gone.
        """
        if self._is_lost:
            raise InfrastructureError(
                f"{self._root}/{name_of(self._run.run_id)}, which this run wrote at its start, is gone: the "
                f"storage was removed or replaced during the run; bring it back, then run the same command "
                f"again to resume"
            )

    def _begin(self) -> None:
        remove_stale_runs(self._root)
        save_run(self._root, self._run)

    def _keep_writing(self) -> None:
        cleaned_s = time.monotonic()
        while not self._ended.wait(_PERIOD_S):
            self._attempt(self._update)
            self._attempt(self._write)
            if time.monotonic() - cleaned_s >= _CLEANING_PERIOD_S:
                cleaned_s = time.monotonic()
                self._attempt(lambda: remove_stale_runs(self._root))

    def _update(self) -> None:
        self._latest = self._status()

    def _write(self) -> None:
        status = msgspec.structs.replace(self._latest, heartbeat_unix_s=time.time())
        # A file that is gone is not made again: in an empty folder it would make the storage look right.
        self._is_lost = not exists(self._root, self._run.run_id)
        if not self._is_lost:
            save_run(self._root, status)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            if str(error) not in self._problems:  # each once
                self._problems.add(str(error))
                logger.warning("cannot update what 'asdbench status' shows: %s", error)


def _predicted_s(task: RunningTask, now_unix_s: float) -> float | None:
    """Return how long a task takes in total if its next steps are as fast as the finished ones."""
    if not task.step or not task.steps:
        return None
    return (now_unix_s - task.since_unix_s) * task.steps / task.step


def _without_password(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{Storage(value)}" if "://" in value else word
