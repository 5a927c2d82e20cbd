"""From stored results to what MLflow gets: the same rows and figures as the leaderboard."""

import json
from dataclasses import replace
from typing import Any

import pytest

import asdbench
from asdbench import registry
from asdbench.driver import board as boards
from asdbench.driver.board import Board, outdated_entries, preset_of, row_name, tuned_label
from asdbench.driver.judging import judge
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.result_record import SearchProvenance
from asdbench.report import row_weights
from asdbench.report.leaderboard import display_metrics, rows
from asdbench.report.score_intervals import with_intervals
from asdbench.tracking.records import BoardEntry, Entry, ModelEntry, RowEntry


@pytest.fixture
def board(scored_jobs: list[ResolvedJob], store: JobStore, output: Any) -> Board:
    judge(scored_jobs, store)
    return Board.from_store(scored_jobs[0].data, store, subset="dev")


def test_what_is_recorded_is_what_the_leaderboard_shows(board: Board) -> None:
    *entries, last = board.entries(board.rows, {})
    table = with_intervals(rows(board.records, machine_types=["fan", "valve"]), board.data, board.store)
    assert len(entries) == len(table) == 2
    for entry, row in zip(entries, table, strict=True):
        assert isinstance(entry, RowEntry)
        assert {name: value for name, value, _ in entry.row.metrics} == display_metrics(row)
        assert {"official_score", "interval_low", "interval_high", "auc_source", "pauc"} <= display_metrics(
            row
        ).keys()
        [seed] = entry.seeds
        metrics = {name: value for name, value, _ in seed.metrics}
        assert metrics["seed_score"] == display_metrics(row)["official_score"]
        assert {f"curves/{of}/main total" for of in ("fan", "valve")} & metrics.keys() or any(
            name.startswith("curves/fan/") for name in metrics
        )
        assert f"asdbench {asdbench.__version__}" in entry.row.tags["asdbench.versions"].split(", ")
        assert entry.row.tags["asdbench.other_major_versions"] == "none"
        assert entry.row.dataset is not None
        assert entry.row.dataset.profile["machine types"] == "fan, valve"
        assert entry.row.dataset.columns["clip_id"] == "long"
    assert isinstance(last, BoardEntry)
    assert last.keys == [entry.row.tags["asdbench.key"] for entry in entries if isinstance(entry, RowEntry)]
    assert "| system |" in last.tags["mlflow.note.content"]


