"""The scores behind a row of the leaderboard."""

from pathlib import Path

import numpy as np
import pytest

from asdbench.engine.evaluation import evaluate
from asdbench.report.row_scores import row_jobs, row_trainings, type_scores
from tests.report.made_up import leaderboard_rows, made_up


def test_the_scores_of_a_row_are_those_that_its_results_come_from(tmp_path: Path) -> None:
    data, store = made_up(tmp_path)
    row = leaderboard_rows(data, store)[0]
    jobs = row_jobs(row, data)
    assert (row["system"], list(jobs), list(jobs[0])) == ("baseline-mse", [0, 1], ["fan", "valve"])
    fan, valve = type_scores(jobs, data, store)
    assert (fan.machine_type, valve.machine_type) == ("fan", "valve")
    assert fan.scores.shape == (2, 20)
    record = evaluate(jobs[1]["fan"], store).record
    assert fan.thresholds[1] == pytest.approx(record.thresholds["empirical"].threshold)
    source = fan.domain("source")
    hits = fan.decided[1] & fan.anomalous & source
    recall = record.sections["00"].decisions["empirical"]["recall_source"]
    assert hits.sum() / (fan.anomalous & source).sum() == pytest.approx(recall)
    assert np.array_equal(source, ~fan.domain("target"))


def test_a_row_has_a_training_of_each_seed_and_type(tmp_path: Path) -> None:
    data, store = made_up(tmp_path, ["baseline-maha"])
    trainings = row_trainings(row_jobs(leaderboard_rows(data, store)[0], data), store)
    assert list(trainings) == [("baseline-mse", seed, kind) for seed in (0, 1) for kind in ("fan", "valve")]
