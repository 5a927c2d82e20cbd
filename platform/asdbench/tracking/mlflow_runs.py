"""Writing to MLflow: rows of leaderboards with a nested run for each seed, searches with one for each trial.

Idea: results live in the job store; MLflow gets a copy of finished ones. A row is one run that is updated in
place: the tags ``asdbench.key``, a hash of its identity, and ``asdbench.results``, a hash of its results,
tell whether it is already stored. Of two states of a row, that counts whose results were read later
(``asdbench.as_of_ns``). A run whose writing was interrupted is not FINISHED; a seed or trial is then deleted
and written again, a row is completed. `asdbench.tracking.search_writer` writes searches.

Conventions: a row that is no longer on the leaderboard is deleted as MLflow deletes: it can be restored
there.
`asdbench.tracking.rows` and `asdbench.tracking.searches` define the content of the records.

The environment, command line and user of the process are not recorded. MLflow's telemetry and messages are
off unless the user's environment sets them.

Source: MLflow 3, https://mlflow.org/docs/latest/ml/tracking.
"""

import logging
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asdbench
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.tracking.address import Address, without_password
from asdbench.tracking.database import alone_with_tables, is_conflict, one_transaction
from asdbench.tracking.logged_models import Export, NotExported, models_of, write_model
from asdbench.tracking.records import (
    AS_OF,
    CURRENT,
    KEY,
    KIND,
    RESULTS,
    SEED,
    STATE,
    STORE,
    BoardEntry,
    Entry,
    ModelEntry,
    RowEntry,
    RunRecord,
    TrialEntry,
)
from asdbench.tracking.run_writer import PARENT, RunWriter
from asdbench.tracking.search_writer import SearchWriter

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # its errors are reported by the recorder
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_PREFIX = "asdbench/"
_OF_STORE = f"tags.`{KIND}` = 'row' and tags.`{STORE}` = '{{}}'"
_DATABASE_ATTEMPTS = 4  # 1.1 s in all; MLflow's own ten attempts take 102 s


class NotWritten(Exception):
    """An entry could not be written to MLflow; the message gives the reason.

    Attributes
    ----------
    transient : whether a later attempt may succeed: the store is down, slow or locked
    of_store : whether the whole store does not respond, so that no other entry can be written either
    """

    def __init__(self, reason: str, *, transient: bool, of_store: bool) -> None:
        super().__init__(reason)
        self.transient = transient
        self.of_store = of_store


