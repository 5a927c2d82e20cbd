"""What a report collects."""

from pathlib import Path

import numpy as np
import pytest

from asdbench.errors import InputError
from asdbench.report.report_data import collect, row_labels
from asdbench.report.row_pairs import Pairs
from asdbench.report.score_intervals import with_intervals
from tests.report.made_up import leaderboard_rows, made_up, score

FEW = "there are as few as 10 test clips of a domain of a machine type, so intervals are wide"


def test_intervals_and_differences_are_those_of_the_commands(tmp_path: Path) -> None:
    data, store = made_up(tmp_path)
    report = collect(data, store)
    expected = with_intervals(leaderboard_rows(data, store), data, store)
    ends = [(row["official_score_low"], row["official_score_high"]) for row in report.rows]
    assert ends == [(row["official_score_low"], row["official_score_high"]) for row in expected]
    assert report.differences is not None
    pairs = Pairs(data, store, "dev", {}, resamples=2000)
    last = pairs.lines(*sorted(leaderboard_rows(data, store), key=lambda row: row["system"]))[-1]
    assert report.differences.labels == ["baseline-mse", "baseline-maha"]
    assert report.differences.differences[0, 1] == pytest.approx(last["difference"])
    assert report.differences.low[0, 1] == pytest.approx(last["difference_low"])
    assert np.array_equal(report.differences.differences, -report.differences.differences.T)


def test_the_report_shows_the_systems_that_are_asked_for(tmp_path: Path) -> None:
    data, store = made_up(tmp_path)
    report = collect(data, store, systems=["baseline-maha"])
    assert [of.label for of in report.systems] == ["baseline-maha"]
    assert {row["system"] for row in report.type_rows} == {"baseline-maha"}
    assert report.differences is None
    assert len(report.systems[0].embeddings) == 2
    assert report.errors


def test_a_report_shows_one_row_alone(tmp_path: Path) -> None:
    data, store = made_up(tmp_path)
    row = leaderboard_rows(data, store)[-1]
    report = collect(data, store, only=row)
    (shown,) = report.rows
    assert (shown["system"], shown["settings"]) == (row["system"], row["settings"])
    assert [of.row["system"] for of in report.systems] == [row["system"]]
    assert {of_type["system"] for of_type in report.type_rows} == {row["system"]}


def test_a_system_without_results_is_refused_with_its_command(tmp_path: Path) -> None:
    data, store = made_up(tmp_path)
    with pytest.raises(
        InputError,
        match="no results of adversarial on data set 'tiny'; run 'asdbench run adversarial --data tiny",
    ):
        collect(data, store, systems=["adversarial", "baseline-mse"])
    with pytest.raises(InputError, match="did you mean 'baseline-mse'"):
        collect(data, store, systems=["baseline-mes"])


def test_a_recording_that_is_gone_is_noted(tmp_path: Path) -> None:
    data, store = made_up(tmp_path, seeds=[0])
    first = collect(data, store).errors[0][0]
    (data.root / first.path).unlink()
    report = collect(data, store)
    assert report.errors[0][1] is None
    assert report.notes == [
        FEW,
        f"1 recordings cannot be read, such as: {report.notes[1].partition(': ')[2]}",
    ]


def test_a_row_that_lacks_machine_types_has_the_figures_of_the_others(tmp_path: Path) -> None:
    data, store = made_up(tmp_path, systems=["baseline-maha"])
    score("baseline-mse", data, store, [0, 2], ["valve"])
    report = collect(data, store)
    complete, partial = report.systems
    assert [of_type.machine_type for of_type in partial.types] == ["valve"]
    assert partial.types[0].seeds == (0, 2)
    assert (complete.label, report.difference_seeds, report.differences) == ("baseline-maha", [0, 1], None)
    assert report.rows[-1]["official_score"] is None
    assert report.notes == [
        "baseline-mse has no results on fan, so it has no official score; its plots show valve only; "
        "run 'asdbench run baseline-mse --data tiny --machines fan --subset dev --seeds 0 2'",
        FEW,
    ]


def test_rows_of_a_system_have_names_of_their_own() -> None:
    plain = {"system": "a", "settings": {}, "tuned": None}
    tuned = {"system": "a", "settings": {"epochs": 3}, "tuned": {"trials": 2}}
    long = {"system": "a", "settings": {f"setting_{k}": k for k in range(9)}, "tuned": None}
    labels = row_labels([plain, tuned, long, long | {"settings": long["settings"] | {"z": 1}}])
    assert labels[:2] == ["a", "a (dev-tuned) epochs=3"]
    assert len(set(labels)) == 4
