"""MLflow runs: one for each system, settings, seed and subset, with a nested run for each machine type.

Idea: results live in the job store; MLflow gets a copy of what is finished. So a run is written in one go,
by the driver alone, and written once: the tag ``asdbench.key``, a hash of the results' keys, says what is
there already. A run whose recording was interrupted is not FINISHED; it is deleted and recorded again.

Conventions: metrics are fractions between 0 and 1, times are in seconds. A run's start and end are those of
its results: when the last one was finished, less the time that training and scoring took. Metrics of a
machine type are named ``<machine type>/auc_source`` in the outer run and ``auc_source`` in the nested one,
losses ``loss/<stage>/<name>``, with the epoch as step. ``official_score`` is over all machine types of a run;
the same mean over one type is ``harmonic_mean``, or ``arithmetic_mean`` where that is the rule.

Scores of development and of evaluation clips are not to be ranked together: runs on the eval subset are in an
experiment of their own, ``asdbench/<data set>/eval``.

Nothing of the process's environment, command line or user is recorded. MLflow's telemetry is off, and it
prints nothing, unless the user's environment says otherwise.

Source: MLflow 3, https://mlflow.org/docs/latest/ml/tracking.
"""

import hashlib
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

import asdbench
from asdbench.data import catalogue
from asdbench.errors import InputError
from asdbench.metrics import Rule, summary
from asdbench.report.leaderboard import assignments, machine_type_metrics

Progress = Callable[[int, int], None]

_KEY, _RESULTS = "asdbench.key", "asdbench.results"
_PARENT = "mlflow.parentRunId"
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_PORT = 5000
_LOCAL_UI = f"http://127.0.0.1:{_PORT}"
_DATABASE_ATTEMPTS = 4  # 1.1 s in all; MLflow's own ten attempts take 102 s


@dataclass(frozen=True, eq=False)
class Run:
    """One system with settings and a seed, on the machine types of a data set.

    Attributes
    ----------
    system : its name
    settings : all its settings
    changed_settings : those that differ from the defaults
    data : name of the data set
    fingerprint : hash of the data set's content
    seed : of the training
    complete : whether every machine type that can be judged is there; only then is there an official score
    records : machine type to result record, as ``evaluate`` stores it
    keys : machine type to the result's key in the job store
    scores : machine type to a table of ``clip_id``, ``use`` and ``score``
    curves : machine type to the training curve: dicts of ``stage``, ``epoch`` and losses by name
    subset : the subset that was judged
    """

    system: str
    settings: Mapping[str, Any]
    changed_settings: Mapping[str, Any]
    data: str
    fingerprint: str
    seed: int
    complete: bool
    records: Mapping[str, Mapping[str, Any]]
    keys: Mapping[str, str]
    scores: Mapping[str, pl.DataFrame]
    curves: Mapping[str, Sequence[Mapping[str, Any]]]
    subset: str = "dev"

    @property
    def experiment(self) -> str:
        """The name of its experiment, without ``asdbench/``."""
        return self.data if self.subset == "dev" else f"{self.data}/{self.subset}"

    @property
    def key(self) -> str:
        """What makes it the same run: a later one with other results takes its place."""
        identity = [self.system, assignments(self.settings), self.data, self.fingerprint, str(self.seed)]
        return hashlib.blake2b("\n".join(identity).encode(), digest_size=12).hexdigest()

    @property
    def results(self) -> str:
        """A hash of the results' keys."""
        return hashlib.blake2b("\n".join(sorted(self.keys.values())).encode(), digest_size=12).hexdigest()


def tracking_uri() -> str:
    """Return where runs are recorded: ``MLFLOW_TRACKING_URI``, or a SQLite file in the data home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{catalogue.home().resolve() / 'mlflow.db'}"


def ui_command() -> str:
    """Return the shell command that shows the recorded runs in a browser.

    A tracking server has its UI at its own address. A URI with a password in it is not repeated.
    """
    uri = tracking_uri()
    shown = shlex.quote(uri) if _without_password(uri) == uri else '"$MLFLOW_TRACKING_URI"'
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
        command += f" --artifacts-destination {shlex.quote(str(_artifacts()))}"
    return command


def runs_page(experiment: str) -> str:
    """Return the address of the page of an experiment's runs, by official score, once the UI is up."""
    uri = tracking_uri()
    base = (
        _without_password(uri).replace("***@", "").rstrip("/")
        if uri.startswith(("http://", "https://"))
        else _LOCAL_UI
    )
    order = "orderByKey=metrics.%60official_score%60&orderByAsc=false"
    return f"{base}/#/experiments/{experiment}/runs?workflowType=machine_learning&{order}"


