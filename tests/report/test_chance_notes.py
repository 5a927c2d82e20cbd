"""Notes on AUCs far below chance."""

import polars as pl
import pytest

from asdbench.metrics import OFFICIAL
from asdbench.report.chance_notes import LowAuc, low_auc_notes, low_aucs


@pytest.mark.parametrize(("clips", "found"), [(200, [LowAuc("auc_source", 0.1, "fan (mine)")]), (16, [])])
def test_only_what_many_clips_say_is_found(clips: int, found: list[LowAuc]) -> None:
    labeled = pl.DataFrame(
        {
            "machine_type": ["fan"] * clips,
            "anomaly": [n % 2 == 1 for n in range(clips)],
            "domain": ["target" if n % 4 > 1 else "source" for n in range(clips)],
        }
    )
    metrics = {"auc_source": 0.1, "auc_target": 0.4, "pauc": 0.1}
    assert low_aucs([("fan", "mine", metrics)], labeled, rule=OFFICIAL) == found


def test_many_are_one_note_with_the_lowest() -> None:
    found = [LowAuc("auc", n / 100, f"type{n} (mine)") for n in range(9, 0, -1)]
    assert low_auc_notes(found) == [
        "AUC 1.0 % of type1 (mine), AUC 2.0 % of type2 (mine), AUC 3.0 % of type3 (mine) and 6 more are far "
        "below chance; are the labels swapped?"
    ]
    assert low_auc_notes(found[:2])[0].startswith(
        "AUC 8.0 % of type8 (mine) and AUC 9.0 % of type9 (mine) are"
    )
    assert low_auc_notes([]) == []


def test_an_auc_of_several_seeds_is_named_once() -> None:
    seeds = [LowAuc("auc_source", value, "fan (mine)") for value in (0.02, 0.01, 0.03)]
    [note] = low_auc_notes(seeds)
    assert note == "AUC source 1.0 % of fan (mine) is far below chance; are the labels swapped?"
