import io
import re
from typing import Any

import pytest
from rich.console import Console

from asdbench.report.leaderboard_table import render


def row(system: str = "mine", score: float | None = 0.6, **changes: Any) -> dict[str, Any]:
    return {
        "system": system,
        "settings": {},
        "tuned": None,
        "subset": "dev",
        "official_score": score,
        "official_score_std": 0.01,
        "auc": score,
        "seeds": [0, 1],
        "parameters": 1_234_567,
        "macs_per_clip": 2_500_000,
        "training_seconds": 600.0,
        "scoring_seconds": None,
        "clips_per_second": 1234.5,
        "machine_types": 2,
        "machine_types_missing": [],
    } | changes


REFERENCE = {"source": "A paper", "is_official": True, "printed_score": None}
PUBLISHED = {"reference": REFERENCE, "tier": "published", "rank": 1}
OURS = {"reference": None, "tier": "ours", "rank": 2}


def printed(rows: list[dict[str, Any]], width: int, **options: Any) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, **options)
    assert render(rows, format="table", title="Board", console=console) is None
    return file.getvalue()


def test_cells_have_units_and_missing_values_a_dash() -> None:
    text = render([row()], format="markdown", title="Board") or ""
    [line] = [line for line in text.splitlines() if line.startswith("| mine")]
    assert line == "| mine |  | 60.00 ± 1.00 | 60.00 | 2 | 1,234,567 | 2.5 M | 10 min | – | 1,234 |"


def test_a_terminal_shows_the_best_of_very_many_rows_and_says_what_has_the_others() -> None:
    rows = [row(f"system{n:04}", 1 - n / 10_000, **OURS) for n in range(1_500)]
    rows.append(row("theirs", 0.1, **PUBLISHED))
    shown = " ".join(printed(rows, 200).split())
    assert "system0099" in shown
    assert "system0100" not in shown
    assert "theirs" in shown
    assert "Shown are 101 of 1,501 rows, the best; --format csv has all of them." in shown
    assert (render(rows, format="csv", title="Board") or "").count("system") == 1 + 1_500
    assert (render(rows, format="markdown", title="Board") or "").count("system") >= 1_500
    assert "Shown are" not in printed(rows[:100], 200)


def test_a_terminal_shows_as_many_rows_of_each_machine_type() -> None:
    rows = [
        row(f"{machine_type}{n:03}", 0.9 - n / 1_000, machine_type=machine_type)
        for machine_type in ("fan", "valve")
        for n in range(200)
    ]
    shown = printed(rows, 200)
    assert ("fan049" in shown, "fan050" in shown, "valve049" in shown, "valve050" in shown) == (
        True,
        False,
        True,
        False,
    )
    assert "the best of each machine type" in " ".join(shown.split())


def test_costs_are_shown_only_where_the_terminal_is_wide_enough() -> None:
    assert "1,234,567" in printed([row()], 140)
    narrow = printed([row()], 45)
    assert "1,234,567" not in narrow
    assert "60.00 ± 1.00" in narrow


def test_a_narrow_terminal_leaves_out_as_little_as_it_must_and_names_it() -> None:
    wide = " ".join(printed([row()], 140).split())
    assert "Not shown" not in wide
    medium = " ".join(printed([row()], 60).split())
    assert "1,234,567" in medium
    assert "terminal is too narrow: MAC/clip, training, scoring, clips/s; --format csv" in medium
    by_type = row(machine_type="fan", f1=0.5, false_alarms=1, normals=10, threshold_method="gamma")
    shown = " ".join(printed([by_type], 80).split())
    assert "Not shown, as the terminal is too narrow: false alarms; --format csv has all columns." in shown
    assert "F1 uses the gamma threshold." in shown
    assert "False alarms: the share" not in shown


def test_false_alarms_have_intervals_by_domain() -> None:
    counts = {"test_false_alarms_source": 1.4, "test_normals_source": 25, "test_false_alarms_target": 10}
    thresholds = {"threshold": 2.0, "threshold_needed": 9, "threshold_units_source": 90}
    by_type = row(
        machine_type="fan", **counts, **thresholds, test_normals_target=100, threshold_method="tail"
    )
    text = render([by_type], format="markdown", title="Board") or ""
    assert "| false alarms source | false alarms target |" in text
    assert "| 6 % (0–20) | 10 % (5–18) |" in text  # the interval of the clips of one seed
    assert "the share of the normal test clips above the threshold" in text
    assert "No threshold" not in text
    assert "from source clips alone" not in text
    alone = render([by_type | {"threshold_units_target": None}], format="markdown", title="Board") or ""
    assert "Thresholds from source clips alone, without a promise for the target domain: mine." in alone