def record(runs: Sequence[Run], *, progress: Progress | None = None) -> dict[str, str]:
    """Record ``runs`` at `tracking_uri`, in the experiments ``asdbench/<Run.experiment>``.

    A run that is recorded already stays as it is. To be called by one process at a time.

    Parameters
    ----------
    runs : sequence of Run
        Runs with their results.
    progress : callable, optional
        Called after each run with the number done and the number of all.

    Returns
    -------
    dict
        The id of each experiment.

    Raises
    ------
    InputError
        The store cannot be reached or written, or the experiment was deleted in it. The results are in the
        job store all the same.
    """
    if not runs:
        return {}
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow.store.db.utils
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    mlflow.store.db.utils.MAX_RETRY_COUNT = _DATABASE_ATTEMPTS
    source = _source_tags()
    try:
        client = MlflowClient(tracking_uri())
        experiments = {of: _experiment(client, of) for of in sorted({run.experiment for run in runs})}
        for done, run in enumerate(runs, start=1):
            if not _is_recorded(client, experiments[run.experiment], run):
                _record_run(client, experiments[run.experiment], run, source)
            if progress is not None:
                progress(done, len(runs))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise InputError(
            f"cannot record to the MLflow store {_without_password(tracking_uri())} ({_reason(error)}); the "
            f"results are kept, and the same command records them once the store can be reached"
        ) from error
    return experiments


def _experiment(client: Any, experiment: str) -> str:
    """Return the id of an experiment."""
    name = f"asdbench/{experiment}"
    found = client.get_experiment_by_name(name)
    if found is None:
        own = not os.environ.get("MLFLOW_TRACKING_URI")
        location = (_artifacts() / experiment).as_uri() if own else None
        kind = {"mlflow.experimentKind": "custom_model_development"}  # not one of chats and traces
        return str(client.create_experiment(name, artifact_location=location, tags=kind))
    if found.lifecycle_stage == "deleted":
        raise InputError(
            f"the MLflow experiment {name!r} was deleted; "
            f"'mlflow experiments restore --experiment-id {found.experiment_id}' brings it back"
        )
    return str(found.experiment_id)


def _is_recorded(client: Any, experiment: str, wanted: Run) -> bool:
    """Whether ``wanted`` is there, finished and with these results; others in its place are deleted."""
    found = client.search_runs([experiment], f"tags.`{_KEY}` = '{wanted.key}'", max_results=1000)
    finished = {
        run.info.run_id
        for run in found
        if run.info.status == "FINISHED" and run.data.tags.get(_RESULTS) == wanted.results
    }
    for run in found:
        if run.data.tags.get(_PARENT, run.info.run_id) not in finished:
            client.delete_run(run.info.run_id)
    return bool(finished)


def _record_run(client: Any, experiment: str, run: Run, source: Mapping[str, str]) -> None:
    tags = {
        _KEY: run.key,
        _RESULTS: run.results,
        "asdbench.version": asdbench.__version__,
        "asdbench.data_fingerprint": run.fingerprint,
        "asdbench.subset": run.subset,
        "asdbench.machine_types": ", ".join(run.records),
        "mlflow.source.name": "asdbench",
        "mlflow.source.type": "LOCAL",
        **source,
    }
    params = {**run.settings, "system": run.system, "data": run.data, "seed": run.seed}
    name = f"{run.system} seed {run.seed} {assignments(run.changed_settings)}".rstrip()
    times = [_times_ms(record) for record in run.records.values()]
    begun, ended = min(begin for begin, _ in times), max(end for _, end in times)
    parent = client.create_run(experiment, start_time=begun, tags=tags, run_name=name).info.run_id
    _log(client, parent, ended, params=params, metrics=_run_metrics(run))
    client.log_inputs(parent, datasets=[_data_set(run)])
    with tempfile.TemporaryDirectory() as folder:
        for machine_type, scores in run.scores.items():
            scores.select("clip_id", "use", "score").write_csv(Path(folder) / f"{machine_type}.csv")
        client.log_artifacts(parent, folder, "scores")
    for machine_type, result in run.records.items():
        begun_type, ended_type = _times_ms(result)
        child = client.create_run(
            experiment,
            start_time=begun_type,
            tags={
                _PARENT: parent,
                _KEY: run.key,
                "asdbench.result": run.keys[machine_type],
                "asdbench.system_code": result["code"],
                **source,
            },
            run_name=f"{machine_type}, {name}",
        ).info.run_id
        _log(
            client,
            child,
            ended_type,
            params={**params, "machine_type": machine_type},
            metrics=_machine_type_metrics(result),
            curve=run.curves.get(machine_type, ()),
        )
        client.set_terminated(child, "FINISHED", ended_type)
    client.set_terminated(parent, "FINISHED", ended)  # last: it says that the rest is there