def set_environment() -> None:
    """Set the environment of MLflow, which reads it when it is imported.

    Variables are added before threads start: code in C that reads the environment meanwhile would crash.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


class Store:
    """The MLflow store at an address.

    Attributes
    ----------
    experiments : ids of the experiments written to, by name without ``asdbench/``
    """

    def __init__(self, address: Address, workspace: Workspace) -> None:
        self._address = address
        set_environment()
        import mlflow.store.db.utils
        from mlflow import MlflowClient

        mlflow.store.db.utils.MAX_RETRY_COUNT = _DATABASE_ATTEMPTS
        logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # Ray Tune may have imported it before
        self.experiments: dict[str, str] = {}
        with _failures(address, of_store=True), alone_with_tables(address.uri, workspace):
            self._client = MlflowClient(address.uri)
        self._runs = RunWriter(self._client)
        self._searches = SearchWriter(self._client, self._runs)

    def write(self, entries: Sequence[Entry]) -> None:
        """Write the entries of one group, the oldest first; what is already stored stays unchanged.

        Only one process may call this for a group at a time. Of several entries of a row or a board, the one
        whose results were read last counts.

        Raises
        ------
        NotWritten
            The store cannot be reached or written, or the experiment was deleted in it.
        """
        name = entries[-1].experiment
        with _failures(self._address, of_store=True):
            experiment = self._experiment(name)
        with _failures(self._address, of_store=False):
            try:
                with one_transaction(self._client):
                    self._write_entries(experiment, entries)
            except Exception as error:
                self._searches.forget()
                if not is_conflict(error):
                    raise
                self._write_entries(experiment, entries)  # MLflow resolves it, in transactions of its own
        self.experiments[name] = experiment

    def write_model(self, entry: ModelEntry, export: Export) -> None:
        """Log the model of a row unless it is logged, if the row is stored with the results of the entry.

        Raises
        ------
        NotExported
            It cannot be exported.
        NotWritten
            As of `write`.
        """
        with _failures(self._address, of_store=True):
            experiment = self._experiment(entry.experiment)
        with _failures(self._address, of_store=False):
            for run in self._runs.runs_with(experiment, entry.key):
                if run.data.tags[RESULTS] == entry.results and PARENT not in run.data.tags:
                    write_model(self._client, run, entry, export)
        self.experiments[entry.experiment] = experiment

    def recorded_models(self, name: str, store: str) -> dict[str, str]:
        """Return a hash of what is recorded of the current model of each system, by system."""
        with _failures(self._address, of_store=True):
            existing = self._client.get_experiment_by_name(_PREFIX + name)
            models = models_of(self._client, str(existing.experiment_id), store) if existing else []
        current = [model for model in models if model.tags[CURRENT] == "true"]
        return {model.tags["asdbench.system"]: model.tags.get(STATE, "") for model in current}

    def recorded_experiments(self) -> dict[str, str]:
        """Return the ids of the platform's experiments by name, the last changed first."""
        with _failures(self._address, of_store=True):
            experiments = self._client.search_experiments(
                filter_string=f"name LIKE '{_PREFIX}%'", order_by=["last_update_time DESC"]
            )
        return {item.name.removeprefix(_PREFIX): str(item.experiment_id) for item in experiments}

    def recorded_rows(self, name: str, store: str) -> dict[str, str]:
        """Return the hash of the results of each row of a job store in an experiment, by key."""
        with _failures(self._address, of_store=True):
            existing = self._client.get_experiment_by_name(_PREFIX + name)
            if existing is None:
                return {}
            return {
                run.data.tags[KEY]: run.data.tags[RESULTS] if run.info.status == "FINISHED" else ""
                for run in self._runs.search(str(existing.experiment_id), _OF_STORE.format(store))
            }

    def _write_entries(self, experiment: str, entries: Sequence[Entry]) -> None:
        rows = [entry for entry in entries if isinstance(entry, RowEntry)]
        boards = [entry for entry in entries if isinstance(entry, BoardEntry)]
        trials = [entry for entry in entries if isinstance(entry, TrialEntry)]
        if rows:
            self._write_row(experiment, max(rows, key=lambda entry: int(entry.row.tags[AS_OF])))
        if boards:
            self._write_board(experiment, max(boards, key=lambda entry: entry.as_of_ns))
        if trials:
            self._searches.write(experiment, trials)

    def _experiment(self, experiment: str) -> str:
        """Return the id of an experiment, which is created if necessary."""
        name = _PREFIX + experiment
        existing = self._client.get_experiment_by_name(name)
        if existing is None:
            artifacts = self._address.artifacts
            location = None if artifacts is None else (artifacts / experiment).as_uri()
            kind = {
                "mlflow.experimentKind": "custom_model_development"
            }  # rather than one for chats and traces
            return str(self._client.create_experiment(name, artifact_location=location, tags=kind))
        if existing.lifecycle_stage == "deleted":
            raise InputError(
                f"the MLflow experiment {name!r} was deleted; "
                f"restore it with 'mlflow experiments restore --experiment-id {existing.experiment_id}'"
            )
        return str(existing.experiment_id)

    # Rows

    def _write_row(self, experiment: str, entry: RowEntry) -> None:
        """Bring a row and its seeds up to date, unless a later state of the row is stored."""
        tags = entry.row.tags
        existing = self._runs.runs_with(experiment, tags[KEY])
        parent = next((run for run in existing if PARENT not in run.data.tags), None)
        if parent is not None and parent.info.status == "FINISHED":
            stored = parent.data.tags
            if stored.get(RESULTS) == tags[RESULTS] or int(stored.get(AS_OF, 0)) > int(tags[AS_OF]):
                return
        if parent is not None and parent.data.metrics.keys() - {name for name, _, _ in entry.row.metrics}:
            self._runs.delete(existing)  # MLflow cannot remove a metric
            parent, existing = None, []
        if parent is None:
            parent = self._runs.create(experiment, entry.row)
        else:
            self._client.update_run(parent.info.run_id, status="RUNNING", name=entry.row.name)
        self._write_seeds(experiment, parent.info.run_id, entry.seeds, existing)
        self._runs.fill(parent.info.run_id, entry.row, known=parent.data)
        self._client.set_terminated(parent.info.run_id, entry.row.status, entry.row.ended_ms)

    def _write_seeds(
        self, experiment: str, parent: str, seeds: Sequence[RunRecord], existing: "Sequence[MlflowRun]"
    ) -> None:
        """Write the seeds that are not stored with these results, and delete those that they replace."""
        results = {seed.tags[SEED]: seed.tags[RESULTS] for seed in seeds}
        stored = set()
        for run in existing:
            tags = run.data.tags
            if PARENT not in tags:
                continue
            seed = tags[SEED]
            if run.info.status == "FINISHED" and tags[RESULTS] == results.get(seed) and seed not in stored:
                stored.add(seed)
            else:
                self._client.delete_run(run.info.run_id)
        for seed_record in seeds:
            if seed_record.tags[SEED] not in stored:
                self._runs.write(experiment, seed_record, parent)

    def _write_board(self, experiment: str, entry: BoardEntry) -> None:
        """Arrange an experiment, and delete the rows that are no longer on its leaderboard."""
        tags = self._client.get_experiment(experiment).tags
        if int(tags.get(AS_OF, 0)) > entry.as_of_ns:
            return
        self._runs.arrange(experiment, tags, {**entry.tags, AS_OF: str(entry.as_of_ns)})
        keys = set(entry.keys)
        for run in self._runs.search(experiment, _OF_STORE.format(entry.store)):
            if run.data.tags[KEY] not in keys and int(run.data.tags.get(AS_OF, 0)) <= entry.as_of_ns:
                self._runs.delete(self._runs.runs_with(experiment, run.data.tags[KEY]))


