import csv
import dataclasses
import io
import json
import re
import statistics
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from rich.console import Console

from asdbench import registry
from asdbench.config import assignments
from asdbench.engine.result_metrics import machine_type_metrics
from asdbench.engine.result_record import ResultRecord
from asdbench.engine.versions import Versions
from asdbench.errors import InputError
from asdbench.metrics import IN_DOMAIN, OFFICIAL, THRESHOLDS, WITHOUT_DOMAINS, Rule, official_score
from asdbench.presets import Preset
from asdbench.report.leaderboard import display_metrics, row_key, row_parts, rows, section_score
from asdbench.report.leaderboard_table import render

TYPES = ("fan", "valve")
OFFICIAL_METRICS = ("auc_source", "auc_target", "pauc")


def section(auc_source: float, auc_target: float, pauc: float, **pseudo_anomaly_data: Any) -> dict[str, Any]:
    return {
        "in_domain": {},
        "clips": 200,
        "official": {"auc_source": auc_source, "auc_target": auc_target, "pauc": pauc},
        "half_width": {"auc_source": 0.04, "auc_target": 0.05, "pauc": 0.06},
        "decisions": {
            method: {f"{m}_{d}": 0.5 for m in ("precision", "recall", "f1") for d in ("source", "target")}
            for method in THRESHOLDS
        },
        **pseudo_anomaly_data,
    }


def stored_threshold(threshold: float | None, false_alarms: int = 2, units: int = 20) -> dict[str, Any]:
    normals = {
        "false_alarms": false_alarms,
        "normals": 20,
        "units": units,
        "units_are": "recordings",
        "is_fresh": True,
    }
    return {"threshold": threshold, "held_out": {"source": normals}, "needed": 9}


def result(
    system: str = "baseline-mse",
    machine_type: str = "fan",
    seed: int = 0,
    metrics: tuple[float, float, float] = (0.6, 0.5, 0.55),
    **pseudo_anomaly_data: Any,
) -> ResultRecord:
    record: dict[str, Any] = {
        "system": system,
        "settings": {"epochs": 100},
        "pseudo_anomaly_data": None,
        "tuned": None,
        "keys": {"trainings": ["t"], "scoring": "s"},
        "fingerprint": "f1f2",
        "code": "c0de",
        "transductive": False,
        "hold_out_clips": 20,
        "training_steps": 50,
        "changed_settings": {},
        "data": "demo",
        "machine_type": machine_type,
        "seed": seed,
        "subset": "dev",
        "rule": dataclasses.asdict(OFFICIAL),
        "thresholds": {method: stored_threshold(1.5) for method in THRESHOLDS},
        "sections": {"0": section(*metrics)},
        "parameters": 1000,
        "macs_per_clip": 2_500_000,
        "training_seconds": 10.0,
        "scoring_seconds": 2.0,
        "clips_per_second": 100.0,
        "finished": "2026-01-01T00:00:00+00:00",
    }
    return msgspec.convert(record | pseudo_anomaly_data, ResultRecord)


def both_types(
    system: str = "baseline-mse", seed: int = 0, auc: float = 0.6, **pseudo_anomaly_data: Any
) -> list[Any]:
    return [
        result(system, machine_type, seed, (auc, 0.5, 0.55), **pseudo_anomaly_data) for machine_type in TYPES
    ]


def tuned(trials: int = 20, search: str = "abc") -> dict[str, Any]:
    return {
        "search": search,
        "trials": trials,
        "protocol": "dev",
        "seeds": (),
        "score": None,
        "weight_vectors": 0,
    }


