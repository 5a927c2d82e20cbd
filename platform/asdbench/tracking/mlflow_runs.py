"""Writing to MLflow: runs with a nested run for each machine type, searches with one for each trial.

Idea: results live in the job store; MLflow gets a copy of finished results. A run is written at once and only
once: the tags ``asdbench.key``, a hash of the identity of the run, and ``asdbench.results``, a hash of the
keys of its results, show whether it is already stored. A run whose writing was interrupted is not FINISHED;
it is deleted and written again. A search grows: its outer run is kept and new trials are added. Its metrics
are ``best_score`` and ``default_score`` of the finished trials and ``trials_complete``, ``trials_pruned``,
``trials_failed``, each with the number of trials as step.

Conventions: a pruned trial is KILLED, a failed one FAILED; a search is RUNNING until all requested trials are
stored. `asdbench.tracking.runs` defines the content of the records.

The environment, command line and user of the process are not recorded. MLflow's telemetry and messages are
off unless the user's environment sets them.

Source: MLflow 3, https://mlflow.org/docs/latest/ml/tracking.
"""

import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import asdbench
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.tracking.database import alone_with_tables, is_conflict, one_transaction
from asdbench.tracking.runs import IS_DEFAULT, KEY, RESULTS, TRIAL, TRIALS, OutboxEntry, RunRecord

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput
    from mlflow.entities import Run as MlflowRun

_PARENT = "mlflow.parentRunId"
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # its errors are reported by the recorder
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_PORT = 5000
_LOCAL_UI = f"http://127.0.0.1:{_PORT}"
_DATABASE_ATTEMPTS = 4  # 1.1 s in all; MLflow's own ten attempts take 102 s
_SOURCE = {"mlflow.source.name": "asdbench", "mlflow.source.type": "LOCAL"}
_STATES = {"FINISHED": "complete", "KILLED": "pruned", "FAILED": "failed"}


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