def source_tags() -> dict[str, str]:
    """Return tags with the commit and state of asdbench's git checkout; empty if it is not in one."""
    package = Path(asdbench.__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package.parent), *arguments]
        return subprocess.run(command, capture_output=True, check=True, text=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", package.name)
        commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"mlflow.source.git.commit": commit, "asdbench.git_dirty": str(bool(changes)).lower()}


@contextmanager
def _failures(address: Address, *, of_store: bool) -> Iterator[None]:
    """Turn all errors of MLflow into `NotWritten`: the entry is kept, and the run must not stop."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    try:
        yield
    except NotExported:
        raise
    except InputError as error:
        raise NotWritten(str(error), transient=False, of_store=False) from error
    except Exception as error:
        if isinstance(error, MlflowException):
            status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
            transient = status >= 500 or status in (408, 429)  # time-out, too many requests
        else:
            transient = isinstance(error, OSError | OperationalError)
        reason = f"the MLflow store {address.shown} does not accept them ({_reason(error)})"
        raise NotWritten(reason, transient=transient, of_store=of_store) from error


def _reason(error: BaseException) -> str:
    """Return the cause in one line: the innermost operating system error, such as "Connection refused"."""
    reason: BaseException | None = error
    innermost = error
    while reason is not None:
        innermost = reason if isinstance(reason, OSError) else innermost
        reason = reason.__cause__ or reason.__context__
    return without_password(str(innermost).strip().partition("\n")[0])
