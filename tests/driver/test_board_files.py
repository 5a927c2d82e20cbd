"""What is attached to a row: the scores that its figures are of, and plots."""

import io
import json

import polars as pl
import pytest

from asdbench.driver.board import Board
from asdbench.driver.board_files import row_files
from asdbench.driver.judging import judge
from asdbench.engine.decision_thresholds import decision_threshold
from asdbench.engine.evaluation import anomaly_scores, judged_scores
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob


@pytest.fixture
def board(scored_jobs: list[ResolvedJob], store: JobStore) -> Board:
    judge(scored_jobs, store)
    return Board.from_store(scored_jobs[0].data, store, subset="dev")


def test_the_scores_of_a_row_name_file_label_threshold_and_decision(
    board: Board, scored_jobs: list[ResolvedJob], store: JobStore
) -> None:
    row = next(row for row in board.rows if row["system"] == "baseline-mse")
    files = row_files(row, board.data, store, subset="dev")
    table = pl.read_parquet(io.BytesIO(files["scores.parquet"]))
    fan = judged_scores(scored_jobs[0], store, subset="dev")
    of_fan = table.filter(machine_type="fan")
    assert of_fan["score"].to_list() == pytest.approx(fan["score"].to_list())
    assert of_fan["path"].to_list() == fan["path"].to_list()
    assert of_fan["anomaly"].to_list() == fan["anomaly"].to_list()
    called = [score > limit for score, limit in of_fan.select("score", "threshold").iter_rows()]
    assert of_fan["decision"].to_list() == ["anomaly" if is_above else "normal" for is_above in called]
    assert set(of_fan["threshold"]) == {
        decision_threshold(scored_jobs[0], anomaly_scores(scored_jobs[0], store))
    }
    assert set(table["seed"]) == {0}
    shown = json.loads(files["scores.json"])
    assert shown["columns"] == table.columns
    assert [tuple(line) for line in shown["data"]] == table.rows()


def test_the_plots_of_a_row_are_pictures(board: Board, store: JobStore) -> None:
    files = row_files(board.rows[0], board.data, store, subset="dev")
    plots = {name: content for name, content in files.items() if name.startswith("plots/")}
    assert {"plots/roc.png", "plots/histograms.png"} <= plots.keys()
    assert all(content.startswith(b"\x89PNG") for content in plots.values())


def test_a_row_has_its_report(board: Board, store: JobStore) -> None:
    row = next(row for row in board.rows if row["system"] == "baseline-mse")
    page = row_files(row, board.data, store, subset="dev")["report.html"].decode()
    assert page.startswith("<!doctype html>")
    assert "baseline-mse" in page
    assert "baseline-maha" not in page


def test_a_row_without_a_complete_seed_or_with_damaged_scores_has_no_files(
    board: Board, store: JobStore
) -> None:
    assert row_files(board.rows[0] | {"seeds": []}, board.data, store, subset="dev") == {}
    for name in store.root.names("scores"):
        store.root.write(name, b"damaged")
    assert row_files(board.rows[0], board.data, store, subset="dev") == {}
