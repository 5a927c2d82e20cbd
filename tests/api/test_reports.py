"""The leaderboard, scores and comparisons of stored results."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import asdbench
from asdbench.api.reports import names_of
from asdbench.data.sets import catalog
from asdbench.io.workspace import Workspace
from asdbench.metrics import section_metrics

OPTIONS = {"settings": {"epochs": 2, "hidden": 8}}


def test_the_leaderboard_says_what_the_command_line_says(
    finished_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.commands import asdbench as command

    monkeypatch.setenv("ASDBENCH_HOME", str(finished_home))
    monkeypatch.setenv("COLUMNS", "200")
    board = asdbench.leaderboard("demo")
    for format in ("json", "csv", "markdown", "table"):
        assert command("leaderboard", "--data", "demo", "--format", format) == 0
        assert capsys.readouterr().out.rstrip() == board.to_text(format).rstrip()  # type: ignore[arg-type]
    assert board.frame["official_score"].to_list() == [row["official_score"] for row in board.rows]
    assert board.frame["settings"].to_list() == ["epochs=2 hidden=8"] * 2
    best = board.rows[0]
    assert f'<td style="text-align: left">{best["system"]}</td>' in board._repr_html_()
    assert f"<b>{100 * best['official_score']:.2f}</b>" in board._repr_html_()


def test_rows_can_be_chosen(finished_home: Path) -> None:
    all_rows = asdbench.leaderboard("demo", home=finished_home).rows
    assert asdbench.leaderboard("demo", top=1, home=finished_home).rows == all_rows[:1]
    mine = asdbench.leaderboard("demo", systems="baseline-mse", by_type=True, home=finished_home)
    assert [row["machine_type"] for row in mine.rows] == ["fan", "valve"]
    assert mine.notes == ("these are 2 of 4 rows (--systems baseline-mse)",)
    none = asdbench.leaderboard("demo", preset="demo", home=finished_home)
    assert none.rows == ()
    assert str(none).startswith(
        "no row matches --preset demo; 'asdbench leaderboard --data demo' shows all 2"
    )


@pytest.mark.parametrize("name", [5, None])
def test_a_data_set_is_a_name(name: Any, finished_home: Path) -> None:
    with pytest.raises(asdbench.InputError, match=f"the data set {name} is no name; give the name"):
        asdbench.leaderboard(name, home=finished_home)


def test_an_empty_leaderboard_has_its_columns(finished_home: Path) -> None:
    for by_type in (False, True):
        full = asdbench.leaderboard("demo", by_type=by_type, home=finished_home).frame
        of_preset: dict[str, Any] = {"preset": "demo"}
        for options in (of_preset, {"subset": "eval"}):
            empty = asdbench.leaderboard("demo", by_type=by_type, home=finished_home, **options).frame
            assert empty.is_empty()
            assert set(empty.columns) <= set(full.columns)
            assert {"system", "settings", "official_score", "seeds"} <= set(empty.columns)


def test_intervals_are_added_to_the_chosen_rows(finished_home: Path) -> None:
    (row,) = asdbench.leaderboard("demo", top=1, intervals=True, home=finished_home).rows
    low, high = row["official_score_low"], row["official_score_high"]
    assert low - 1e-6 <= row["official_score"] <= high + 1e-6


def test_scores_have_label_threshold_and_decision_of_each_clip(finished_home: Path) -> None:
    scores = asdbench.scores("baseline-mse", data="demo", home=finished_home, **OPTIONS)  # type: ignore[arg-type]
    clips = scores.frame
    assert clips.height == 2 * 4 * 4
    called = ["anomaly" if row["score"] > row["threshold"] else "normal" for row in clips.to_dicts()]
    assert clips["decision"].to_list() == called
    assert (clips["label"] == "anomaly").to_list() == ["_anomaly_" in path for path in clips["path"]]
    for machine_type, threshold in scores.thresholds.items():
        assert set(clips.filter(machine_type=machine_type)["threshold"]) == {threshold}
    assert json.loads(scores.to_json())[0].keys() == set(clips.columns)
    assert "fan" in str(scores)


def test_the_metrics_of_the_scores_are_those_of_the_leaderboard(finished_home: Path) -> None:
    scores = asdbench.scores("baseline-mse", data="demo", machines="fan", home=finished_home, **OPTIONS)  # type: ignore[arg-type]
    clips = scores.frame
    metrics = section_metrics(
        clips["score"].to_numpy(),
        (clips["label"] == "anomaly").to_numpy(),
        (clips["domain"] == "target").to_numpy(),
    )
    board = asdbench.leaderboard("demo", systems=["baseline-mse"], by_type=True, home=finished_home)
    row = next(row for row in board.rows if row["machine_type"] == "fan")
    assert [metrics[name] for name in ("auc_source", "auc_target", "pauc")] == pytest.approx(
        [row[name] for name in ("auc_source", "auc_target", "pauc")]
    )


def test_another_method_gives_another_threshold(finished_home: Path) -> None:
    limits = [
        asdbench.scores("baseline-mse", data="demo", threshold=name, home=finished_home, **OPTIONS).thresholds  # type: ignore[arg-type]
        for name in ("empirical", "gamma")
    ]
    assert limits[0] != limits[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"system": "baseline-mze"}, "did you mean 'baseline-mse'"),
        ({"seed": 7}, "run 'asdbench run baseline-mse --data demo --seeds 7 --set epochs=2 hidden=8'"),
        ({"machines": ["pump"]}, "no machine type in data set 'demo': 'pump'"),
        ({"threshold": "gama"}, "no threshold method 'gama'; did you mean 'gamma'"),
        ({"subset": "eval"}, "has test clips of the subset dev only, and not of 'eval'"),
        ({"data": "dem"}, "did you mean 'demo'"),
    ],
)
def test_scores_that_do_not_exist_are_bad_input(
    finished_home: Path, arguments: dict[str, object], message: str
) -> None:
    call = {"system": "baseline-mse", "data": "demo", "home": finished_home, **OPTIONS} | arguments
    with pytest.raises(asdbench.InputError) as error:
        asdbench.scores(**call)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_labels_that_are_not_known_are_null(finished_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = catalog.load(Workspace.from_home(finished_home), "demo")
    known = catalog.truth(data)
    some = known.filter(pl.col("clip_id").is_in(known["clip_id"].to_list()[:5]))
    monkeypatch.setattr(catalog, "truth", lambda data: some)
    scores = asdbench.scores("baseline-mse", data="demo", home=finished_home, **OPTIONS)  # type: ignore[arg-type]
    assert scores.frame["label"].is_not_null().sum() == 5
    assert scores.frame.height == 32


def test_a_comparison_is_over_all_types_and_mirrors(finished_home: Path) -> None:
    options = {"data": "demo", "home": finished_home, "resamples": 200, **OPTIONS}
    comparison = asdbench.compare("baseline-mse", "baseline-maha", **options)  # type: ignore[arg-type]
    mirrored = asdbench.compare("baseline-maha", "baseline-mse", **options)  # type: ignore[arg-type]
    board = asdbench.leaderboard("demo", home=finished_home).frame
    score = dict(zip(board["system"], board["official_score"], strict=True))
    assert comparison.difference == pytest.approx(score["baseline-maha"] - score["baseline-mse"])
    assert mirrored.difference == pytest.approx(-comparison.difference)
    low, high = comparison.interval
    assert np.allclose(mirrored.interval, (-high, -low))
    assert not comparison.is_significant  # with one seed nothing is sure
    assert not mirrored.is_significant
    assert comparison.to_markdown().startswith("**baseline-maha against baseline-mse on demo**")
    wide = asdbench.compare("baseline-mse", "baseline-maha", confidence=0.99, **options)  # type: ignore[arg-type]
    assert wide.interval[0] <= low
    assert "99 % interval" in wide.to_markdown()


def test_a_single_name_is_a_name_and_not_its_letters() -> None:
    assert names_of("fan") == ("fan",)
    assert names_of(iter(["fan", "valve"])) == ("fan", "valve")  # type: ignore[arg-type]
