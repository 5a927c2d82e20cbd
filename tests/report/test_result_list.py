"""The list of stored results."""

import io
import json

import polars as pl
import pytest
from rich.console import Console

from asdbench.report.rendering import render
from asdbench.report.result_list import list_rows, list_table

NEWEST = {"asdbench": "1.0.0", "python": "3.12.3", "numpy": "2.1.0", "torch": "2.9.0", "ray": "2.52.1"}
COMMON = {
    "data": "tiny",
    "system": "mine",
    "subset": "dev",
    "pseudo_anomaly_data": None,
    "tuned": None,
    "versions": json.dumps([NEWEST]),
}


def results() -> pl.DataFrame:
    rows = [
        COMMON
        | {
            "changed_settings": '{"epochs":3,"rate":0.0012345}',
            "seed": seed,
            "machine_type": kind,
            "state": "current",
            "finished": f"2026-01-0{1 + seed}T10:00:00+00:00",
        }
        for seed in (1, 0)
        for kind in ("valve", "fan")
    ]
    other = rows[0] | {"state": "out of date", "changed_settings": "{}", "pseudo_anomaly_data": "others"}
    return pl.DataFrame([*rows, other | {"tuned": '{"search":"abc","trials":7,"protocol":"dev"}'}])


def test_results_of_seeds_and_machine_types_are_one_row() -> None:
    first, second = list_rows(results())
    assert first == {
        "data": "tiny",
        "system": "mine",
        "settings": {"epochs": 3, "rate": 0.0012345},
        "tuned": None,
        "subset": "dev",
        "state": "current",
        "seeds": [0, 1],
        "machine_types": ["fan", "valve"],
        "results": 4,
        "finished": "2026-01-02T10:00:00+00:00",
        "versions": [f"{package} {NEWEST[package]}" for package in sorted(NEWEST)],
        "other_versions": [],
    }
    assert second["settings"] == {"pseudo_anomaly_data": "others"}
    assert second["tuned"] == {"search": "abc", "trials": 7, "protocol": "dev"}


def test_the_table_says_what_counts() -> None:
    rows = list_rows(results())
    text = render(rows, list_table(rows), format="markdown")
    assert text is not None
    assert "5 results, 4 current. " in text
    one = [rows[0] | {"results": 1}]
    assert "\n1 result, 1 current. " in (render(one, list_table(one), format="markdown") or "")
    assert "epochs=3" in text
    assert "dev-tuned, 7 trials" in text
    assert "2026-01-02 10:00 |" in text


def test_results_of_another_major_version_are_marked() -> None:
    old = json.dumps([NEWEST, NEWEST | {"ray": "1.13.0"}])
    versions = pl.when(pl.col("state") == "current").then("versions").otherwise(pl.lit(old))
    rows = list_rows(results().with_columns(versions=versions))
    assert [row["other_versions"] for row in rows] == [[], ["ray 1.13.0"]]
    text = render(rows, list_table(rows), format="markdown") or ""
    assert text.count("made with ray 1.13.0") == 1
    assert "another major version than the newest here" in text


@pytest.mark.parametrize(("width", "is_whole"), [(80, False), (160, True)])
def test_a_narrow_terminal_breaks_no_word(width: int, is_whole: bool) -> None:
    output = io.StringIO()
    names = {"data": "dcase2023-shop", "system": "multitask-mel-waveform"}
    rows = list_rows(results().with_columns(**{key: pl.lit(name) for key, name in names.items()}))
    Console(file=output, width=width).print(list_table(rows))
    shown = output.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    for word in ("multitask-mel-waveform", "epochs=3", "current", "out of date"):
        assert word in shown
    assert ("2026-01-02 10:00" in shown) == is_whole
    caption = "Not shown, as the terminal is too narrow: types, results, finished (UTC)"
    assert (caption in " ".join(shown.split())) != is_whole
