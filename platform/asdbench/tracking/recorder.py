"""The recorder: results go to MLflow beside the work, and wait in the outbox while they cannot.

Idea: what is to be recorded is on the disk before anything is tried, and a thread of its own delivers it, so
that a server that is down, slow or silent holds nobody up and nothing is lost: it goes on trying, a later
command that records delivers what is left, and so does `deliver`. A kill at any time leaves an entry that is
delivered again; what MLflow holds already is not written twice.

Conventions: an entry is delivered to where ``MLFLOW_TRACKING_URI`` points when it is delivered, which may be
another place than when it was put there: an outbox holds no address and no secret.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.tracking.mlflow_runs import NotWritten, Store, shown_uri, source_tags
from asdbench.tracking.outbox import Outbox
from asdbench.tracking.runs import OutboxEntry, Run, SearchRecord, TrialRecord, trial_entry

Progress = Callable[[int, int], None]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _LONGEST_PAUSE_CLOSING_S = 1.0, 60.0, 5.0


@dataclass(frozen=True)
class Undelivered:
    """What is not recorded yet.

    Attributes
    ----------
    entries : number of entries
    why : one sentence that says why, where they are and what delivers them; empty without entries
    """

    entries: int = 0
    why: str = ""


class Recorder:
    """Records runs and trials in the background; begins with what earlier commands have left.

    Nothing that goes wrong with MLflow raises: it is told by what `close` returns. Several recorders, of this
    and other processes, may share a data home. What is not closed ends with the process.

    Parameters
    ----------
    workspace
        Its home holds the outbox, and the MLflow store unless the environment names another.
    first_pause_s : float
        Seconds until a second attempt; they double with every one that fails, up to a minute.
    """

    def __init__(self, workspace: Workspace, *, first_pause_s: float = _FIRST_PAUSE_S) -> None:
        self._first_pause_s = first_pause_s
        self._delivery = _Delivery(workspace)
        self._state = threading.Condition()
        self._news = bool(self._delivery.outbox.names())
        self._closing = self._hurry = self._stopped = self._settled = False
        self._thread = threading.Thread(target=self._run, name="asdbench recorder", daemon=True)
        self._thread.start()

    @property
    def experiments(self) -> Mapping[str, str]:
        """The ids of the experiments written to so far, by their names without ``asdbench/``."""
        return dict(self._delivery.experiments)

    def put(self, run: Run) -> None:
        """Record a run; one that is recorded already stays as it is, one with other results is replaced."""
        self._put(run.entry(self._source))

    def put_trial(self, search: SearchRecord, trial: TrialRecord) -> None:
        """Record a trial of a search; one that is recorded already stays as it is.

        The search's name, metrics and number of trials are brought up to it.
        """
        self._put(trial_entry(search, trial, self._source))

    def close(self, *, patience_s: float = 30.0) -> Undelivered:
        """Wait until all is recorded, at most ``patience_s`` seconds, then leave the rest in the outbox.

        What was refused for a reason that does not pass is not waited for.
        """
        with self._state:
            self._closing = self._hurry = True
            self._state.notify_all()
            self._state.wait_for(lambda: self._settled, timeout=patience_s)
            self._stopped = True
            self._state.notify_all()
        if self._settled:
            self._thread.join()
        return self._delivery.left()

    @cached_property
    def _source(self) -> dict[str, str]:
        return source_tags()

    def _put(self, entry: OutboxEntry) -> None:
        self._delivery.outbox.put(entry)
        with self._state:
            self._news = True
            self._state.notify_all()

    def _run(self) -> None:
        """Deliver what is there whenever there is news, and after a pause what could not be delivered."""
        pause_s: float | None = None
        while self._wait(pause_s):
            with self._state:
                closing, self._news = self._closing, False
            delivered, again = self._delivery.attempt(until=lambda: self._stopped)
            with self._state:
                if closing and not (again or self._news):
                    self._settled = True
                    self._state.notify_all()
                    return
                if not again:
                    pause_s = None
                elif pause_s is None or delivered or self._closing > closing:
                    pause_s = self._first_pause_s
                else:
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_CLOSING_S if closing else _LONGEST_PAUSE_S)

    def _wait(self, pause_s: float | None) -> bool:
        """Wait for what is to be done next, where there is a pause at most so long; ``False`` is the end."""
        with self._state:
            self._state.wait_for(
                lambda: self._stopped or self._hurry or (self._news and pause_s is None), timeout=pause_s
            )
            self._hurry = False
            return not self._stopped


def deliver(workspace: Workspace, *, progress: Progress | None = None) -> tuple[int, Undelivered]:
    """Try once to deliver what is in the outbox; returns how many entries are, and what is left.

    ``progress`` is called after each group of entries with the number done and the number of all.
    """
    delivery = _Delivery(workspace)
    delivered, _ = delivery.attempt(progress=progress)
    return delivered, delivery.left()


class _Delivery:
    """Attempts at delivering the entries of the data home's outbox."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.outbox = Outbox(workspace.home / "outbox")
        self.experiments: dict[str, str] = {}
        self._refused: set[str] = set()  # not to be tried again here
        self._reasons: dict[str, str] = {}

    def attempt(
        self, *, progress: Progress | None = None, until: Callable[[], bool] = lambda: False
    ) -> tuple[int, bool]:
        """Try every entry once, the oldest first, ``until`` that says so.

        Returns how many entries were delivered, and whether another attempt may deliver more.
        """
        again = self.outbox.flush() > 0
        groups = {
            group: wanted
            for group, names in self.outbox.groups().items()
            if (wanted := [name for name in names if name not in self._refused])
        }
        waiting = [name for names in groups.values() for name in names]
        if not waiting:
            return 0, again
        delivered = done = 0
        try:
            store = Store(self._workspace)
            for group, names in groups.items():
                if until():
                    break
                try:
                    delivered += self._deliver(store, group, names)
                except NotWritten as error:
                    if error.of_store:
                        raise
                    self._reasons |= dict.fromkeys(names, str(error))
                    if error.transient:
                        again = True
                    else:
                        self._refused.update(names)
                done += len(names)
                if progress is not None:
                    progress(done, len(waiting))
        except NotWritten as error:
            self._reasons |= dict.fromkeys(waiting, str(error))
            again = again or error.transient
        return delivered, again

    def left(self) -> Undelivered:
        """Return what is not delivered yet."""
        unwritten, names = self.outbox.flush(), self.outbox.names()
        entries = len(names) + unwritten
        if not entries:
            return Undelivered()
        default = f"the MLflow store {shown_uri(self._workspace)} has not taken them yet"
        reason = next((self._reasons[name] for name in names if name in self._reasons), default)
        what = "1 result is" if entries == 1 else f"{entries} results are"
        cure = (
            f"{str(self.outbox.folder)!r} cannot be written either, so the same command records them again"
            if unwritten
            else f"what is in {str(self.outbox.folder)!r} is delivered by 'asdbench record' or the next run"
        )
        return Undelivered(entries, f"{what} not in MLflow, as {reason}; {cure}")

    def _deliver(self, store: Store, group: str, names: Sequence[str]) -> int:
        """Write a group's entries and remove them; returns their number."""
        try:
            with self.outbox.alone(group) as mine:
                if not mine:
                    raise NotWritten("another process is recording them", transient=True, of_store=False)
                entries = {}
                for name in names:
                    try:
                        entry = self.outbox.read(name)
                    except InputError as error:
                        self._refused.add(name)
                        self._reasons[name] = str(error)
                    else:
                        if entry is not None:  # another process may have recorded it
                            entries[name] = entry
                if entries:
                    store.write(list(entries.values()))
                    self.experiments |= store.experiments
                    self.outbox.remove(entries)
                return len(entries)
        except OSError as error:
            reason = f"the outbox {str(self.outbox.folder)!r} cannot be used ({error.strerror})"
            raise NotWritten(reason, transient=True, of_store=False) from error
