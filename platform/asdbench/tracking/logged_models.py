"""The models of a leaderboard in MLflow: a LoggedModel for each system, and the champion in its registry.

Idea: an entry does not hold the model, which may be large, but what is needed to export it again; the caller
gives the function that does so. A model is logged once for the same weights: the tag ``asdbench.weights``, a
hash of what they depend on, tells. Its metrics are those of the row, means over the seeds, tied to the model
and the data set. When other weights become the best of a system, the tag ``asdbench.current`` of the earlier
model becomes ``false``.

The best model is a version of the registered model ``asdbench-<data set>`` with the alias ``champion``;
earlier versions stay. Where several job stores share a server, the alias goes to the best of them.

Source: MLflow 3, https://mlflow.org/docs/latest/ml/model-registry.
"""

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asdbench.tracking.records import AS_OF, CURRENT, KEY, STATE, STORE, WEIGHTS, ModelEntry

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities import Run as MlflowRun
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
Export = Callable[[ModelEntry, Path], None]
"""Writes the model of an entry to a folder, which does not exist yet."""
_SCORE = "official_score"
_VERSIONS = "mlflow.modelVersions"


class NotExported(Exception):
    """A model cannot be exported; the message gives the reason."""


def registered_name(data: str) -> str:
    """Return the name of the registered model of a data set.

    >>> registered_name("my: data")
    'asdbench-my--data'
    """
    return f"asdbench-{_plain(data)}"


def models_of(client: Any, experiment: str, store: str, system: str | None = None) -> "list[LoggedModel]":
    """Return the complete models of a job store in an experiment, of all systems or of one."""
    query = f"tags.`{STORE}` = '{store}'" + (f" AND tags.`asdbench.system` = '{system}'" if system else "")
    models: list[LoggedModel] = []
    token = None
    while True:
        page = client.search_logged_models([experiment], query, page_token=token)
        models += [model for model in page if model.status == "READY"]
        token = page.token
        if not token:
            return models


def write_model(client: Any, run: "MlflowRun", entry: ModelEntry, export: Export) -> None:
    """Log the model of a row, unless its weights are logged already, and update its metrics and the champion.

    ``run`` is that of the row.

    Raises
    ------
    NotExported
        Its weights are not logged, and it cannot be exported.
    """
    models = models_of(client, run.info.experiment_id, entry.store, entry.system)
    model = next((model for model in models if model.tags[WEIGHTS] == entry.weights), None)
    if model is None:
        model = _log(client, run, entry, export)
    _log_metrics(client, run, model, entry)
    if entry.leads:
        _crown(client, run, model, entry)
    for other in models:
        if other.model_id != model.model_id and other.tags[CURRENT] == "true":
            client.set_logged_model_tags(other.model_id, {CURRENT: "false"})
    client.set_logged_model_tags(model.model_id, {CURRENT: "true", STATE: entry.state})  # last: all is stored


def _log(client: Any, run: "MlflowRun", entry: ModelEntry, export: Export) -> "LoggedModel":
    """Export a model and log it; one whose upload is interrupted never becomes READY."""
    from mlflow.entities import LoggedModelOutput

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        try:
            export(entry, folder)
        except Exception as error:  # a plugin's code may raise anything
            raise NotExported(str(error) or type(error).__name__) from error
        model = client.create_logged_model(
            run.info.experiment_id,
            name=_plain(entry.system),
            source_run_id=run.info.run_id,
            tags={
                KEY: entry.key,
                STORE: entry.store,
                WEIGHTS: entry.weights,
                CURRENT: "true",
                "asdbench.system": entry.system,
                "asdbench.seed": str(entry.seed),
            },
            params=dict(run.data.params),
            model_type="detector",
        )
        client.log_model_artifacts(model.model_id, str(folder))
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return client.finalize_logged_model(model.model_id, "READY")  # type: ignore[no-any-return]


def _log_metrics(client: Any, run: "MlflowRun", model: "LoggedModel", entry: ModelEntry) -> None:
    """Tie the metrics of the row to the model and the data set."""
    from mlflow.entities import Metric

    time_ms = entry.as_of_ns // 1_000_000
    stored: list[Metric] = model.metrics or []
    known = {(metric.key, metric.timestamp) for metric in stored}
    metrics = [
        Metric(
            name,
            value,
            time_ms,
            0,
            model_id=model.model_id,
            dataset_name=entry.data,
            dataset_digest=entry.data_digest,
            run_id=run.info.run_id,
        )
        for name, value in entry.metrics.items()
        if (name, time_ms) not in known
    ]
    if metrics:
        client.log_batch(run.info.run_id, metrics=metrics)


def _crown(client: Any, run: "MlflowRun", model: "LoggedModel", entry: ModelEntry) -> None:
    """Give the alias to a model, unless a later state of the leaderboard or a better store has it."""
    name, source = registered_name(entry.data), model.artifact_location
    registered = client.search_registered_models(f"name = '{name}'")
    if not registered:
        client.create_registered_model(name, description=f"Detectors of data set {entry.data}.")
    elif CHAMPION in registered[0].aliases:
        champion = client.get_model_version_by_alias(name, CHAMPION)
        if champion.source != source and _keeps(champion, entry):
            return
    versions = client.search_model_versions(f"name = '{name}'")
    version = next((found for found in versions if found.source == source), None)
    tags = {STORE: entry.store, AS_OF: str(entry.as_of_ns), _SCORE: str(entry.metrics[_SCORE])}
    if version is None:
        version = client.create_model_version(
            name, source, run.info.run_id, tags=tags, model_id=model.model_id
        )
        versions = [*json.loads(model.tags.get(_VERSIONS, "[]")), {"name": name, "version": version.version}]
        client.set_logged_model_tags(model.model_id, {_VERSIONS: json.dumps(versions)})  # as a server does
    else:
        for tag, value in tags.items():
            client.set_model_version_tag(name, version.version, tag, value)
    client.set_registered_model_alias(name, CHAMPION, version.version)


def _keeps(champion: "ModelVersion", entry: ModelEntry) -> bool:
    """Whether the champion keeps the alias: it is of a later leaderboard, or of another store and better."""
    tags = champion.tags
    if STORE not in tags:
        return False  # a version that asdbench has not registered; the alias follows the leaderboard
    if tags[STORE] == entry.store:
        return int(tags[AS_OF]) > entry.as_of_ns
    return float(tags[_SCORE]) >= entry.metrics[_SCORE]


def _plain(name: str) -> str:
    """Return a name without the characters that MLflow does not allow in names of models."""
    return re.sub(r"[^\w-]", "-", name)