def _data_set(run: Run) -> Any:
    """Return the entry of the column "Dataset": name and start of the fingerprint."""
    from mlflow.entities import Dataset, DatasetInput

    digest = run.fingerprint[:8]
    return DatasetInput(Dataset(name=run.data, digest=digest, source_type="local", source=run.fingerprint))


def _log(
    client: Any,
    run_id: str,
    time_ms: int,
    *,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    curve: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write all parameters, metrics and losses of a run in batches."""
    from mlflow.entities import Metric, Param

    points = [(name, value, 0) for name, value in metrics.items()]
    points += [
        (f"loss/{row['stage']}/{name}", value, row["epoch"]) for row in curve for name, value in _losses(row)
    ]
    client.log_batch(
        run_id,
        metrics=[Metric(_metric_name(name), float(value), time_ms, step) for name, value, step in points],
        params=[Param(name, value) for name, value in _parameters(params)],
    )


def _run_metrics(run: Run) -> dict[str, float]:
    """Return the metrics of the outer run."""
    records = list(run.records.values())
    sections = [section["official"] for record in records for section in record["sections"].values()]
    means = summary(sections, rule=Rule.of(records[0]["rule"]))
    score = means.pop("score")
    return {
        **({"official_score": score, **means} if run.complete else {}),
        **_timings(records),
        **{
            f"{machine_type}/{name}": value
            for machine_type, record in run.records.items()
            for name, value in _renamed(record).items()
        },
    }


def _machine_type_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a nested run: of the machine type, and of its sections if there are several."""
    metrics = {**_renamed(record), **_timings([record])}
    for section, judged in record["sections"].items():
        place = f"section_{section}/" if len(record["sections"]) > 1 else ""
        if place:
            metrics |= {f"{place}{name}": value for name, value in judged["official"].items()}
        metrics |= {f"{place}in_domain/{name}": value for name, value in judged["in_domain"].items()}
    return metrics


def _renamed(record: Mapping[str, Any]) -> dict[str, float]:
    """Call the score of one machine type by another name: else it is sorted among those of all types."""
    name_of = {"official_score": f"{record['rule']['mean']}_mean"}
    return {name_of.get(name, name): value for name, value in machine_type_metrics(record).items()}


def _timings(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {
        "parameters": max(record["parameters"] for record in records),
        "training_steps": sum(record["training_steps"] for record in records),
        "training_seconds": sum(record["training_seconds"] for record in records),
        "scoring_seconds": sum(record["scoring_seconds"] for record in records),
        "clips_per_second": statistics.fmean(
            [record["clips_per_second"] for record in records],
            weights=[max(record["scoring_seconds"], 1e-9) for record in records],
        ),
    }


def _losses(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    return ((name, value) for name, value in row.items() if name not in ("stage", "epoch"))


def _parameters(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield values as texts that ``--set`` would take."""
    return ((name, assignments({name: value}).partition("=")[2]) for name, value in values.items())


def _metric_name(name: str) -> str:
    """Replace what MLflow does not allow in a metric's name."""
    return re.sub(r"[^/\w.\- ]", "_", name)


def _times_ms(record: Mapping[str, Any]) -> tuple[int, int]:
    ended = datetime.fromisoformat(record["finished"]).timestamp()
    begun = ended - record["training_seconds"] - record["scoring_seconds"]
    return round(1000 * begun), round(1000 * ended)


def _artifacts() -> Path:
    """Return the folder of score tables that belongs to the SQLite file in the data home."""
    return catalogue.home().resolve() / "mlartifacts"


def _source_tags() -> dict[str, str]:
    """Return commit and state of the git checkout that asdbench runs from, if it runs from one."""
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


def _reason(error: BaseException) -> str:
    """Return what went wrong in one line: the innermost failure of the system's, as "Connection refused"."""
    reason: BaseException | None = error
    innermost = error
    while reason is not None:
        innermost = reason if isinstance(reason, OSError) else innermost
        reason = reason.__cause__ or reason.__context__
    return _without_password(str(innermost).strip().partition("\n")[0])


def _without_password(text: str) -> str:
    """Hide user and password in the URIs of a text."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", text)
