"""What is recorded of runs and trials, before MLflow sees it."""

import dataclasses
import json
import math

import pytest

from asdbench.engine.task_records import CurvePoint
from asdbench.tracking.runs import OutboxEntry, Run, RunRecord, SearchRecord, TrialRecord, trial_entry

EMPTY = Run("s", {"epochs": 2}, {}, "demo", "f1f2", 0, True, {}, {"fan": "k1"}, {}, {})
RECORD = RunRecord(
    "r", {"asdbench.key": "k"}, {"epochs": "2"}, [("score", 0.5, 1), ("score", 0.7, 3)], 10, 20
)
SEARCH = SearchRecord("5ea7c4", "s", "demo", "dev", "dev", None, {"epochs": 2}, (0, 1), 3)
TRIAL = TrialRecord(
    number=1,
    settings={"width": 16},
    state="pruned",
    rungs=[(1, 0.5), (2, 0.6)],
    metrics={"fan": {"pauc": 0.52}},
    curves={"fan": [CurvePoint("main", 3, {"own type: right": 0.25})]},
    began=1000.0,
    ended=1009.5,
)


def test_scores_of_evaluation_clips_are_in_an_experiment_of_their_own() -> None:
    assert EMPTY.experiment == "demo"
    assert dataclasses.replace(EMPTY, subset="eval").experiment == "demo/eval"


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"settings": {"epochs": 3}},
        {"fingerprint": "other"},
        {"tuned": {"search": "x", "trials": 2, "protocol": "dev"}},
    ],
)
def test_a_run_is_another_one_with_another_seed_setting_content_or_search(change: dict[str, object]) -> None:
    other = dataclasses.replace(EMPTY, **change)  # type: ignore[arg-type]
    assert other.key != EMPTY.key
    assert other.results == EMPTY.results


def test_other_results_of_the_same_run_keep_its_key() -> None:
    other = dataclasses.replace(EMPTY, keys={"fan": "k2"})
    assert other.key == EMPTY.key
    assert other.results != EMPTY.results


def test_the_last_value_of_a_metric_is_that_of_the_highest_step() -> None:
    assert RECORD.last("score") == 0.7
    assert RECORD.last("loss") is None


def test_an_entry_survives_its_file() -> None:
    nested = dataclasses.replace(RECORD, metrics=[("loss", float("inf"), 0)])
    entry = OutboxEntry("demo", dataclasses.replace(RECORD, nested=[nested]), RECORD)
    again = OutboxEntry.from_json(entry.to_json())
    assert again.group == entry.group
    assert again.run.nested[0].metrics[0][1] == math.inf
    assert again.to_json() == entry.to_json()


@pytest.mark.parametrize(
    "text", ["{}", "[]", "words", json.dumps({"experiment": "demo", "run": {}, "trial": None})]
)
def test_a_text_that_is_no_entry_raises(text: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        OutboxEntry.from_json(text)


def test_a_trial_becomes_a_killed_run_with_the_score_of_each_rung() -> None:
    entry = trial_entry(SEARCH, TRIAL, {"mlflow.source.git.commit": "c0de"})
    assert entry.trial is not None
    assert entry.experiment == "demo/searches"
    assert entry.trial.status == "KILLED"
    assert [point for point in entry.trial.metrics if point[0] == "score"] == [
        ("score", 0.5, 1),
        ("score", 0.6, 2),
    ]
    assert entry.trial.params["width"] == "16"
    assert entry.trial.params["epochs"] == "2"
    assert entry.trial.tags["asdbench.default"] == "false"
    assert entry.trial.tags["mlflow.source.git.commit"] == "c0de"


def test_names_that_mlflow_refuses_are_changed() -> None:
    entry = trial_entry(SEARCH, TRIAL, {})
    assert entry.trial is not None
    assert ("loss/fan/main/own type_ right", 0.25, 3) in entry.trial.metrics


def test_a_name_that_is_too_long_is_cut_in_its_settings() -> None:
    long = dataclasses.replace(TRIAL, settings={"width": "9" * 300})
    entry = trial_entry(SEARCH, long, {})
    assert entry.trial is not None
    assert len(entry.trial.name) == 250
    assert entry.trial.name.endswith("9…")