def test_the_bootstrap_runs_once_for_each_row_that_has_changed(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrapped = []

    def spy(table: Any, *rest: Any, **options: Any) -> Any:
        bootstrapped.extend(row["system"] for row in table)
        return with_intervals(table, *rest, **options)

    monkeypatch.setattr(boards, "with_intervals", spy)
    list(board.entries(board.rows[:1], {}))
    assert bootstrapped == [board.rows[0]["system"]]


def test_a_run_records_the_rows_that_it_judged(
    scored_jobs: list[ResolvedJob], store: JobStore, output: Any
) -> None:
    judged, _, _ = judge(scored_jobs, store)
    board = Board.from_store(scored_jobs[0].data, store, subset="dev")
    of_one = [item for item in judged if item.system == "baseline-maha"]
    assert [row["system"] for row in board.rows_of(of_one)] == ["baseline-maha"]
    assert board.rows_of([replace(item, subset="eval") for item in judged]) == []
    assert len(board.rows_of(judged)) == 2


def test_rows_are_found_in_whatever_order_their_settings_were_given(
    scored_jobs: list[ResolvedJob], store: JobStore, output: Any
) -> None:
    judged, _, _ = judge(scored_jobs, store)
    board = Board.from_store(scored_jobs[0].data, store, subset="dev")
    for order in (sorted, lambda items: sorted(items, reverse=True)):
        shuffled = [replace(item, settings=dict(order(item.settings.items()))) for item in judged]
        assert len(board.rows_of(shuffled)) == 2


def test_a_tuned_row_is_another_than_the_untuned_one_with_its_settings(
    scored_jobs: list[ResolvedJob], store: JobStore, output: Any
) -> None:
    for tuned in (None, SearchProvenance("abc", 20, "dev", (7,), 0.5)):
        judge(scored_jobs[:2], store, tuned=tuned)
    board = Board.from_store(scored_jobs[0].data, store, subset="dev")
    *entries, _ = board.entries(board.rows, {})
    tags = [entry.row.tags for entry in entries if isinstance(entry, RowEntry)]
    assert len({of["asdbench.key"] for of in tags}) == 2
    assert sorted(of["asdbench.tuned"] for of in tags) == ["dev-tuned, 20 trials", "no"]
    marked = next(of for of in tags if of["asdbench.tuned"] != "no")
    assert (marked["asdbench.protocol"], marked["asdbench.trials"], marked["asdbench.search"]) == (
        "dev",
        "20",
        "abc",
    )


def test_licenses_and_training_data_of_pretrained_weights_are_tags(
    scored_jobs: list[ResolvedJob], store: JobStore, output: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = {"baseline-mse": ("ced-base",)}
    monkeypatch.setattr(row_weights, "_ids", lambda of: needed.get(of.name, ()))
    judge(scored_jobs, store)
    board = Board.from_store(scored_jobs[0].data, store, subset="dev")
    tags = {
        entry.row.tags["asdbench.system"]: entry.row.tags
        for entry in board.entries(board.rows, {})
        if isinstance(entry, RowEntry)
    }
    mine = {name: text for name, text in tags["baseline-mse"].items() if name.startswith("asdbench.weights")}
    assert mine == {
        "asdbench.weights": "ced-base",
        "asdbench.weights_license": "Apache-2.0",
        "asdbench.weights_training_data": "AudioSet, with its labels",
    }
    assert not any(name.startswith("asdbench.weights") for name in tags["baseline-maha"])


class Mlflow:
    """An MLflow store that holds the rows of entries."""

    def __init__(self, entries: list[Entry]) -> None:
        rows = [entry.row.tags for entry in entries if isinstance(entry, RowEntry)]
        self.rows = {tags["asdbench.key"]: tags["asdbench.results"] for tags in rows}
        self.models = {entry.system: entry.state for entry in entries if isinstance(entry, ModelEntry)}

    def recorded_rows(self, name: str, store: str) -> dict[str, str]:
        return self.rows if name == "tiny" else {}

    def recorded_models(self, name: str, store: str) -> dict[str, str]:
        return self.models


def outdated(board: Board, mlflow: Mlflow) -> list[Entry]:
    return list(outdated_entries(board.data.workspace, mlflow, {}))  # type: ignore[arg-type]


def test_only_what_is_missing_or_has_changed_brings_mlflow_up_to_date(board: Board) -> None:
    everything = outdated(board, Mlflow([]))
    assert [type(entry) for entry in everything] == [RowEntry, RowEntry, BoardEntry, ModelEntry, ModelEntry]
    mlflow = Mlflow(everything)
    assert outdated(board, mlflow) == []
    first = next(iter(mlflow.rows))
    mlflow.rows[first] = "other results"
    [changed, _] = outdated(board, mlflow)
    assert isinstance(changed, RowEntry)
    assert changed.row.tags["asdbench.key"] == first
    mlflow = Mlflow([*everything])
    mlflow.rows["gone"] = "results of a row that is no longer there"
    [only] = outdated(board, mlflow)
    assert isinstance(only, BoardEntry)


def test_new_results_change_the_hash_of_a_row(
    board: Board, scored_jobs: list[ResolvedJob], output: Any
) -> None:
    mlflow = Mlflow(outdated(board, Mlflow([])))
    for name in board.store.root.names("results", ".json"):
        record = json.loads(board.store.root.read(name))
        board.store.root.write_json(name, record | {"finished": "2031-01-01T00:00:00+00:00"})
    assert len(outdated(board, mlflow)) == 5


def test_the_id_of_a_store_stays(board: Board) -> None:
    again = Board.from_store(board.data, board.store, subset="dev")
    assert again.store_id == board.store_id
    assert len(board.store_id) == 32


def row(settings: dict[str, Any], tuned: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"system": "baseline-mse", "settings": settings, "tuned": tuned}


def test_a_row_is_named_by_its_preset_and_what_it_changes_beyond() -> None:
    assert preset_of(row({})) is None
    assert preset_of(row({"epochs": 60})) == "demo"
    assert preset_of(row({"epochs": 61})) is None
    assert row_name(row({"epochs": 60, "hidden": 8}), "demo") == "baseline-mse hidden=8"
    assert row_name(row({"epochs": 60}), None) == "baseline-mse epochs=60"


def test_presets_that_go_together_are_named_together() -> None:
    both = registry.configure("multitask-mel", preset="fast,altered").changed()
    of_both = {"system": "multitask-mel", "settings": both | {"dropout": 0.2}, "tuned": None}
    assert preset_of(of_both) == "fast,altered"
    assert row_name(of_both, "fast,altered") == "multitask-mel dropout=0.2"
    robust = registry.configure("ensemble", preset="demo,robust").changed()
    assert preset_of({"system": "ensemble", "settings": robust, "tuned": None}) == "robust,demo"


def test_a_name_that_is_too_long_ends_in_an_ellipsis_before_what_marks_it_tuned() -> None:
    tuned = {"search": "s", "trials": 1, "protocol": "dev"}
    name = row_name(row({f"setting_{number}": "x" * 20 for number in range(20)}, tuned), None)
    assert name.endswith("…, dev-tuned, 1 trial")
    assert len(name) == 250
    assert tuned_label(row({})) == "no"
