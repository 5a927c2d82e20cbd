"""A published table next to our results: values, averages, layout."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from asdbench.engine.result_record import ResultKeys, ResultRecord, SectionMetrics
from asdbench.errors import InputError
from asdbench.metrics import OFFICIAL, WITHOUT_DOMAINS
from asdbench.report.published import references
from asdbench.report.reproduction import (
    Counterpart,
    Reproduction,
    check_machine_types,
    lines_of,
    published_columns,
)

DEV = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")
COLUMNS = (
    Counterpart("mine", "official baseline MSE", "Baseline AE with MSE"),
    Counterpart("other", "Zhang_DKU_task2_1"),
)


def record(machine_type: str, seed: int, value: float, **changes: Any) -> ResultRecord:
    official = dict.fromkeys(OFFICIAL.metrics, value)
    in_domain = {"auc_source": value, "auc_target": value, "pauc_source": value, "pauc_target": value / 2}
    empty: dict[str, Any] = {"settings": {}, "changed_settings": {}, "thresholds": {}}
    numbers = dict.fromkeys(
        ("hold_out_clips", "parameters", "macs_per_clip", "training_steps"), 0
    ) | dict.fromkeys(("training_seconds", "scoring_seconds", "clips_per_second"), 0.0)
    return ResultRecord(
        system="mine",
        data="dcase2023",
        machine_type=machine_type,
        seed=seed,
        pseudo_anomaly_data=None,
        subset="dev",
        tuned=None,
        transductive=False,
        rule=OFFICIAL,
        keys=ResultKeys((), ""),
        fingerprint="",
        code="",
        sections={"00": SectionMetrics(official, in_domain, {}, {}, 10)},
        finished="2026-01-01T00:00:00+00:00",
        **(empty | numbers | changes),
    )


def reproduction(records: list[list[ResultRecord]], machine_types: tuple[str, ...] = DEV) -> Reproduction:
    columns = published_columns(COLUMNS, "dcase2023", subset="dev")
    lines = lines_of(columns, records, machine_types=machine_types, rule=OFFICIAL)
    return Reproduction("Table 2", "dcase2023", COLUMNS, tuple(columns), (0, 1), "--preset report", lines)


@pytest.fixture
def table() -> Reproduction:
    both = [record(name, seed, 0.6 + 0.1 * seed) for name in DEV for seed in (0, 1)]
    lacking = [record(name, 0, 0.5) for name in DEV] + [record("fan", 1, 0.5)]
    return reproduction([both, lacking])


def test_values_are_means_over_seeds_next_to_the_printed_ones(table: Reproduction) -> None:
    rows = {(r["rule"], r["machine_type"], r["metric"], r["system"]): r for r in table.rows}
    assert len(rows) == 2 * (7 * 3 + 1 + 7 * 4 + 2)
    fan = rows["official", "fan", "auc_target", "mine"]
    assert (fan["ours"], fan["printed"]) == (pytest.approx(0.65), 0.3618)
    assert fan["ours_std"] == pytest.approx(0.1 / 2**0.5)
    assert rows["in-domain", "fan", "pauc_target", "mine"]["printed"] == 0.5904
    assert rows["in-domain", "fan", "pauc_source", "mine"]["printed"] == 0.5904
    assert rows["official", "fan", "pauc", "other"]["seeds"] == [0, 1]


def test_averages_are_of_complete_seeds_and_of_the_rule(table: Reproduction) -> None:
    rows = {(r["rule"], r["metric"], r["system"]): r for r in table.rows if r["machine_type"] == "ALL"}
    assert rows["official", "score", "mine"]["ours"] == pytest.approx(0.65)
    assert rows["official", "score", "other"]["seeds"] == [0]
    assert rows["in-domain", "score", "other"]["ours"] == pytest.approx(0.5)
    halved = rows["in-domain", "score_pauc_target", "other"]["ours"]
    assert halved == pytest.approx(3 / (1 / 0.5 + 1 / 0.5 + 1 / 0.25))
    printed = rows["official", "score", "other"]
    assert (printed["printed"], round(printed["recomputed"], 4)) == (0.5971, 0.5973)


def test_mlflow_gets_the_averages_in_percent(table: Reproduction) -> None:
    metrics = table.metrics()
    assert metrics["official/mine/ours"] == 65.0
    assert metrics["official/mine/printed"] == metrics["official/mine/recomputed"] == 55.02
    assert metrics["in-domain/other/recomputed"] == 59.73
    assert "official/other/ours_std" not in metrics


def test_some_machine_types_have_a_recomputed_average_and_no_printed_one() -> None:
    few = reproduction([[record("fan", 0, 0.6)], []], ("fan", "pump"))
    rows = {(r["machine_type"], r["metric"], r["system"]): r for r in few.rows if r["rule"] == "official"}
    assert rows["pump", "pauc", "mine"]["printed"] is None
    assert rows["ALL", "score", "mine"]["printed"] is rows["ALL", "score", "mine"]["ours"] is None
    fan = reproduction([[record("fan", 0, 0.6)], []], ("fan",))
    [average] = [r for r in fan.rows if r["metric"] == "score" and r["rule"] == "official"][:1]
    assert (average["printed"], round(average["recomputed"], 4)) == (None, 0.5259)


def test_the_layout_is_that_of_the_report(table: Reproduction) -> None:
    official, in_domain = table.to_markdown().split("**Table 2 on dcase2023, under the in-domain rule**")
    assert "| machine type | criterion | Baseline AE with MSE | other |" in official
    assert "| ToyCar | AUC (source) | 65.00 ± 7.07 (70.10) | 50.00 (52.00) |" in official
    assert "|  | pAUC | 65.00 ± 7.07 (52.47) |" in official
    assert "| **Average** | **ours** | **65.00 ± 7.07** | **50.00** |" in official
    assert "|  | printed | 55.02 | 59.71 |\n|  | recomputed | 55.02 | 59.73 |" in official
    assert "not comparable here: Zhang_DKU_task2_1." in official
    assert "|  | pAUC (target) |" in in_domain
    assert "not comparable here: official baseline MSE." in in_domain
    assert "over seeds 0, 1, and in parentheses after it the printed value" in official


def shown(table: Reproduction, width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width).print(table)
    return [" ".join(line.split()) for line in file.getvalue().splitlines()]


def test_a_terminal_shows_printed_values_below_and_a_narrow_one_no_spread(table: Reproduction) -> None:
    wide = shown(table, 100)
    place = wide.index("ToyCar AUC (source) 65.00 ± 7.07 50.00")
    assert wide[place + 1] == "70.10 52.00"
    narrow = shown(table, 62)
    assert "ToyCar AUC (source) 65.00 50.00" in narrow
    assert "mean (the terminal is too narrow for standard deviations)" in " ".join(narrow)


def test_data_without_domains_have_one_table() -> None:
    columns = published_columns(COLUMNS, "dcase2023", subset="dev")
    lines = lines_of(columns, [[], []], machine_types=DEV, rule=WITHOUT_DOMAINS)
    assert {line.rule for line in lines} == {"official"}


def test_what_does_not_exist_is_named() -> None:
    wrong = (replace(COLUMNS[0], published="Zhang_DKU_task2_5"),)
    with pytest.raises(InputError, match=r"no published result on dcase2023 \(dev\) 'Zhang_DKU_task2_5'"):
        published_columns(wrong, "dcase2023", subset="dev")
    published = [r for r in references() if r.values]
    with pytest.raises(InputError, match="data set 'mine' has none of the machine types of the published"):
        check_machine_types(["pump"], published, "mine")


def test_a_narrow_terminal_numbers_the_columns_and_cuts_no_name() -> None:
    six = [Counterpart(f"system-{n}", "official baseline MSE", f"Multitask+GMM with {n}") for n in range(6)]
    columns = published_columns(six, "dcase2023", subset="dev")
    whole = [[record(name, seed, 1.0 - 0.1 * seed) for name in DEV for seed in (0, 1)] for _ in six]
    lines = lines_of(columns, whole, machine_types=DEV, rule=OFFICIAL)
    table = Reproduction("Table 2", "dcase2023", six, tuple(columns), (0, 1), "--preset report", lines)
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(*table.tables())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    shown = text.splitlines()
    assert any(line.split() == ["criterion", *(f"({n})" for n in range(1, 7))] for line in shown)
    assert {line.strip() for line in shown} > {*DEV, "Average"}
    assert any(line.startswith("    ours, pAUC (source)") for line in shown)
    assert "(1) Multitask+GMM with 0, (2) Multitask+GMM with 1, " in " ".join(text.split())
    wide = Console(width=200, file=io.StringIO(), color_system=None)
    wide.print(*table.tables())
    assert "(1)" not in wide.file.getvalue()  # type: ignore[attr-defined]


def test_a_caption_says_why_no_average_is_printed(table: Reproduction) -> None:
    told = "No average over these machine types alone is printed."
    assert told not in table.to_markdown()
    assert reproduction([[record("fan", 0, 0.6)], []], ("fan",)).to_markdown().count(told) == 2