@pytest.mark.parametrize("suffix", ["_source", ""])
def test_too_few_normals_are_told_in_place_of_false_alarms(suffix: str) -> None:
    thresholds = {"threshold": None, "threshold_needed": 9.0, f"threshold_units{suffix}": 4.0}
    counts = {f"test_normals{suffix}": None, f"test_false_alarms{suffix}": None}
    text = render([row(machine_type="fan", **thresholds, **counts)], format="markdown", title="Board") or ""
    assert "no threshold: 4 of 9" in text
    told = "No threshold, N of M: too few normal clips are held out to set one"
    assert told in text
    console = Console(width=60, file=io.StringIO())
    render([row(machine_type="fan", **thresholds, **counts)], format="table", title="Board", console=console)
    assert told not in " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def test_the_best_measured_value_is_bold_and_a_published_one_never() -> None:
    rows = [row("theirs", 0.9, **PUBLISHED), row("mine", 0.7, **OURS), row("other", 0.6, **OURS)]
    shown = printed(rows, 140, force_terminal=True, color_system="standard")
    assert re.findall(r"\x1b\[1m\s*([\d.]+)", shown) == ["70.00", "70.00"]
    text = render(rows, format="markdown", title="Board") or ""
    assert "| 2 | mine | ours |  | **70.00 ± 1.00** | – | **70.00** |" in text
    assert "| 1 | theirs | published |  | 90.00 ± 1.00 | – | 90.00 |" in text
    assert "Sources: A paper." in text


def test_a_row_without_a_score_says_how_many_types_are_done() -> None:
    incomplete = row(score=None, seeds=[], machine_types=1, machine_types_missing=["fan"])
    text = render([incomplete], format="markdown", title="Board") or ""
    assert "| 1 of 2 types |" in text
    assert "once at least one seed has results for all machine types" in text


def test_an_interval_is_a_column_where_a_row_has_one() -> None:
    kinds = {"fan": "clips", "bearing": "recordings"}
    interval = {"official_score_low": 0.55, "official_score_high": 0.65, "resampled": kinds}
    rows = [row(**interval, few_recordings={"bearing": 3}), row("other", official_score_low=None)]
    text = render(rows, format="markdown", title="Board") or ""
    assert "| 55.00 to 65.00 |" in text
    assert "Interval: bootstrap on these machines, and what seeds vary." in text
    assert "Resampled: recordings (bearing), clips (fan). Rough, and" in text
    assert "the interval of bearing (3)." in text
    assert "it takes at least 3 machine types, and there are 2." in text
    assert "interval" not in (render([row()], format="markdown", title="Board") or "")


def test_the_interval_for_machines_like_these_stands_beside_the_other() -> None:
    ends = {"official_score_low": 0.55, "official_score_high": 0.65}
    wide = {"like_these_low": 0.45, "like_these_high": 0.75, "resampled": dict.fromkeys("abc", "clips")}
    text = render([row(**ends, **wide)], format="markdown", title="Board") or ""
    assert "| interval (95 %) | machines like these (95 %) |" in text
    assert "| 55.00 to 65.00 | 45.00 to 75.00 |" in text
    assert "Machines like these: machine types are resampled too." in text


def test_a_narrow_terminal_keeps_the_name_of_a_system_and_names_the_interval_that_it_leaves_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ends = {"official_score_low": 0.55, "official_score_high": 0.65}
    wide = {"like_these_low": 0.45, "like_these_high": 0.75, "resampled": dict.fromkeys("abc", "clips")}
    console = Console(width=80)
    render([row("multitask-combined", **ends, **wide)], format="table", title="Board", console=console)
    said = " ".join(capsys.readouterr().out.split())
    assert "multitask-combined" in said
    assert "Not shown, as the terminal is too narrow: machines like these (95 %), parameters" in said
    long = row("spectra-gauss-of-somebody-else", seeds=[0, 1, 2], **ends, **wide)
    render([long], format="table", title="Board", console=console)
    said = " ".join(capsys.readouterr().out.split())
    assert "spectra-gauss-of-somebody-else" in said
    assert "55.00 to 65.00" in said
    assert "too narrow: machines like these (95 %), " in said
    assert "AUC, parameters" in said
