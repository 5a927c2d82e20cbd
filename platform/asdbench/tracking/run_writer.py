"""Runs in MLflow, from the records of `asdbench.tracking.records`: find, create, fill and delete them."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asdbench.tracking.records import AS_OF, KEY, TRIAL, DatasetRecord, RunRecord

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, RunData
    from mlflow.entities import Run as MlflowRun

PARENT = "mlflow.parentRunId"
_SOURCE = {"mlflow.source.name": "asdbench", "mlflow.source.type": "LOCAL"}


class RunWriter:
    """Reads and writes the runs of an MLflow store.

    Parameters
    ----------
    client : mlflow.MlflowClient
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def runs_with(self, experiment: str, key: str, *, trial: str | None = None) -> "list[MlflowRun]":
        """Return all runs with a key, outer and nested, or those of one trial."""
        query = f"tags.`{KEY}` = '{key}'" + (f" and tags.`{TRIAL}` = '{trial}'" if trial else "")
        return self.search(experiment, query)

    def search(self, experiment: str, query: str) -> "list[MlflowRun]":
        """Return all runs of an experiment that a query finds."""
        runs: list[MlflowRun] = []
        token = None
        while True:
            page = self._client.search_runs([experiment], query, max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def write(self, experiment: str, record: RunRecord, parent: str | None = None) -> None:
        """Write a new run; the final status is written last, when all the rest is stored."""
        run = self.create(experiment, record, parent)
        self.fill(run.info.run_id, record, known=run.data)
        self._client.set_terminated(run.info.run_id, record.status, record.ended_ms)

    def fill(self, run_id: str, record: RunRecord, *, known: "RunData") -> None:
        """Write all of a record but its name and status to a run; MLflow cannot change parameters."""
        as_of_ns = record.tags.get(AS_OF)  # of two values of a metric, MLflow shows the later one
        self.log(
            run_id,
            record.ended_ms if as_of_ns is None else int(as_of_ns) // 1_000_000,
            metrics=[
                (name, value, step)
                for name, value, step in record.metrics
                if step or known.metrics.get(name) != value
            ],
            params={name: value for name, value in record.params.items() if name not in known.params},
            tags={name: value for name, value in record.tags.items() if known.tags.get(name) != value},
        )
        if record.dataset is not None:
            self._client.log_inputs(run_id, datasets=[_dataset_input(record.dataset)])
        self._log_files(run_id, record)

    def _log_files(self, run_id: str, record: RunRecord) -> None:
        if record.files:
            with tempfile.TemporaryDirectory() as folder:
                for name, content in record.files.items():
                    path = Path(folder) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                self._client.log_artifacts(run_id, folder)

    def create(self, experiment: str, record: RunRecord, parent: str | None = None) -> "MlflowRun":
        """Create a run with the name and tags of a record."""
        tags = {**record.tags, **_SOURCE, **({PARENT: parent} if parent else {})}
        run: MlflowRun = self._client.create_run(
            experiment, start_time=record.began_ms, tags=tags, run_name=record.name
        )
        return run

    def log(
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

    def delete(self, runs: "Sequence[MlflowRun]") -> None:
        """Delete runs as MLflow deletes: they can be restored there."""
        for run in runs:
            self._client.delete_run(run.info.run_id)

    def arrange(self, experiment: str, known: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Set the tags of an experiment that have changed."""
        for name, value in tags.items():
            if known.get(name) != value:
                self._client.set_experiment_tag(experiment, name, value)


def _dataset_input(record: DatasetRecord) -> "DatasetInput":
    """Return the entry of the column "Dataset", with what its page shows."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = [{"name": name, "type": kind, "required": True} for name, kind in record.columns.items()]
    dataset = Dataset(
        name=record.name,
        digest=record.digest,
        source_type="local",
        source=json.dumps({"uri": record.source}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps(record.profile),
    )
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", record.context)])