def tracking_uri(workspace: Workspace) -> str:
    """Return where runs are recorded: ``MLFLOW_TRACKING_URI``, or a SQLite file in the data home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace.home.resolve() / 'mlflow.db'}"


def shown_uri(workspace: Workspace) -> str:
    """Return `tracking_uri` without user and password."""
    return _without_password(tracking_uri(workspace))


def ui_command(workspace: Workspace) -> str:
    """Return the shell command that shows the recorded runs in a browser.

    A tracking server has its UI at its own address. A URI that contains a password is not shown.
    """
    uri = tracking_uri(workspace)
    shown = shlex.quote(uri) if shown_uri(workspace) == uri else '"$MLFLOW_TRACKING_URI"'
    if uri.startswith(("http://", "https://")):
        return f"python -m webbrowser {shown}"
    python = Path(sys.executable)
    on_path = shutil.which("mlflow") == str(python.with_name("mlflow"))
    mlflow = "mlflow" if on_path else f"{shlex.quote(str(python))} -m mlflow"
    command = (
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true "
        f"{mlflow} ui --host 127.0.0.1 --port {_PORT} --backend-store-uri {shown}"
    )
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        command += f" --artifacts-destination {shlex.quote(str(_artifacts(workspace)))}"
    return command


def runs_page(workspace: Workspace, experiment: str, *, metric: str = "official_score") -> str:
    """Return the address of the runs of an experiment in the UI, the best by ``metric`` first.

    Searches should be ordered by ``best_score``.
    """
    uri = tracking_uri(workspace)
    base = (
        _without_password(uri).replace("***@", "").rstrip("/")
        if uri.startswith(("http://", "https://"))
        else _LOCAL_UI
    )
    order = f"orderByKey=metrics.%60{metric}%60&orderByAsc=false"
    return f"{base}/#/experiments/{experiment}/runs?workflowType=machine_learning&{order}"


class Store:
    """The MLflow store at `tracking_uri`.

    Attributes
    ----------
    experiments : ids of the experiments written to, by name without ``asdbench/``
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import mlflow.store.db.utils
        from mlflow import MlflowClient

        mlflow.store.db.utils.MAX_RETRY_COUNT = _DATABASE_ATTEMPTS
        logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # Ray Tune may have imported it before
        self.experiments: dict[str, str] = {}
        uri = tracking_uri(workspace)
        self._searches: dict[str, _StoredSearch] = {}
        with _failures(workspace, of_store=True), alone_with_tables(uri, workspace):
            self._client = MlflowClient(uri)

    def write(self, entries: Sequence[OutboxEntry]) -> None:
        """Write the entries of one group, the oldest first; runs that are already stored stay unchanged.

        Only one process may call this for a group at a time. Of the entries of a run, the newest counts.

        Raises
        ------
        NotWritten
            The store cannot be reached or written, or the experiment was deleted in it.
        """
        name = entries[-1].experiment
        with _failures(self._workspace, of_store=True):
            experiment = self._experiment(name)
        with _failures(self._workspace, of_store=False):
            try:
                with one_transaction(self._client):
                    self._write_entries(experiment, entries)
            except Exception as error:
                self._searches.clear()
                if not is_conflict(error):
                    raise
                self._write_entries(experiment, entries)  # MLflow resolves it, in transactions of its own
        self.experiments[name] = experiment

    def _write_entries(self, experiment: str, entries: Sequence[OutboxEntry]) -> None:
        if entries[-1].trial is None:
            self._write_run(experiment, entries[-1].run)
        else:
            self._write_trials(experiment, entries)

    def _experiment(self, experiment: str) -> str:
        """Return the id of an experiment, which is created if necessary."""
        name = f"asdbench/{experiment}"
        existing = self._client.get_experiment_by_name(name)
        if existing is None:
            is_local = not os.environ.get("MLFLOW_TRACKING_URI")
            location = (_artifacts(self._workspace) / experiment).as_uri() if is_local else None
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

    def _runs_with(self, experiment: str, key: str, *, trial: str | None = None) -> "list[MlflowRun]":
        """Return all runs with a key, outer and nested, or those of one trial."""
        query = f"tags.`{KEY}` = '{key}'" + (f" and tags.`{TRIAL}` = '{trial}'" if trial else "")
        runs: list[MlflowRun] = []
        token = None
        while True:
            page = self._client.search_runs([experiment], query, max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def _write_run(self, experiment: str, record: RunRecord) -> None:
        """Write a run unless it is stored with these results; delete stored runs that it replaces."""
        existing = self._runs_with(experiment, record.tags[KEY])
        finished = {
            run.info.run_id
            for run in existing
            if run.info.status == "FINISHED" and run.data.tags.get(RESULTS) == record.tags[RESULTS]
        }
        for run in existing:
            if run.data.tags.get(_PARENT, run.info.run_id) not in finished:
                self._client.delete_run(run.info.run_id)
        if not finished:
            self._write(experiment, record)

    def _write_trials(self, experiment: str, entries: Sequence[OutboxEntry]) -> None:
        """Write the trials of a search that are not stored yet, and update the search."""
        search = entries[-1].run
        trials = {entry.trial.tags[TRIAL]: entry.trial for entry in entries if entry.trial is not None}
        stored = self._known_search(experiment, search, trials) or self._read_search(experiment, search)
        if stored is None:
            began_ms = min(trial.began_ms for trial in trials.values())
            stored = _StoredSearch(self._create(experiment, replace(search, began_ms=began_ms)), {})
        for number, trial in trials.items():
            if number not in stored.trials:
                self._write(experiment, trial, stored.parent.info.run_id)
                stored.trials[number] = _StoredTrial(
                    trial.status, trial.last("score"), trial.tags[IS_DEFAULT] == "true", trial.ended_ms
                )
        self._update_search(stored.parent, search, list(stored.trials.values()))
        self._searches[search.tags[KEY]] = stored

    def _known_search(
        self, experiment: str, search: RunRecord, trials: Mapping[str, RunRecord]
    ) -> "_StoredSearch | None":
        """Return a search as this store left it, ``None`` if another process may have written to it since.

        A search of thousands of trials is thus read once, not for each trial.
        """
        known = self._searches.pop(search.tags[KEY], None)
        if known is None:
            return None
        parent = self._client.get_run(known.parent.info.run_id)
        counted = sum(parent.data.metrics.get(f"trials_{state}", 0) for state in _STATES.values())
        if counted != len(known.trials) or parent.info.lifecycle_stage != "active":
            return None
        if any(self._runs_with(experiment, search.tags[KEY], trial=number) for number in trials):
            return None
        return _StoredSearch(parent, known.trials)

    def _read_search(self, experiment: str, search: RunRecord) -> "_StoredSearch | None":
        """Return a search with its trials; delete those whose writing was interrupted."""
        existing = self._runs_with(experiment, search.tags[KEY])
        parent = next((run for run in existing if _PARENT not in run.data.tags), None)
        if parent is None:
            return None
        stored = _StoredSearch(parent, {})
        for run in existing:
            if run.data.tags.get(_PARENT) == parent.info.run_id:
                if run.info.status in _STATES:
                    stored.trials[run.data.tags[TRIAL]] = _StoredTrial.from_run(run)
                else:
                    self._client.delete_run(run.info.run_id)
        return stored

    def _update_search(self, parent: "MlflowRun", search: RunRecord, done: Sequence["_StoredTrial"]) -> None:
        """Update name, metrics and status of a search to its trials; MLflow cannot change parameters."""
        run_id, ended_ms = parent.info.run_id, max(trial.ended_ms for trial in done)
        metrics: dict[str, float] = {
            f"trials_{state}": sum(trial.status == status for trial in done)
            for status, state in _STATES.items()
        }
        for trial in done:
            if trial.status == "FINISHED" and trial.score is not None:
                metrics["best_score"] = max(trial.score, metrics.get("best_score", trial.score))
                if trial.is_default:
                    metrics["default_score"] = trial.score
        self._log(
            run_id,
            ended_ms,
            metrics=[(name, value, len(done)) for name, value in metrics.items()],
            params={name: value for name, value in search.params.items() if name not in parent.data.params},
            tags={TRIALS: search.tags[TRIALS]},
        )
        if parent.info.run_name != search.name:
            self._client.update_run(run_id, name=search.name)
        if len(done) >= int(search.tags[TRIALS]):
            self._client.set_terminated(run_id, "FINISHED", ended_ms)
        elif parent.info.status != "RUNNING":
            self._client.update_run(run_id, status="RUNNING")

    def _write(self, experiment: str, record: RunRecord, parent: str | None = None) -> None:
        """Write a run with its nested runs; the final status is written last, when all the rest is stored."""
        run_id = self._create(experiment, record, parent).info.run_id
        self._log(run_id, record.ended_ms, metrics=record.metrics, params=record.params)
        if record.data is not None:
            self._client.log_inputs(run_id, datasets=[_data_set(*record.data)])
        if record.files:
            with tempfile.TemporaryDirectory() as folder:
                for name, text in record.files.items():
                    path = Path(folder) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text, encoding="utf-8")
                self._client.log_artifacts(run_id, folder)
        for nested in record.nested:
            self._write(experiment, nested, run_id)
        self._client.set_terminated(run_id, record.status, record.ended_ms)

    def _create(self, experiment: str, record: RunRecord, parent: str | None = None) -> "MlflowRun":
        tags = {**record.tags, **_SOURCE, **({_PARENT: parent} if parent else {})}
        return self._client.create_run(
            experiment, start_time=record.began_ms, tags=tags, run_name=record.name
        )

    def _log(
        self,
        run_id: str,
        time_ms: int,
        *,
        metrics: Sequence[tuple[str, float, int]],
        params: Mapping[str, str],
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write to a run; the client splits what exceeds MLflow's limits per request."""
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run_id,
            metrics=[Metric(name, value, time_ms, step) for name, value, step in metrics],
            params=[Param(name, value) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )


@dataclass(frozen=True)
class _StoredSearch:
    """A search in the store: its outer run, and its trials by number."""

    parent: "MlflowRun"
    trials: "dict[str, _StoredTrial]"


@dataclass(frozen=True)
class _StoredTrial:
    """A trial in the store, with the values that its search summarizes."""

    status: str
    score: float | None
    is_default: bool
    ended_ms: int

    @classmethod
    def from_run(cls, run: "MlflowRun") -> "_StoredTrial":
        score, is_default = run.data.metrics.get("score"), run.data.tags[IS_DEFAULT] == "true"
        return cls(run.info.status, score, is_default, run.info.end_time)


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


def _data_set(name: str, fingerprint: str) -> "DatasetInput":
    """Return the entry of the column "Dataset": the name and the first characters of the fingerprint."""
    from mlflow.entities import Dataset, DatasetInput

    data = Dataset(name=name, digest=fingerprint[:8], source_type="local", source=fingerprint)
    return DatasetInput(data)


def _artifacts(workspace: Workspace) -> Path:
    """Return the folder for score tables that belongs to the SQLite file in the data home."""
    return workspace.home.resolve() / "mlartifacts"


@contextmanager
def _failures(workspace: Workspace, *, of_store: bool) -> Iterator[None]:
    """Turn all errors of MLflow into `NotWritten`: the entry is kept, and the run must not stop."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    try:
        yield
    except InputError as error:
        raise NotWritten(str(error), transient=False, of_store=False) from error
    except Exception as error:
        if isinstance(error, MlflowException):
            status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
            transient = status >= 500 or status in (408, 429)  # time-out, too many requests
        else:
            transient = isinstance(error, OSError | OperationalError)
        reason = f"the MLflow store {shown_uri(workspace)} does not accept them ({_reason(error)})"
        raise NotWritten(reason, transient=transient, of_store=of_store) from error


def _reason(error: BaseException) -> str:
    """Return the cause in one line: the innermost operating system error, such as "Connection refused"."""
    reason: BaseException | None = error
    innermost = error
    while reason is not None:
        innermost = reason if isinstance(reason, OSError) else innermost
        reason = reason.__cause__ or reason.__context__
    return _without_password(str(innermost).strip().partition("\n")[0])


def _without_password(text: str) -> str:
    """Hide user and password in the URIs of a text."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", text)
