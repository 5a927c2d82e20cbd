import json

import pytest
from rich.console import Console

from asdbench.metrics import OFFICIAL
from asdbench.report.leaderboard import with_references
from asdbench.report.leaderboard_table import render
from asdbench.report.published import references, references_for

DEV = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")


def of(data, subset, system):
    [found] = [r for r in references() if (r.data, r.subset, r.system) == (data, subset, system)]
    return found


@pytest.mark.parametrize(
    ("system", "score"), [("official baseline MSE", 55.02), ("official baseline MAHA", 56.91)]
)
def test_the_baselines_scores_follow_from_their_values(system, score):
    reference = of("dcase2023", "dev", system)
    assert set(reference.values) == set(DEV)
    assert round(100 * reference.score(DEV), 2) == score == round(100 * reference.printed_score, 2)


def test_every_score_by_the_official_rule_follows_from_its_values():
    official = [r for r in references() if r.variant == "official rule"]
    assert {(r.data, r.subset) for r in official} == {
        ("dcase2023", "dev"),
        ("dcase2023", "eval"),
        ("dcase2024", "eval"),
        ("dcase2025", "eval"),
        ("dcase2026", "eval"),
    }
    for reference in official:
        printed = 5e-5 if reference.subset == "dev" else 1e-12
        assert reference.score(list(reference.values)) == pytest.approx(reference.printed_score, abs=printed)


def test_the_golden_scores_of_the_baselines_are_there():
    assert round(of("dcase2023", "eval", "official baseline MSE").printed_score, 4) == 0.5925
    assert round(of("dcase2023", "eval", "official baseline MAHA").printed_score, 4) == 0.6105


def test_the_reports_own_systems_are_marked_as_counted_otherwise():
    own = [r for r in references() if r.system.startswith("Zhang_DKU")]
    assert len(own) == 4
    for reference in own:
        assert "not comparable" in reference.variant
        assert "Table 2" in reference.source
        assert set(reference.values) == set(DEV)


def test_results_are_of_a_challenge_and_its_machine_types():
    assert len(references_for("dcase2023", DEV)) == 6
    assert {r.subset for r in references_for("dcase2023", ["Vacuum"])} == {"eval"}
    assert references_for("dcase2023", ["pump"]) == []
    assert references_for("demo", DEV) == []


def measured(system="mine", score=0.6):
    return {
        "system": system,
        "settings": {},
        "official_score": score,
        "official_score_std": None,
        **dict.fromkeys(OFFICIAL.metrics, score),
        "seeds": [0],
        "parameters": 10,
        "macs_per_clip": 1000,
        "training_seconds": 1.0,
        "scoring_seconds": 1.0,
        "clips_per_second": 5.0,
        "machine_types": 7,
        "machine_types_done": list(DEV),
        "machine_types_missing": [],
        "complete": True,
    }


def test_published_rows_stand_among_measured_ones_in_order_and_never_as_the_best():
    rows = with_references([measured()], references_for("dcase2023", DEV), machine_types=DEV)
    scores = [row["official_score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert len(rows) == 7
    assert all(list(row) == list(rows[0]) for row in rows)
    best, *_ = rows
    assert best["system"] == "Zhang_DKU_task2_2"
    assert best["reference"]["printed_score"] == 0.6155
    assert best["parameters"] is None
    assert json.loads(render(rows, format="json", title=""))[0]["reference"]["subset"] == "dev"
    text = render(rows, format="markdown", title="t")
    assert "| Zhang_DKU_task2_2 | published | 62.13 |" in text
    assert "**62.13**" not in text
    assert "| mine |  | 60.00 |" in text
    assert "Published: Zhang and Li, technical report" in text
    assert len(render(rows, format="csv", title="").splitlines()) == 8
    with Console(width=200).capture():
        assert render(rows, format="table", title="t", console=Console(width=200, quiet=True)) is None


def test_a_tuned_row_stays_one_among_published_ones():
    tuned = {"trials": 20, "search": "abc", "protocol": "dev"}
    own = measured() | {"tuned": tuned, "subset": "dev"}
    rows = with_references([own, measured("untuned")], references_for("dcase2023", DEV), machine_types=DEV)
    assert [row["system"] for row in rows if row["tuned"]] == ["mine"]
    assert next(row for row in rows if row["system"] == "mine")["tuned"] == tuned
    assert all(row["subset"] == "dev" for row in rows if row["reference"])
    text = render(rows, format="markdown", title="t")
    assert text.count("(dev-tuned, 20 trials)") == 1


def test_a_result_of_some_of_the_machine_types_has_no_score_over_all():
    types = (*DEV, "Vacuum")
    rows = with_references([], references_for("dcase2023", types), machine_types=types)
    assert all(row["official_score"] is None for row in rows)
    shown = next(row for row in rows if row["system"] == "Zhang_DKU_task2_1")
    assert (shown["machine_types"], shown["machine_types_missing"]) == (7, ["Vacuum"])
    assert "7 of 8 types" in render(rows, format="markdown", title="")


def test_by_type_a_result_stands_with_each_of_its_machine_types():
    rows = with_references([], references_for("dcase2023", ("fan",)), machine_types=("fan",), by_type=True)
    assert len(rows) == 6
    row = next(row for row in rows if row["system"] == "official baseline MSE")
    assert (row["machine_type"], row["auc_source"], row["seeds"]) == ("fan", 0.8019, [])


def test_results_are_of_a_subset():
    assert references_for("dcase2023", DEV, subset="eval") == []
    assert {r.subset for r in references_for("dcase2023", [*DEV, "Vacuum"], subset="dev")} == {"dev"}


def test_beside_rows_of_another_rule_no_column_is_added():
    own = {key: value for key, value in measured().items() if key not in OFFICIAL.metrics}
    row = own | {"auc": 0.7, "pauc": 0.5}
    [found] = with_references([row], [], machine_types=DEV)
    assert list(found) == [*row, "reference"]
