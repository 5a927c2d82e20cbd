"""Published results: the table, and how its rows stand among measured ones."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from asdbench.data.sets.catalog import DataSet
from asdbench.data.sets.challenges import CHALLENGES
from asdbench.data.sets.layouts import SECTIONS
from asdbench.io.workspace import Workspace
from asdbench.metrics import OFFICIAL, WITHOUT_DOMAINS
from asdbench.report.leaderboard import with_references
from asdbench.report.leaderboard_table import render
from asdbench.report.published import Reference, challenges_of, references, references_for
from asdbench.report.published_notes import published_results, standing_notes

DEV = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")
DIFFERENT = {  # what is printed, and what the harmonic mean of the printed values is
    "Kim_AISTAT_ensemble_1": (66.78, 66.75),  # by all appearances swapped with the next
    "Kim_AISTAT_ensemble_2": (66.75, 66.78),
    "Kim_AISTAT_ensemble_4": (66.70, 66.64),
    "Zhang_DKU_task2_1": (59.71, 59.73),  # another rule, and averages below the mean of the values
    "Zhang_DKU_task2_2": (61.55, 62.13),
    "Zhang_DKU_task2_3": (58.21, 59.56),
    "Zhang_DKU_task2_4": (61.48, 61.67),
}
ROUNDING = 1e-4  # of values and score, printed in percent with two decimals


def of(data: str, subset: str, system: str) -> Reference:
    [found] = [r for r in references() if (r.data, r.subset, r.system) == (data, subset, system)]
    return found


def recomputed() -> list[Reference]:
    return [r for r in references() if r.values and r.printed_score is not None]


def harmonic_mean(values: Sequence[float]) -> float:
    return len(values) / math.fsum(1 / value for value in values)


@pytest.mark.parametrize("result", recomputed(), ids=lambda r: f"{r.data}-{r.subset}-{r.system}")
def test_a_printed_score_is_the_harmonic_mean_of_the_printed_values(result: Reference) -> None:
    mean = harmonic_mean([value for of_type in result.values.values() for value in of_type.values()])
    assert result.means(list(result.values))["score"] == pytest.approx(mean, abs=1e-12)
    if result.system in DIFFERENT:
        assert (round(100 * result.printed_score, 2), round(100 * mean, 2)) == DIFFERENT[result.system]
        assert abs(mean - result.printed_score) > ROUNDING
    else:
        assert result.printed_score == pytest.approx(mean, abs=ROUNDING)


def test_the_exceptions_are_four_of_another_rule_and_three_of_thirty_two() -> None:
    official = [r for r in recomputed() if r.is_official]
    assert len(official) == 32
    assert sum(r.system in DIFFERENT for r in official) == 3
    assert {r.system for r in recomputed() if not r.is_official} == {
        name for name in DIFFERENT if name.startswith("Zhang")
    }


def test_scores_of_machine_types_in_place_of_metrics_are_of_the_official_rule() -> None:
    with_scores = [r for r in references() if r.type_scores]
    assert {r.system for r in with_scores} == {"MERL frozen BEATs", "MERL NA-BEATs"}
    for result in with_scores:
        mean = harmonic_mean(list(result.type_scores.values()))
        assert result.printed_score == pytest.approx(mean, abs=5e-5)
        assert set(result.type_scores) == set(CHALLENGES["dcase2026"].subsets["dev"].machine_types)


def test_values_are_of_the_machine_types_and_metrics_of_their_challenge() -> None:
    assert len(references()) == 117
    for result in references():
        challenge = CHALLENGES[result.data]
        assert set(result.machine_types) == set(challenge.subsets[result.subset].machine_types)
        assert all(set(of_type) == set(challenge.rule.metrics) for of_type in result.values.values())
        numbers = [v for of_type in result.values.values() for v in of_type.values()]
        assert all(0 < number < 1 for number in [*numbers, *result.type_scores.values()])
        assert all(result.sources)
        assert "asdbench" not in result.source.lower()


def test_the_golden_scores_of_the_baselines_are_there() -> None:
    assert of("dcase2023", "dev", "official baseline MSE").printed_score == 0.5502
    eval_mse = of("dcase2023", "eval", "official baseline MSE")
    assert eval_mse.printed_score == pytest.approx(eval_mse.means(list(eval_mse.values))["score"], abs=1e-12)
    assert round(of("dcase2023", "eval", "official baseline MAHA").printed_score or 0, 4) == 0.6105


def test_results_are_of_a_challenge_its_machine_types_and_its_subset() -> None:
    assert len(references_for("dcase2023", DEV, subset="dev")) == 12
    assert {r.subset for r in references_for("dcase2023", ["Vacuum"])} == {"eval"}
    assert references_for("dcase2023", ["pump"]) == []
    assert references_for("demo", DEV) == []
    assert references_for("dcase2023", DEV, subset="eval") == []
    assert references_for("dcase2021", DEV) == []


# The challenge of a data set


_TEST = {"split": "test", "domain": "source"}


def registered(name: str, clips: Mapping[str, Mapping[str, Sequence[str]]]) -> DataSet:
    """Return a data set in the layout of many years, given the sections by subset and machine type."""
    rows = [
        {
            "machine_type": machine_type,
            "section": section,
            "subset": subset,
            "split": "test",
            "domain": "source",
        }
        for subset, types in clips.items()
        for machine_type, sections in types.items()
        for section in sections
    ]
    workspace = Workspace.from_home(Path("/nowhere"))
    now = datetime.now(UTC)
    frame = pl.DataFrame(rows)
    return DataSet(workspace, name, Path("/sounds"), frame, "mean", now, None, (), (), SECTIONS.name)


def like(challenge: str, *subsets: str, name: str = "mine") -> DataSet:
    known = CHALLENGES[challenge].subsets
    return registered(name, {subset: known[subset].sections for subset in subsets})


def test_a_data_set_is_of_the_challenge_of_its_name_or_of_all_that_it_is_like() -> None:
    assert challenges_of(registered("dcase2024", {"dev": {"fan": ["00"]}})) == ["dcase2024"]
    assert challenges_of(like("dcase2023", "dev", "eval")) == ["dcase2023"]
    assert challenges_of(like("dcase2022", "dev")) == ["dcase2022"]
    assert challenges_of(like("dcase2023", "dev")) == ["dcase2023", "dcase2024"]
    assert challenges_of(replace(like("dcase2023", "eval"), layout=None)) == []
    assert challenges_of(registered("tiny", {"dev": {"fan": ["00"], "valve": ["00"]}})) == []


def test_a_data_set_of_another_name_gets_a_note_or_is_asked_for_its_challenge() -> None:
    found, [note] = published_results(like("dcase2023", "dev", "eval"), DEV, "dev")
    assert len(found) == 12
    assert "mine has the layout, the sections and the machine types of dcase2023" in note
    found, [note] = published_results(like("dcase2023", "dev"), DEV, "dev")
    assert found == []
    assert "may be those of dcase2023 or dcase2024; to see published results, " in note
    assert "'asdbench data add dcase2023 /sounds'" in note


def test_a_score_that_is_only_printed_is_of_all_machine_types() -> None:
    types = ("ToyCar", "fan")
    data = registered("dcase2023", {"dev": {name: ["00"] for name in types}})
    found, [note] = published_results(data, types, "dev")
    assert len(found) == 12
    assert note.startswith("6 published results on dcase2023 (dev) cannot be compared: only a score over all")
    rows = with_references([], found, machine_types=types)
    assert len(rows) == 6
    assert {row["tier"] for row in rows} == {"recomputed"}
    assert all(row["official_score"] is not None for row in rows)


def test_without_labels_nothing_is_compared() -> None:
    found, [note] = published_results(like("dcase2023", "eval", name="dcase2023"), (), "eval")
    assert found == []
    assert "has a known label" in note
    assert "'asdbench data labels dcase2023 --from FOLDER'" in note


# Rows


def measured(system: str = "mine", score: float = 0.6) -> dict[str, Any]:
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


def among(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    return with_references(rows, references_for("dcase2023", DEV, subset="dev"), machine_types=DEV)


def test_published_rows_stand_among_measured_ones_and_those_of_another_rule_at_the_end() -> None:
    rows = among(measured())
    assert [row["rank"] for row in rows] == [*range(1, 10), None, None, None, None]
    ranked, unranked = rows[:9], rows[9:]
    assert [row["official_score"] for row in ranked] == sorted(
        (r["official_score"] for r in ranked), reverse=True
    )
    assert [row["system"] for row in unranked] == [f"Zhang_DKU_task2_{n}" for n in (2, 4, 1, 3)]
    assert [row["tier"] for row in rows] == [
        *["published"] * 6,
        "ours",
        *["recomputed"] * 6,
    ]
    assert all(list(row) == list(rows[0]) for row in rows)
    assert rows[7]["system"] == "official baseline MAHA"
    assert round(rows[7]["official_score"], 6) == 0.569071
    assert rows[7]["reference"]["printed_score"] == 0.5691
    assert rows[7]["parameters"] is None


def test_rows_of_equal_scores_share_a_rank_and_a_row_without_a_score_has_none() -> None:
    rows = among(measured("a"), measured("b"), measured("c", 0.59), measured("d") | {"official_score": None})
    ranks = {row["system"]: row["rank"] for row in rows}
    assert [ranks[name] for name in "abcd"] == [7, 7, 9, None]


def test_a_row_keeps_the_tier_that_it_has() -> None:
    assert {row["system"]: row["tier"] for row in among(measured() | {"tier": "imported"})}[
        "mine"
    ] == "imported"


def test_a_table_names_tiers_ranks_sources_and_what_another_rule_gives() -> None:
    rows = among(measured())
    assert json.loads(render(rows, format="json", title="") or "")[0]["reference"]["subset"] == "dev"
    text = render(rows, format="markdown", title="t") or ""
    assert "| 7 | mine | ours |  | 60.00 | – |" in text
    assert "| – | Zhang_DKU_task2_2 | other rule |  | 62.13 | 61.55 |" in text
    assert "| 9 | official baseline MSE | recomputed |  | 55.02 | 55.02 |" in text
    assert "| 1 | BEATs RDP+GeM 1-NN LDN/VarMin | published |  | 65.70 | 65.70 | – | – | – |" in text
    assert "**" not in text.replace("**t**", "")  # none of these is the best
    assert "have no rank" in text
    assert "Sources: Wilkinghoff, Yadav and Tan, arXiv:2603.04605, Table V (mean); Zhang and Li, " in text
    assert len((render(rows, format="csv", title="") or "").splitlines()) == 14


def test_a_narrow_terminal_shows_names_ranks_tiers_and_scores_on_a_line_each() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    assert render(among(measured()), format="table", title="t", console=console) is None
    lines = console.export_text().splitlines()
    [line] = [" ".join(line.split()) for line in lines if "ASDKit" in line]
    assert line == "5 ASDKit BEATs raw (Fujimura et al.) published 62.30 62.30"


def test_a_tuned_row_stays_one_among_published_ones() -> None:
    tuned = {"trials": 20, "search": "abc", "protocol": "dev"}
    rows = among(measured() | {"tuned": tuned, "subset": "dev"}, measured("untuned"))
    assert [row["system"] for row in rows if row["tuned"]] == ["mine"]
    assert all(row["subset"] == "dev" for row in rows if row["reference"])
    assert (render(rows, format="markdown", title="t") or "").count("(dev-tuned, 20 trials)") == 1


def test_a_result_of_some_of_the_machine_types_has_no_score_over_all() -> None:
    types = (*DEV, "Vacuum")
    rows = with_references([], references_for("dcase2023", types, subset="dev"), machine_types=types)
    assert {row["tier"] for row in rows} == {"recomputed"}
    assert all(row["official_score"] is row["rank"] is None for row in rows)
    shown = next(row for row in rows if row["system"] == "Zhang_DKU_task2_1")
    assert (shown["machine_types"], shown["machine_types_missing"]) == (7, ["Vacuum"])
    assert "7 of 8 types" in (render(rows, format="markdown", title="") or "")


def test_by_type_a_result_stands_with_each_of_its_machine_types() -> None:
    published = references_for("dcase2023", ("fan",), subset="dev")
    rows = with_references([], published, machine_types=("fan",), by_type=True)
    assert [row["rank"] for row in rows] == [1, 2, None, None, None, None]
    row = next(row for row in rows if row["system"] == "official baseline MSE")
    assert (row["machine_type"], row["auc_source"], row["seeds"]) == ("fan", 0.8019, [])
    fans = references_for("dcase2026", ("fan",), subset="dev")
    scores = with_references([], fans, machine_types=("fan",), by_type=True)
    merl = next(row for row in scores if row["system"] == "MERL NA-BEATs")
    assert (merl["official_score"], merl["auc_source"], merl["tier"]) == (0.5315, None, "published")
    assert merl["rank"] is not None


def test_columns_are_those_of_the_rule() -> None:
    own = {key: value for key, value in measured().items() if key not in OFFICIAL.metrics}
    row = own | {"auc": 0.7, "pauc": 0.5}
    [found] = with_references([row], [], machine_types=DEV, rule=WITHOUT_DOMAINS)
    assert list(found) == [*row, "tier", "reference", "rank"]
    types = CHALLENGES["dcase2020"].subsets["dev"].machine_types
    published = references_for("dcase2020", types, subset="dev")
    rows = with_references([], published, machine_types=types, rule=WITHOUT_DOMAINS)
    assert len(rows) == len(published) == 8
    assert rows[0]["system"] == "sub-cluster AdaCos (trained)"
    assert "auc_source" not in rows[0]


def test_a_note_says_where_the_best_of_ours_stands() -> None:
    rows = among(measured("worse", 0.56), measured(score=0.5999))
    assert standing_notes(rows) == [
        "the best of ours, mine, has rank 7 of 10, behind openL3 RDP+GeM 1-NN LDN/VarMin (60.30) "
        "and ahead of official baseline MAHA (56.91)"
    ]
    assert standing_notes(among(measured(score=0.9)))[0].endswith(
        "ahead of BEATs RDP+GeM 1-NN LDN/VarMin (65.70)"
    )
    twin = measured("twin", 0.9)
    assert standing_notes(among(measured(score=0.9), twin)) == [
        "the best of ours, mine, has rank 1 of 10, ahead of BEATs RDP+GeM 1-NN LDN/VarMin (65.70)"
    ]
    level = [
        {"system": name, "rank": 1, "tier": name, "official_score": 0.5} for name in ("ours", "imported")
    ]
    assert standing_notes(level) == ["the best of ours, ours, has rank 1 of 2, level with imported (50.00)"]
    assert standing_notes(among()) == []
    assert standing_notes(with_references([measured()], [], machine_types=DEV)) == []
