"""What is recorded of the rows of a leaderboard, before MLflow sees it."""

import dataclasses
import json

import msgspec

from asdbench.engine.result_record import AlarmCount, SectionMetrics
from asdbench.metrics import WITHOUT_DOMAINS
from asdbench.tracking.rows import board_entry
from tests.tracking.boards import board_row, result, row_entry, seed_results


def test_a_row_has_what_people_read_and_its_identity() -> None:
    entry = board_row(seed_results(0), seed_results(1), as_of_ns=7).entry(
        {"mlflow.source.git.commit": "c0de"}
    )
    assert entry.experiment == "demo"
    assert entry.row.name == "baseline-mse k"
    assert entry.row.metrics == [("official_score", 61.23, 0), ("seeds", 2.0, 0)]
    assert entry.row.params == {"epochs": "30", "bf16": "false", "system": "baseline-mse", "data": "demo"}
    tags = entry.row.tags
    assert (tags["asdbench.key"], tags["asdbench.kind"], tags["asdbench.as_of_ns"]) == ("k", "row", "7")
    assert (tags["asdbench.preset"], tags["asdbench.tuned"]) == ("fast", "no")
    assert tags["mlflow.source.git.commit"] == "c0de"
    assert entry.row.dataset == board_row().dataset
    assert (entry.row.began_ms, entry.row.ended_ms) == (1_767_225_600_000, 1_767_225_612_000)


def test_a_seed_has_its_own_score_and_none_that_ranks_it_with_rows() -> None:
    [seed] = row_entry(seed_results(3)).seeds
    metrics = {name: value for name, value, step in seed.metrics if step == 0}
    assert metrics["seed_score"] == 61.23
    assert "official_score" not in metrics
    assert {name.split("/")[0] for name in metrics} == {"seed_score", "metrics"}
    assert metrics["metrics/fan/auc_source"] == 60
    assert metrics["metrics/valve/f1_target"] == 40
    assert metrics["metrics/fan/threshold"] == 1.5
    assert metrics["metrics/fan/false_alarms"] == 2
    assert metrics["metrics/fan/score"] == 54.7
    assert (seed.tags["asdbench.seed"], seed.tags["asdbench.kind"]) == ("3", "seed")
    assert seed.params["seed"] == "3"


def test_false_alarm_rates_have_intervals_by_domain() -> None:
    results = seed_results()
    fan = results.records["fan"]
    alarms = {"empirical": {"source": AlarmCount(10, 100), "target": AlarmCount(1, 10)}}
    sections = {
        name: msgspec.structs.replace(part, false_alarms=alarms) for name, part in fan.sections.items()
    }
    of_fan = msgspec.structs.replace(fan, sections=sections)
    [seed] = row_entry(dataclasses.replace(results, records={"fan": of_fan})).seeds
    metrics = {name: value for name, value, _ in seed.metrics}
    rate = "metrics/fan/false_alarm_rate_source"
    assert [round(metrics[f"{rate}{end}"], 1) for end in ("", "_low", "_high")] == [10.0, 4.9, 17.6]
    assert metrics["metrics/fan/false_alarm_rate_target"] == 10
    assert metrics["metrics/fan/test_normals_target"] == 10


def test_an_incomplete_seed_has_no_score() -> None:
    [seed] = row_entry(dataclasses.replace(seed_results(), score=None)).seeds
    assert not [name for name, _, _ in seed.metrics if name == "seed_score"]


def test_a_seed_has_its_curves_by_machine_type() -> None:
    [seed] = row_entry(seed_results(epochs=2)).seeds
    points = [point for point in seed.metrics if point[0] == "curves/valve/reconstruction l1"]
    assert points == [("curves/valve/reconstruction l1", 2.0, 1), ("curves/valve/reconstruction l1", 1.0, 2)]


def test_several_sections_are_told_apart() -> None:
    [seed] = row_entry(seed_results(sections=2)).seeds
    metrics = {name: value for name, value, _ in seed.metrics}
    assert metrics["metrics/fan/section_1/auc_source"] == 60
    [seed] = row_entry(seed_results(sections=1)).seeds
    assert not [name for name, _, _ in seed.metrics if "section_" in name]


def test_a_seed_has_the_metrics_of_its_rule() -> None:
    judged = SectionMetrics({"auc": 0.9, "pauc": 0.5}, {}, {"empirical": {}}, {}, 200)
    record = msgspec.structs.replace(result(), sections={"00": judged}, rule=WITHOUT_DOMAINS)
    [seed] = row_entry(dataclasses.replace(seed_results(), records={"fan": record})).seeds
    metrics = {name: value for name, value, _ in seed.metrics}
    assert (metrics["metrics/fan/auc"], metrics["metrics/fan/score"]) == (90, 70)


def test_other_results_of_a_seed_have_another_hash() -> None:
    assert seed_results().results == seed_results(types=("valve", "fan")).results
    assert seed_results().results != seed_results(types=("fan",)).results
    assert seed_results().results != seed_results(finished="13").results


def test_artifacts_that_mlflow_shows_as_tables_are_named_in_a_tag() -> None:
    row = row_entry(files={"scores.json": b"{}", "a.png": b""}, tables=["scores.json"]).row
    assert json.loads(row.tags["mlflow.loggedArtifacts"]) == [{"path": "scores.json", "type": "table"}]
    assert row.files == {"scores.json": b"{}", "a.png": b""}


def test_a_board_is_arranged_with_the_metrics_of_its_rule() -> None:
    entry = board_entry("store", "demo", ["k"], as_of_ns=7, metrics=["auc", "pauc"], note="# Board")
    assert (entry.keys, entry.as_of_ns, entry.tags["mlflow.note.content"]) == (["k"], 7, "# Board")
    assert "mlflow.sharedViewState.leaderboard" in entry.tags
