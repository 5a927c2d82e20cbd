"""The list of stored results."""

import polars as pl

from asdbench.report.rendering import render
from asdbench.report.result_list import list_rows, list_table

COMMON = {"data": "tiny", "system": "mine", "subset": "dev", "pseudo_anomaly_data": None, "tuned": None}


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
    }
    assert second["settings"] == {"pseudo_anomaly_data": "others"}
    assert second["tuned"] == {"search": "abc", "trials": 7, "protocol": "dev"}


def test_the_table_says_what_counts() -> None:
    rows = list_rows(results())
    text = render(rows, list_table(rows), format="markdown")
    assert text is not None
    assert "5 results, 4 of them current" in text
    assert "epochs=3" in text
    assert "dev-tuned, 7 trials" in text
    assert "2026-01-02 10:00 |" in text
