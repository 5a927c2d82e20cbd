"""The recorder: writes results to MLflow in the background and keeps them in the outbox until then.

Idea: an entry is on disk before its first delivery, and a separate thread delivers it. A server that is down,
slow or silent therefore neither delays a run nor loses a result: the recorder retries, a later command that
records delivers the rest, and so does `deliver`. A process killed at any time leaves an entry that is
delivered again; MLflow never gets a run twice.

Conventions: an entry is delivered to the store that the command of the delivery names, so the outbox contains
neither addresses nor secrets.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.tracking.address import Address
from asdbench.tracking.mlflow_runs import NotWritten, Store, source_tags
from asdbench.tracking.outbox import Outbox
from asdbench.tracking.records import Entry
from asdbench.tracking.searches import SearchRecord, TrialRecord, trial_entry

Progress = Callable[[int, int], None]

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _LONGEST_PAUSE_CLOSING_S = 1.0, 60.0, 5.0


@dataclass(frozen=True)
class Undelivered:
    """The entries that are not recorded yet.

    Attributes
    ----------
    entries : number of entries
    why : one sentence with the reason, their location and the command to deliver them; empty without entries
    """

    entries: int = 0
    why: str = ""


class Recorder:
    """A recorder of rows and trials in the background, which first delivers what earlier commands have left.

    Failures of MLflow never raise; `close` returns them. Several recorders, in this and other processes, may
    share a data home. A recorder that is not closed ends with the process.

    Parameters
    ----------
    workspace
        Its home holds the outbox, and the MLflow store unless another is named.
    address : Address, optional
        The MLflow store; by default that of the environment or of the home.
    first_pause_s : float
        Seconds before the second attempt; the pause doubles with every failure, up to a minute.
    """

    def __init__(
        self, workspace: Workspace, address: Address | None = None, *, first_pause_s: float = _FIRST_PAUSE_S
    ) -> None:
        self.address = address or Address.from_workspace(workspace)
        self._first_pause_s = first_pause_s
        self._delivery = _Delivery(workspace, self.address)
        self._state = threading.Condition()
        self._has_new = bool(self._delivery.outbox.names())
        self._closing = self._retry_now = self._stopped = self._settled = False
        self._thread = threading.Thread(target=self._run, name="asdbench recorder", daemon=True)
        self._thread.start()

    @property
    def experiments(self) -> Mapping[str, str]:
        """The ids of the experiments written to so far, by their names without ``asdbench/``."""
        return dict(self._delivery.experiments)

    def put(self, entry: Entry) -> None:
        """Record a row of a leaderboard, which updates the one that is recorded, or what surrounds it."""
        self._delivery.outbox.put(entry)
        with self._state:
            self._has_new = True
            self._state.notify_all()

    def put_trial(self, search: SearchRecord, trial: TrialRecord) -> None:
        """Record a trial of a search and update the search; a trial that is already recorded is kept."""
        self.put(trial_entry(search, trial, self.source))

    def close(self, *, patience_s: float = 30.0) -> Undelivered:
        """Wait at most ``patience_s`` seconds until all is recorded; the rest stays in the outbox.

        Entries that failed for a permanent reason are not waited for.
        """
        with self._state:
            self._closing = self._retry_now = True
            self._state.notify_all()
            self._state.wait_for(lambda: self._settled, timeout=patience_s)
            self._stopped = True
            self._state.notify_all()
        if self._settled:
            self._thread.join()
        return self._delivery.undelivered()

    @cached_property
    def source(self) -> Mapping[str, str]:
        """Tags that identify the code."""
        return source_tags()

    def _run(self) -> None:
        """Deliver new entries at once, and retry failed ones after a pause."""
        pause_s: float | None = None
        while self._wait(pause_s):
            with self._state:
                closing, self._has_new = self._closing, False
            delivered, again = self._delivery.attempt(until=lambda: self._stopped)
            with self._state:
                if closing and not (again or self._has_new):
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
        """Wait for new entries or for the end of a pause; return ``False`` if the recorder is stopped."""
        with self._state:
            self._state.wait_for(
                lambda: self._stopped or self._retry_now or (self._has_new and pause_s is None),
                timeout=pause_s,
            )
            self._retry_now = False
            return not self._stopped


def outbox_folder(workspace: Workspace) -> Path:
    """Return the folder of the outbox of a data home."""
    return workspace.home / "outbox"


def deliver(
    workspace: Workspace, address: Address | None = None, *, progress: Progress | None = None
) -> tuple[int, Undelivered]:
    """Try once to deliver the entries in the outbox; return how many were delivered, and the rest.

    ``progress`` is called after each group of entries with the number of finished entries and of all.
    """
    delivery = _Delivery(workspace, address or Address.from_workspace(workspace))
    delivered, _ = delivery.attempt(progress=progress)
    return delivered, delivery.undelivered()


class _Delivery:
    """Attempts to deliver the entries in the outbox of a data home."""

    def __init__(self, workspace: Workspace, address: Address) -> None:
        self._workspace = workspace
        self._address = address
        self.outbox = Outbox(outbox_folder(workspace))
        self.experiments: dict[str, str] = {}
        self._store: Store | None = None
        self._refused: set[str] = set()  # failed for a permanent reason
        self._reasons: dict[str, str] = {}

    def attempt(
        self, *, progress: Progress | None = None, until: Callable[[], bool] = lambda: False
    ) -> tuple[int, bool]:
        """Try every entry once, the oldest first; stop early if ``until`` returns true.

        Return how many entries were delivered, and whether another attempt may deliver more.
        """
        again = self.outbox.flush() > 0
        groups = {
            group: pending
            for group, names in self.outbox.groups().items()
            if (pending := [name for name in names if name not in self._refused])
        }
        waiting = [name for names in groups.values() for name in names]
        if not waiting:
            return 0, again
        delivered = done = 0
        try:
            store = self._connected()
            for group, names in groups.items():
                if until():
                    break
                try:
                    delivered += self._deliver(store, group, names)
                except NotWritten as error:
                    if error.of_store:
                        raise
                    self._note_failure(names, error)
                    if error.transient:
                        again = True
                    else:
                        self._refused.update(names)
                done += len(names)
                if progress is not None:
                    progress(done, len(waiting))
        except NotWritten as error:
            self._store = None
            self._note_failure(waiting, error)
            again = again or error.transient
        logger.debug("delivered %d of %d entries to MLflow", delivered, len(waiting))
        return delivered, again

    def _connected(self) -> Store:
        if self._store is None:
            self._store = Store(self._address, self._workspace)
        return self._store

    def _note_failure(self, names: Sequence[str], error: Exception) -> None:
        logger.info("could not deliver %d entries to MLflow: %s", len(names), error)
        self._reasons |= dict.fromkeys(names, str(error))

    def undelivered(self) -> Undelivered:
        """Return the entries that are not delivered yet."""
        unwritten, names = self.outbox.flush(), self.outbox.names()
        entries = len(names) + unwritten
        if not entries:
            return Undelivered()
        default = f"the MLflow store {self._address.shown} has not accepted them yet"
        reason = next((self._reasons[name] for name in names if name in self._reasons), default)
        subject = "1 record is" if entries == 1 else f"{entries} records are"
        cure = (
            f"{str(self.outbox.folder)!r} cannot be written either, so repeat the command to record them"
            if unwritten
            else f"the next run or 'asdbench record' delivers them from {str(self.outbox.folder)!r}"
        )
        return Undelivered(entries, f"{subject} not in MLflow because {reason}; {cure}")

    def _deliver(self, store: Store, group: str, names: Sequence[str]) -> int:
        """Write the entries of a group and remove them; return their number."""
        try:
            with self.outbox.lock_group(group) as is_locked:
                if not is_locked:
                    raise NotWritten("another process is recording them", transient=True, of_store=False)
                entries = {}
                for name in names:
                    try:
                        entry = self.outbox.read(name)
                    except InputError as error:
                        self._refused.add(name)
                        self._note_failure([name], error)
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
