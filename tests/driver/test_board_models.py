"""The models of a leaderboard in MLflow: logged once, usable, and the best of them the champion."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import soundfile

from asdbench.data import removal
from asdbench.driver import board_models
from asdbench.driver.board import Board
from asdbench.driver.board_models import best_rows, exporter, model_entries
from asdbench.driver.board_server import bring_up_to_date
from asdbench.driver.judging import judge
from asdbench.engine.evaluation import anomaly_scores
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.result_record import SearchProvenance
from asdbench.io.workspace import Workspace
from asdbench.report.leaderboard import display_metrics
from asdbench.tracking.address import Address
from asdbench.tracking.logged_models import CHAMPION
from asdbench.tracking.recorder import Recorder
from asdbench.tracking.records import to_bytes
from asdbench.tracking.server import serving, wait_until_ready

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore::Warning")
SYSTEMS = {"baseline-mse", "baseline-maha"}


@pytest.fixture
def board(scored_jobs: list[ResolvedJob], store: JobStore) -> Board:
    judge(scored_jobs, store)
    return Board.from_store(scored_jobs[0].data, store, subset="dev")


def address(board: Board) -> Address:
    return Address.from_workspace(board.data.workspace)


def client(board: Board) -> Any:
    return mlflow.MlflowClient(address(board).uri)


def logged(board: Board) -> list[Any]:
    """Return the logged models, the best first."""
    found = client(board)
    experiment = found.get_experiment_by_name("asdbench/tiny").experiment_id
    order = [{"field_name": "metrics.official_score", "ascending": False, "dataset_name": "tiny"}]
    return list(found.search_logged_models([experiment], order_by=order))


def champion(board: Board) -> str:
    """Return the system that is the champion."""
    version = client(board).get_model_version_by_alias("asdbench-tiny", CHAMPION)
    [model] = [model for model in logged(board) if model.artifact_location == version.source]
    return str(model.name)


def update(board: Board) -> tuple[int, str]:
    delivered, left = bring_up_to_date(board.data.workspace, address(board))
    assert left.entries == 0, left.why
    return delivered, left.not_exported


def improve(board: Board, system: str) -> None:
    """Give all results of a system perfect metrics, as a later judgment would."""
    for name in board.store.root.names("results", ".json"):
        record = json.loads(board.store.root.read(name))
        if record["system"] == system:
            for section in record["sections"].values():
                section["official"] = dict.fromkeys(section["official"], 1.0)
            board.store.root.write_json(name, record | {"finished": "2031-01-01T00:00:00+00:00"})


def test_each_system_has_a_model_and_the_best_is_the_champion_which_scores_as_stored(
    board: Board, scored_jobs: list[ResolvedJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert update(board) == (5, "")  # two rows, their leaderboard, two models
    models = logged(board)
    assert [model.name for model in models] == [row["system"] for row in board.rows]
    for model, row in zip(models, board.rows, strict=True):
        assert {metric.key: metric.value for metric in model.metrics} == display_metrics(row)
        assert {(metric.dataset_name, len(metric.dataset_digest)) for metric in model.metrics} == {
            ("tiny", 8)
        }
        run = client(board).get_run(model.source_run_id)
        assert run.data.tags["asdbench.key"] == board.key(row)
        assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert champion(board) == models[0].name
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address(board).uri)
    mlflow.set_tracking_uri(address(board).uri)
    model = mlflow.pyfunc.load_model(f"models:/asdbench-tiny@{CHAMPION}")
    job = next(job for job in scored_jobs if job.configured.name == models[0].name)
    clips = (
        anomaly_scores(job, board.store).filter(pl.col("use") == "test").join(board.data.clips, on="clip_id")
    )
    samples, rate = soundfile.read(board.data.root / str(clips["path"][0]))
    answer = model.predict([{"samples": samples.tolist(), "sample_rate": rate, "machine": job.machine_type}])
    assert answer["score"][0] == pytest.approx(clips["score"][0], rel=1e-5)
    assert model.metadata.signature is not None
    assert model.input_example is not None


def test_a_model_is_exported_once_and_the_champion_moves_to_a_better_row(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    update(board)
    first, second = (row["system"] for row in board.rows)
    assert champion(board) == first
    monkeypatch.setattr(board_models, "export_model", lambda *_: pytest.fail("it is logged already"))
    assert update(board) == (0, "")
    improve(board, second)
    assert update(board) == (4, "")  # a row, the leaderboard, the new champion and the old one
    assert [model.name for model in logged(board)] == [second, first]
    assert champion(board) == second
    assert len(client(board).search_model_versions("name = 'asdbench-tiny'")) == 2
    with monkeypatch.context() as other:
        weights = board_models._weights
        other.setattr(board_models, "_weights", lambda *of: weights(*of) + "0")
        other.setattr(board_models, "export_model", lambda _, store, folder: folder.mkdir())
        improve(board, first)
        improve(board, second)
        update(board)
    marks = sorted((model.name, model.tags["asdbench.current"]) for model in logged(board))
    assert marks == [(system, mark) for system in sorted(SYSTEMS) for mark in ("false", "true")]


def test_a_damaged_model_leaves_the_rows_recorded_and_is_noted_once(board: Board) -> None:
    for path in Path(board.store.root.uri).rglob("*"):
        if path.is_file() and path.suffix == ".pt":
            path.write_bytes(b"damaged")
    delivered, note = update(board)
    assert delivered == 3
    assert note.startswith("the model baseline-")
    assert "of data set 'tiny', and 1 more, cannot be exported to MLflow because" in note
    assert logged(board) == []
    runs = client(board).search_runs([client(board).get_experiment_by_name("asdbench/tiny").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_data_set_that_is_gone_is_noted_and_nothing_waits(board: Board) -> None:
    workspace = board.data.workspace
    recorder = Recorder(workspace, address(board), export=exporter(workspace))
    for entry in [*board.entries(board.rows, {}), *model_entries(board, SYSTEMS)]:
        recorder.put(entry)
    removal.remove(removal.plan_removal(workspace, "tiny"))
    left = recorder.close()
    assert (left.entries, left.why) == (0, "")
    assert "because no data set 'tiny'" in left.not_exported


def test_a_run_puts_the_models_of_its_systems_and_the_best(board: Board) -> None:
    best, other = best_rows(board)
    assert [(entry.system, entry.leads) for entry in model_entries(board, [other])] == [
        (best, True),
        (other, False),
    ]
    assert [entry.system for entry in model_entries(board, [best])] == [best]
    assert all(len(to_bytes(entry)) < 2000 for entry in model_entries(board, SYSTEMS))


def test_neither_an_incomplete_nor_a_tuned_row_has_a_model(
    scored_jobs: list[ResolvedJob], store: JobStore
) -> None:
    judge(scored_jobs[:2], store)
    first, _ = store.root.names("results", ".json")
    store.root.delete(first)
    data = scored_jobs[0].data
    assert list(model_entries(Board.from_store(data, store, subset="dev"), SYSTEMS)) == []
    judge(scored_jobs[2:], store, tuned=SearchProvenance("abc", 20, "dev"))
    board = Board.from_store(data, store, subset="dev")
    assert len(board.rows) == 2
    assert list(model_entries(board, SYSTEMS)) == []


def test_results_that_have_changed_are_not_exported(board: Board, tmp_path: Path) -> None:
    entry = next(model_entries(board, SYSTEMS))
    other = type(entry)(**{**{name: getattr(entry, name) for name in entry.__struct_fields__}, "seed": 1})
    with pytest.raises(ValueError, match="have changed since"):
        exporter(Workspace.from_environment())(other, tmp_path / "model")


@pytest.mark.cluster
def test_a_server_gets_the_models_without_their_folder(board: Board, tmp_path: Path) -> None:
    log, database = tmp_path / "log", Address(f"sqlite:///{tmp_path / 'server.db'}", tmp_path / "served")
    with serving(database, log) as base:
        wait_until_ready(base, log)
        delivered, left = bring_up_to_date(board.data.workspace, Address(base))
        assert (delivered, left.why, left.not_exported) == (5, "", "")
        remote = mlflow.MlflowClient(base)
        version = remote.get_model_version_by_alias("asdbench-tiny", CHAMPION)
        assert version.source.startswith("mlflow-artifacts:")
        experiment = remote.get_experiment_by_name("asdbench/tiny").experiment_id
        models = remote.search_logged_models([experiment], "metrics.official_score > 0")
        [best] = [model for model in models if model.artifact_location == version.source]
        assert best.name == board.rows[0]["system"]
        assert "MLmodel" in {file.path for file in remote.list_logged_model_artifacts(best.model_id)}