def printed(found: list[dict[str, Any]], *, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    assert render(found, format="table", title="Demo", console=console) is None
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_row_is_the_mean_over_seeds_of_the_score_over_all_sections() -> None:
    two_sections = {"0": section(0.6, 0.7, 0.5), "1": section(0.9, 0.8, 0.7)}
    records = [
        result(machine_type="valve", seed=3, metrics=(0.8, 0.6, 0.5)),
        result(machine_type="fan", seed=3, sections=two_sections),
        *both_types(seed=0),
    ]
    [row] = rows(records, machine_types=TYPES)
    scores = [
        official_score([records[2].sections["0"].official] * 2),
        official_score([records[0].sections["0"].official, *(s["official"] for s in two_sections.values())]),
    ]
    assert row["official_score"] == pytest.approx(statistics.fmean(scores), abs=1e-12)
    assert row["official_score_std"] == pytest.approx(statistics.stdev(scores), abs=1e-12)
    of_seed_3 = statistics.harmonic_mean([0.8, 0.6, 0.9])
    assert row["auc_source"] == pytest.approx((0.6 + of_seed_3) / 2, abs=1e-12)
    assert row["seeds"] == [0, 3]
    assert (row["machine_types"], row["machine_types_done"], row["complete"]) == (2, list(TYPES), True)


def test_times_are_of_all_types_and_speed_is_of_all_clips() -> None:
    records = [
        result(
            machine_type="fan",
            training_seconds=10.0,
            clips_per_second=100.0,
            scoring_seconds=3.0,
            parameters=1007,
        ),
        result(
            machine_type="valve",
            training_seconds=5.0,
            clips_per_second=20.0,
            scoring_seconds=1.0,
            parameters=1009,
        ),
        *both_types(seed=1, training_seconds=20.0, scoring_seconds=0.0),
    ]
    [row] = rows(records, machine_types=TYPES)
    assert row["training_seconds"] == pytest.approx((15 + 40) / 2)
    assert row["clips_per_second"] == pytest.approx(320 / 4)
    assert row["parameters"] == 1009


def test_one_seed_has_no_spread() -> None:
    [row] = rows(both_types(), machine_types=TYPES)
    assert row["official_score_std"] is None
    assert "±" not in printed([row], width=80)


def test_a_seed_without_all_machine_types_does_not_count() -> None:
    complete = rows(both_types(seed=1), machine_types=TYPES)
    lone_seed = result(seed=0, metrics=(0.99, 0.99, 0.99))
    [row] = rows([*both_types(seed=1), lone_seed], machine_types=TYPES)
    assert (row["official_score"], row["seeds"]) == (complete[0]["official_score"], [1])
    of_another_type = result(machine_type="pump", seed=1, metrics=(0.9, 0.9, 0.9))
    assert rows([*both_types(seed=1), of_another_type], machine_types=TYPES) == complete


def test_the_best_come_first_and_the_incomplete_last() -> None:
    records = [
        result("half-done", "valve", 0, (0.99, 0.99, 0.99)),
        *both_types("low", auc=0.4),
        *both_types("high", auc=0.9),
        *both_types("high", auc=0.7, changed_settings={"epochs": 30}),
    ]
    found = rows(records, machine_types=TYPES)
    order = [(row["system"], row["settings"]) for row in found]
    assert order == [("high", {}), ("high", {"epochs": 30}), ("low", {}), ("half-done", {})]
    last = found[-1]
    assert (last["complete"], last["official_score"], last["auc_source"], last["seeds"]) == (
        False,
        None,
        None,
        [],
    )
    assert (last["machine_types_done"], last["machine_types_missing"]) == (["valve"], ["fan"])
    assert "1 of 2 types" in printed(found, width=80)


def test_of_equal_results_the_newest_counts_in_any_order() -> None:
    old = both_types(auc=0.9)
    new = both_types(auc=0.6, finished="2026-02-01T00:00:00+00:00")
    assert rows([*new, *old], machine_types=TYPES) == rows(new, machine_types=TYPES)
    assert rows([*old, *new], machine_types=TYPES) == rows(new, machine_types=TYPES)


@pytest.mark.parametrize("by_type", [False, True])
def test_a_tuned_row_stands_beside_the_untuned_one(by_type: bool) -> None:
    settings = {"epochs": 30}
    records = [
        *both_types("best", auc=0.9),
        *both_types(auc=0.8, tuned=tuned(), changed_settings=settings),
        *both_types(auc=0.7, tuned=None, changed_settings=settings),
        *both_types(auc=0.7, tuned=tuned(search="def"), changed_settings=settings),
        *both_types(auc=0.6),
    ]
    for given in (records, records[::-1]):
        found = rows(given, machine_types=TYPES, by_type=by_type)
        shown = [(row["system"], row["settings"], row["tuned"], row["subset"]) for row in found]
        assert shown == [
            ("best", {}, None, "dev"),
            ("baseline-mse", settings, tuned(), "dev"),
            ("baseline-mse", settings, None, "dev"),
            ("baseline-mse", settings, tuned(search="def"), "dev"),
            ("baseline-mse", {}, None, "dev"),
        ] * (2 if by_type else 1)


def test_a_row_has_the_trials_of_its_newest_result() -> None:
    old, new = both_types(tuned=tuned(10)), both_types(tuned=tuned(20))  # within one second
    for given in ([*old, *new], [*new, *old], [*old, new[0]]):
        [row] = rows(given, machine_types=TYPES)
        assert (row["tuned"], row["complete"], row["seeds"]) == (tuned(20), True, [0])
    later = [msgspec.structs.replace(record, finished="2026-02-01T00:00:00+00:00") for record in old]
    [row] = rows([*new, *later], machine_types=TYPES)
    assert row["tuned"] == tuned(10)


def test_a_tuned_row_is_marked_under_its_name() -> None:
    records = [
        *both_types("by-20", tuned=tuned(), changed_settings={"epochs": 30}),
        *both_types("by-1", tuned=tuned(1)),
        *both_types("by-none"),
    ]
    found = rows(records, machine_types=TYPES)
    assert printed(found, width=80).count("dev-tuned, ") == 2
    for by_type in (False, True):
        shown = printed(rows(records, machine_types=TYPES, by_type=by_type), width=80)
        lines = [line.split("  ")[by_type + 1 :] for line in shown.splitlines()]
        words = [next(filter(None, line), "").strip() for line in lines]
        at = words.index("by-20")
        assert words[at + 1 : at + 3] == ["dev-tuned, 20 trials", "epochs=30"]
        assert words[words.index("by-1") + 1] == "dev-tuned, 1 trial"
        text = render(rows(records, machine_types=TYPES, by_type=by_type), format="markdown", title="Demo")
        assert text is not None
        assert "| by-20 (dev-tuned, 20 trials) | `epochs=30` |" in text
        assert "| by-1 (dev-tuned, 1 trial) |  |" in text
        assert "| by-none |  |" in text


def test_the_caption_says_what_tuned_means_where_a_row_is() -> None:
    plain = both_types("plain")
    assert "dev-tuned" not in printed(rows(plain, machine_types=TYPES), width=120)
    for by_type in (False, True):
        for format in ("table", "markdown"):
            told = {}
            for subset in ("dev", "eval"):
                records = both_types(tuned=tuned(), subset=subset)
                found = rows(records, machine_types=TYPES, by_type=by_type)
                text = render(found, format="markdown", title="D") if format == "markdown" else None
                told[subset] = " ".join((text or printed(found, width=120)).split())
            assert (
                "settings were chosen with the labels of these clips, so this score is optimistic; "
                "'asdbench tune --protocol leave-one-type-out' estimates by how much."
            ) in told["dev"]
            assert "optimistic" not in told["eval"]
            assert (
                "dev-tuned: settings were chosen with the labels of the development clips; "
                "the clips scored here were not used."
            ) in told["eval"]


def test_settings_of_a_preset_that_these_labels_chose_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Preset({"hidden": 16}, chosen_on=("demo",))
    monkeypatch.setattr(registry.get("baseline-mse"), "presets", {"narrow": narrow})
    members = "multitask-mel,baseline-mse@narrow"
    records = [
        result(changed_settings={"hidden": 16, "epochs": 3}),
        result(changed_settings={"hidden": 8}),
        result("gone", changed_settings={"hidden": 16}),
        result("ensemble", changed_settings={"members": members}),
    ]
    table = rows(records, machine_types=["fan"])
    marked = {(row["system"], assignments(row["settings"])) for row in table if row["chosen_on_labels"]}
    assert marked == {("baseline-mse", "hidden=16 epochs=3"), ("ensemble", f"members={members}")}
    (of_type,) = rows(records[:1], machine_types=["fan"], by_type=True)
    assert of_type["chosen_on_labels"]
    for of_others in ({"data": "shop"}, {"subset": "eval"}):
        others = [msgspec.structs.replace(records[0], **of_others)]
        assert not rows(others, machine_types=["fan"])[0]["chosen_on_labels"]
    markdown = str(render(table, format="markdown", title="demo"))
    assert "| baseline-mse (chosen on this data's labels) | `hidden=16 epochs=3` |" in markdown
    assert "was chosen with the labels of these clips" in markdown
    assert "chosen on this data's labels" in printed(table, width=120)
    assert "chosen on this data's labels" not in printed(rows(records[1:2], machine_types=["fan"]), width=120)
    assert json.loads(str(render(table, format="json", title="demo")))[0]["chosen_on_labels"] in (True, False)


def test_results_of_another_major_version_are_marked() -> None:
    newest = Versions("0.2.0", "3.12.3", "2.1.0", "2.9.0", "2.52.1")

    def table(*versions: Versions, by_type: bool = False) -> list[dict[str, Any]]:
        records = [
            msgspec.structs.replace(result(f"system-{n}"), versions=(newest, each))
            for n, each in enumerate(versions)
        ]
        return rows(records, machine_types=["fan"], by_type=by_type)

    of_python, of_ray = (
        msgspec.structs.replace(newest, python="3.11.9"),
        msgspec.structs.replace(newest, ray="2.9.3"),
    )
    alike = table(newest, of_python, of_ray)
    assert [row["other_versions"] for row in alike] == [[], [], []]
    assert "made with" not in printed(alike, width=120)
    old = msgspec.structs.replace(newest, torch="1.13.1+cpu", asdbench="0.1.9")
    for by_type in (False, True):
        found = table(newest, old, by_type=by_type)
        assert found[1]["other_versions"] == ["asdbench 0.1.9", "torch 1.13.1+cpu"]
        assert {"torch 2.9.0", "torch 1.13.1+cpu", "ray 2.52.1"} <= set(found[1]["versions"])
        markdown = str(render(found, format="markdown", title="demo"))
        assert "| system-1 (made with asdbench 0.1.9, torch 1.13.1+cpu) |" in markdown
        assert "| system-0 |" in markdown
        shown = printed(found, width=120)
        assert shown.count("made with asdbench 0.1.9, torch 1.13.1+cpu") == 1
        assert "results of another major version than the newest here" in " ".join(shown.split())


def test_a_method_that_these_labels_chose_is_marked() -> None:
    records = [result("spectra-gauss", data=name) for name in ("demo", "shop", "factory")]
    tables = [rows([record], machine_types=["fan"]) for record in records]
    assert [row["chosen_on_labels"] for (row,) in tables] == [True, True, False]


def test_json_and_csv_say_what_a_row_is_tuned_by() -> None:
    records = [*both_types("mine", auc=0.7, tuned=tuned()), *both_types("other", tuned=None)]
    found = rows(records, machine_types=TYPES)
    text = render(found, format="json", title="Demo")
    assert text is not None
    assert [row["tuned"] for row in json.loads(text)] == [tuned() | {"seeds": []}, None]
    text = render(found, format="csv", title="Demo")
    assert text is not None
    read = [row["tuned"] for row in csv.DictReader(io.StringIO(text))]
    assert read == ["search=abc trials=20 protocol=dev seeds= score=none weight_vectors=0", ""]


def test_a_tuned_row_counts_the_seeds_that_its_search_did_not_see() -> None:
    seen = tuned() | {"seeds": (0,), "score": 0.75}
    records = [
        record
        for seed, auc in enumerate((0.9, 0.6, 0.7))
        for record in both_types(seed=seed, auc=auc, tuned=seen)
    ]
    [row] = rows(records, machine_types=TYPES)
    [fresh] = rows(records[2:], machine_types=TYPES)
    assert (row["seeds"], row["official_score"]) == ([1, 2], fresh["official_score"])
    assert {seed for seed, _ in row_parts([row], records)[row_key(row)]} == {1, 2}
    assert display_metrics(row)["score_in_search"] == 75.0
    text = printed([row], width=100)
    assert "75.00 in the search" in text
    assert "highest of many scores is partly luck" in " ".join(text.split())
    by_type = rows(records, machine_types=TYPES, by_type=True)
    assert [row["seeds"] for row in by_type] == [[1, 2], [1, 2]]
    assert "in the search" not in printed(by_type, width=100)


def test_a_tuned_row_without_fresh_seeds_says_so() -> None:
    records = both_types(tuned=tuned() | {"seeds": (0,), "score": 0.75})
    text = " ".join(printed(rows(records, machine_types=TYPES), width=100).split())
    assert "seeds of the search" in text
    assert "75.00" not in text


def test_results_of_several_data_sets_are_refused() -> None:
    with pytest.raises(InputError, match="data sets demo, dev2023;"):
        rows([*both_types(), *both_types(seed=1, data="dev2023")], machine_types=TYPES)


def test_results_of_both_subsets_are_refused() -> None:
    with pytest.raises(InputError, match="both subsets, dev and eval;"):
        rows([*both_types(), *both_types(seed=1, subset="eval")], machine_types=TYPES)


def counted_by(rule: Rule, machine_type: str, *values: float) -> ResultRecord:
    """Return a result of a section with these values of the rule's metrics."""
    metrics = dict(zip(rule.metrics, values, strict=True))
    decided = {f"{m}{d}": 0.5 for m in ("precision", "recall", "f1") for d in ("_source", "_target")}
    judged = {
        "official": metrics,
        "in_domain": {},
        "clips": 200,
        "half_width": dict.fromkeys(metrics, 0.04),
        "decisions": {"empirical": decided if rule.domains else {"precision": 0.4, "recall": 0.5, "f1": 0.6}},
    }
    return result(machine_type=machine_type, sections={"00": judged}, rule=dataclasses.asdict(rule))


def test_without_domains_there_are_two_metrics_and_arithmetic_means() -> None:
    records = [
        counted_by(WITHOUT_DOMAINS, "fan", 0.9, 0.5),
        counted_by(WITHOUT_DOMAINS, "valve", 0.6, 0.8),
    ]
    [row] = rows(records, machine_types=TYPES)
    assert row["official_score"] == pytest.approx((0.9 + 0.5 + 0.6 + 0.8) / 4, abs=1e-12)
    assert (row["auc"], row["pauc"]) == pytest.approx((0.75, 0.65), abs=1e-12)
    assert not [name for name in row if name.endswith(("_source", "_target"))]
    fan, _ = by_type = rows(records, machine_types=TYPES, by_type=True)
    assert (fan["official_score"], fan["auc"], fan["f1"]) == pytest.approx((0.7, 0.9, 0.6), abs=1e-12)
    assert not [name for name in fan if "source" in name or "target" in name]
    for found, over in (([row], "machine types"), (by_type, "the sections of a machine type")):
        text = render(found, format="markdown", title="Demo", rule=WITHOUT_DOMAINS)
        assert text is not None
        assert "| AUC | pAUC | seeds |" in text
        assert f"arithmetic mean of AUC, pAUC over {over};" in text
    assert "| half-widths | F1 |" in text
    assert "Half-widths: of the 95 % jackknife intervals of AUC, pAUC over clips." in text


def test_within_a_domain_there_are_four_metrics() -> None:
    records = [counted_by(IN_DOMAIN, name, 0.9, 0.8, 0.7, 0.6) for name in TYPES]
    [row] = rows(records, machine_types=TYPES)
    assert row["official_score"] == pytest.approx(statistics.harmonic_mean([0.9, 0.8, 0.7, 0.6]))
    text = render([row], format="markdown", title="Demo", rule=IN_DOMAIN)
    assert text is not None
    assert "| AUC source | AUC target | pAUC source | pAUC target |" in text
    assert "harmonic mean of AUC (source), AUC (target), pAUC (source), pAUC (target) over" in text


def test_by_type_a_row_holds_the_means_over_seeds_of_one_machine_type() -> None:
    records = [
        *both_types("low", seed=0, auc=0.4),
        *both_types("high", seed=0, auc=0.6),
        *both_types(
            "high",
            seed=1,
            auc=0.8,
            thresholds={"empirical": stored_threshold(2.5, 0)},
        ),
    ]
    found = rows(records, machine_types=("valve", "fan"), by_type=True)
    places = [(row["machine_type"], row["system"]) for row in found]
    assert places == [("valve", "high"), ("valve", "low"), ("fan", "high"), ("fan", "low")]
    row = found[0]
    scores = [statistics.harmonic_mean([auc, 0.5, 0.55]) for auc in (0.6, 0.8)]
    assert row["official_score"] == pytest.approx(statistics.fmean(scores), abs=1e-12)
    assert row["official_score_std"] == pytest.approx(statistics.stdev(scores), abs=1e-12)
    assert (row["auc_source"], row["auc_target"], row["pauc"]) == pytest.approx((0.7, 0.5, 0.55))
    assert (row["auc_source_half_width"], row["f1_target"], row["threshold"]) == pytest.approx(
        (0.04, 0.5, 2.0)
    )
    assert row["seeds"] == [0, 1]


def test_by_type_a_seed_counts_without_the_other_machine_types() -> None:
    [row] = rows([result()], machine_types=TYPES, by_type=True)
    assert (row["machine_type"], row["seeds"], row["official_score_std"]) == ("fan", [0], None)


def test_machine_type_metrics_are_harmonic_over_sections_and_leave_out_what_is_missing() -> None:
    source_only = {"auc_source": 0.8, "pauc": 0.6}
    sections = {
        "0": section(0.4, 0.5, 0.6),
        "1": section(0, 0, 0) | {"official": source_only, "decisions": {"empirical": {}}},
    }
    metrics = machine_type_metrics(result(sections=sections))
    assert metrics["auc_source"] == pytest.approx(2 / (1 / 0.4 + 1 / 0.8), abs=1e-12)
    assert metrics["auc_target"] == pytest.approx(0.5)
    assert metrics["official_score"] == pytest.approx(statistics.harmonic_mean([0.4, 0.5, 0.6, 0.8, 0.6]))
    only = result(sections={"1": sections["1"]})
    assert "auc_target" not in machine_type_metrics(only)
    [row] = rows([only], machine_types=("fan",), by_type=True)
    assert row["auc_target"] is None
    assert row["f1_source"] is None
    [row] = rows([only], machine_types=("fan",))
    assert row["auc_target"] is None
    assert "–" in printed([row], width=80)


def test_settings_are_written_as_they_are_typed() -> None:
    settings = {"epochs": 30, "reproduction": True, "floor": 1e-5, "cap": None, "how": "released"}
    assert assignments(settings) == "epochs=30 reproduction=true floor=1e-05 cap=none how=released"


def test_json_holds_fractions_lists_and_null() -> None:
    found = rows([*both_types(), result("half-done")], machine_types=TYPES)
    text = render(found, format="json", title="Demo")
    assert text is not None
    first, last = json.loads(text)
    assert first == found[0]
    assert first["official_score"] < 1
    assert (first["official_score_std"], first["seeds"], last["official_score"]) == (None, [0], None)


def test_csv_holds_all_columns() -> None:
    records = [
        *both_types(changed_settings={"epochs": 30, "reproduction": True}),
        *both_types("other", seed=1),
    ]
    found = rows([*records, *both_types("other", seed=0)], machine_types=TYPES)
    text = render(found, format="csv", title="Demo")
    assert text is not None
    read = list(csv.DictReader(io.StringIO(text)))
    assert list(read[0]) == list(found[0])
    assert {row["settings"]: row["seeds"] for row in read} == {"epochs=30 reproduction=true": "0", "": "0 1"}
    assert float(read[0]["official_score"]) == found[0]["official_score"]
    assert (read[0]["complete"], read[0]["machine_types_done"]) == ("true", "fan valve")


def test_markdown_is_a_pipe_table_with_the_best_in_bold() -> None:
    settings = {"epochs": 30, "how": "a|b"}
    records = [*both_types("high", auc=0.9), *both_types("low", auc=0.6, changed_settings=settings)]
    text = render(rows(records, machine_types=TYPES), format="markdown", title="Demo")
    assert text is not None
    title, _, header, rule, first, second, _, caption = text.splitlines()
    assert title == "**Demo**"
    assert header.startswith("| system | settings | official score | AUC source |")
    assert rule.count("|") == header.count("|") == first.count("|") == second.count("|") - 1
    assert first.startswith("| high |  | **60.86** | **90.00** | 50.00 |")
    assert second.startswith("| low | `epochs=30 how=a\\|b` | 54.70 | 60.00 |")
    assert "seed 0 only" in caption


@pytest.mark.parametrize("by_type", [False, True])
def test_the_table_fits_80_columns_and_shows_more_where_there_is_room(by_type: bool) -> None:
    changed = {"epochs": 30, "learning_rate": 0.00031622776, "reproduction": True}
    records = [both_types("adversarial-ensemble", seed=seed, changed_settings=changed) for seed in (0, 1)]
    records += [both_types("baseline-mse", seed=seed, auc=0.6 + seed / 50) for seed in (0, 1)]
    found = rows([record for of in records for record in of], machine_types=TYPES, by_type=by_type)
    narrow, wide = printed(found, width=80), printed(found, width=140)
    assert max(map(len, narrow.splitlines())) <= 80
    for shown in ("adversarial-ensemble", "epochs=30", "learning_rate=0.0003162", "reproduction=true"):
        assert shown in narrow
    score, spread = (100 * found[0][f"official_score{end}"] for end in ("", "_std"))
    assert f"{score:.2f} ± {spread:.2f}" in narrow
    assert "mean of seeds 0, 1; ± is the standard deviation over seeds" in " ".join(narrow.split())
    optional = "half-widths" if by_type else "parameters"
    assert optional in wide
    table, left_out = narrow.split("Not shown, as the terminal is too narrow:")
    assert optional not in table
    assert optional in left_out


def test_the_caption_speaks_of_seeds_only_as_far_as_rows_agree() -> None:
    found = rows([*both_types(seed=0), *both_types("other", seed=1)], machine_types=TYPES)
    assert "mean over seeds;" in " ".join(printed(found, width=120).split())


def test_the_best_value_of_a_column_is_bold() -> None:
    found = rows([*both_types("high", auc=0.9), *both_types("low", auc=0.6)], machine_types=TYPES)
    console = Console(width=120, file=io.StringIO(), force_terminal=True, color_system="standard")
    render(found, format="table", title="Demo", console=console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    bold = re.findall(r"\x1b\[1m\s*([\d.]+)", text)
    assert bold == ["60.86", "90.00"]


def test_without_results_every_format_says_so() -> None:
    assert "There are no results yet." in printed([], width=80)
    assert render([], format="json", title="Demo") == "[]\n"
    assert "There are no results yet." in (render([], format="markdown", title="Demo") or "")
    assert (render([], format="csv", title="Demo") or "").strip() == ""


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match="no format 'jsn'; did you mean 'json'"):
        render([], format="jsn", title="Demo")  # type: ignore[arg-type]


def test_the_room_imports_nothing_heavy() -> None:
    heavy = "[name for name in ('mlflow', 'ray', 'torch') if name in sys.modules]"
    code = f"import sys, asdbench.report.leaderboard; print({heavy})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_false_alarms_are_those_of_all_seeds_at_the_chosen_threshold() -> None:
    chosen = stored_threshold(9.0, 1)
    both = [
        result(seed=seed, thresholds={"empirical": stored_threshold(9.0, 4), "tail": chosen})
        for seed in (0, 1)
    ]
    (row,) = rows(both, machine_types=[both[0].machine_type], by_type=True, threshold="tail")
    assert (row["threshold_method"], row["false_alarms"], row["normals"]) == ("tail", 2, 40)
    text = render([row], format="markdown", title="board")
    assert text is not None
    assert "5 % (1–17)" in text
    assert "F1 uses the tail threshold" in text


def test_the_parts_of_a_row_are_the_newest_results_of_its_seeds() -> None:
    old = [*both_types(seed=0), *both_types("other", 0)]
    new = [*both_types(seed=0, auc=0.7, finished="2026-02-01T00:00:00+00:00"), *both_types(seed=1)]
    records = old + new
    table = rows(records, machine_types=TYPES)
    parts = row_parts(table, records)
    assert set(parts) == {row_key(row) for row in table}
    mine = next(row for row in table if row["system"] == "baseline-mse")
    places = {part: found.place for part, found in parts[row_key(mine)].items()}
    assert places == {(0, "fan"): 4, (0, "valve"): 5, (1, "fan"): 6, (1, "valve"): 7}
    assert parts[row_key(mine)][0, "fan"].finished == "2026-02-01T00:00:00+00:00"
    of_seeds = [[records[places[seed, of]] for of in TYPES] for seed in (0, 1)]
    assert statistics.fmean(map(section_score, of_seeds)) == pytest.approx(mine["official_score"])


def test_results_of_a_type_that_is_not_shown_are_no_part() -> None:
    records = both_types()
    [row] = rows(records, machine_types=["fan"])
    assert list(row_parts([row], records)[row_key(row)]) == [(0, "fan")]


def test_people_read_percent_with_two_decimals_and_costs_with_three_digits() -> None:
    records = [*both_types(seed=0), *both_types(seed=1, auc=0.7)]
    [row] = rows(records, machine_types=TYPES)
    shown = display_metrics(row | {"official_score_low": 0.501234, "official_score_high": 0.7})
    assert shown["official_score"] == round(100 * row["official_score"], 2)
    assert shown["official_score_std"] == round(100 * row["official_score_std"], 2)
    assert (shown["interval_low"], shown["interval_high"]) == (50.12, 70)
    assert (shown["seeds"], shown["parameters_m"], shown["gmacs_per_clip"]) == (2, 0.001, 0.0025)
    assert shown["training_min"] == 0.333
    assert list(shown)[4:7] == list(OFFICIAL_METRICS)
    [partial] = rows(records[:1], machine_types=TYPES)
    assert "official_score" not in display_metrics(partial)
