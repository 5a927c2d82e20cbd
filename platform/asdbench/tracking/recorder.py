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
from asdbench.tracking.logged_models import Export, NotExported
from asdbench.tracking.mlflow_runs import NotWritten, Store, set_environment, source_tags
from asdbench.tracking.outbox import Outbox
from asdbench.tracking.records import MODEL_GROUP, Entry, ModelEntry
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
    not_exported : one sentence about the models that could not be exported, empty if there are none; nothing
        of them is left
    """

    entries: int = 0
    why: str = ""
    not_exported: str = ""


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
    export : Export, optional
        Exports models; without it they stay in the outbox. It is called while the recorder is closed, so that
        it does not compete with trainings.
    first_pause_s : float
        Seconds before the second attempt; the pause doubles with every failure, up to a minute.
    """

    def __init__(
        self,
        workspace: Workspace,
        address: Address | None = None,
        *,
        export: Export | None = None,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        self.address = address or Address.from_workspace(workspace)
        self._first_pause_s = first_pause_s
        self._delivery = _Delivery(workspace, self.address, export)
        self._state = threading.Condition()
        self._has_new = bool(self._delivery.outbox.names())
        self._closing = self._retry_now = self._stopped = self._settled = False
        set_environment()
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
            delivered, again = self._delivery.attempt(models=closing, until=lambda: self._stopped)
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
    workspace: Workspace,
    address: Address | None = None,
    *,
    export: Export | None = None,
    progress: Progress | None = None,
) -> tuple[int, Undelivered]:
    """Try once to deliver the entries in the outbox; return how many were delivered, and the rest.

    Models are delivered if ``export`` is given. ``progress`` is called after each group of entries with the
    number of finished entries and of all.
    """
    delivery = _Delivery(workspace, address or Address.from_workspace(workspace), export)
    delivered, _ = delivery.attempt(models=True, progress=progress)
    # each entry that was there is delivered now or has a reason why not, so any other one is new
    return delivered, delivery.undelivered("another process has just added them and is recording them")


class _Delivery:
    """Attempts to deliver the entries in the outbox of a data home."""

    def __init__(self, workspace: Workspace, address: Address, export: Export | None) -> None:
        self._workspace = workspace
        self._address = address
        self._export = export
        self.outbox = Outbox(outbox_folder(workspace))
        self.experiments: dict[str, str] = {}
        self._store: Store | None = None
        self._refused: set[str] = set()  # failed for a permanent reason
        self._reasons: dict[str, str] = {}
        self._not_exported: dict[str, str] = {}  # name of the model to reason

    def attempt(
        self, *, models: bool, progress: Progress | None = None, until: Callable[[], bool] = lambda: False
    ) -> tuple[int, bool]:
        """Try every entry once, the oldest first, but models last; stop early if ``until`` returns true.

        Models are left out unless ``models`` is true, and wait until all rows have been delivered. Return
        how many entries were delivered, and whether another attempt may deliver more.
        """
        again = self.outbox.flush() > 0
        groups = {
            group: pending
            for group, names in sorted(self.outbox.groups().items(), key=lambda item: _is_model(item[0]))
            if (self._export and models) or not _is_model(group)
            if (pending := [name for name in names if name not in self._refused])
        }
        waiting = [name for names in groups.values() for name in names]
        if not waiting:
            return 0, again
        delivered = done = 0
        try:
            store = self._connected()
            for group, names in groups.items():
                if until() or (again and _is_model(group)):
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

    def undelivered(self, default: str | None = None) -> Undelivered:
        """Return the entries that are not delivered yet; ``default`` is the reason if none is known."""
        unwritten, names = self.outbox.flush(), self.outbox.names()
        entries = len(names) + unwritten
        if not entries:
            return Undelivered(not_exported=self._why_not_exported())
        default = default or f"the MLflow store {self._address.shown} has not accepted them yet"
        reason = next((self._reasons[name] for name in names if name in self._reasons), default)
        subject = "1 record is" if entries == 1 else f"{entries} records are"
        cure = (
            f"{str(self.outbox.folder)!r} cannot be written either, so repeat the command to record them"
            if unwritten
            else f"the next run or 'asdbench record' delivers them from {str(self.outbox.folder)!r}"
        )
        why = f"{subject} not in MLflow because {reason}; {cure}"
        return Undelivered(entries, why, self._why_not_exported())

    def _why_not_exported(self) -> str:
        if not self._not_exported:
            return ""
        (name, reason), *others = self._not_exported.items()
        more = f", and {len(others)} more," if others else ""
        return (
            f"the model {name}{more} cannot be exported to MLflow because {reason}; "
            "'asdbench record' tries again"
        )

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
                written = self._write(store, list(entries.values())) if entries else 0
                if entries:
                    self.experiments |= store.experiments
                    self.outbox.remove(entries)
                return written
        except OSError as error:
            reason = f"the outbox {str(self.outbox.folder)!r} cannot be used ({error.strerror})"
            raise NotWritten(reason, transient=True, of_store=False) from error

    def _write(self, store: Store, entries: Sequence[Entry]) -> int:
        """Write entries of one group and return their number; note why a model cannot be exported."""
        models = [entry for entry in entries if isinstance(entry, ModelEntry)]
        if not models or self._export is None:
            store.write(entries)
            return len(entries)
        newest = max(models, key=lambda entry: entry.as_of_ns)
        try:
            store.write_model(newest, self._export)
        except NotExported as error:
            logger.info("could not export a model", exc_info=True)
            self._not_exported[f"{newest.system} of data set {newest.data!r}"] = str(error)
            return 0
        return len(entries)


def _is_model(group: str) -> bool:
    return group.startswith(MODEL_GROUP)
