import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from asdbench.data.sets import catalog
from asdbench.engine.result_record import SearchProvenance
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.report import leaderboard_view
from asdbench.report.comparison import Comparison, load_comparison, with_holm
from asdbench.report.comparison_tables import comparison_tables
from asdbench.report.official_evaluation import truth_of
from asdbench.report.published import Reference
from asdbench.report.ranks import load_ranks
from asdbench.report.stored_runs import StoredRunOptions
from tests.commands import asdbench, leaderboard
from tests.report.made_up import made_up, score

pytestmark = pytest.mark.usefixtures("at_home")

QUICK = ("--set", "epochs=2", "hidden=8", "batch_size=64")

SETTINGS = StoredRunOptions(values={"epochs": 2, "hidden": 8, "batch_size": 64})


def test_a_comparison_has_a_row_a_type_and_one_over_all(capsys: pytest.CaptureFixture[str]) -> None:
    command = ("compare", "baseline-mse", "baseline-maha", "--data", "tiny", "--resamples", "200", *QUICK)
    capsys.readouterr()
    assert asdbench(*command, "--seeds", "0", "1", "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["machine_type"] for row in rows] == ["fan", "valve", "all"]
    shown = {row["system"]: row for row in leaderboard(capsys)}
    for row in rows:
        assert row["systems"] == ["baseline-mse", "baseline-maha"]
        assert row["difference"] == pytest.approx(row["score_b"] - row["score_a"])
        assert row["difference_low"] <= row["difference_high"]
        assert (row["seeds"], row["resamples"], row["confidence"]) == ([0, 1], 200, 0.95)
    assert rows[-1]["score_a"] == pytest.approx(shown["baseline-mse"]["official_score"], abs=1e-12)
    assert rows[-1]["score_b"] == pytest.approx(shown["baseline-maha"]["official_score"], abs=1e-12)
    assert asdbench(*command, "--seeds", "0") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "baseline-maha against baseline-mse on tiny" in said
    assert "seed 0 only" in said
    assert "200 paired bootstrap resamples, and from what seeds vary. Resampled: clips. No interval" in said
    assert "at least 3 machine types, and there are 2. Nothing is bold: with 1 seed the luck" in said
    for form, start in (("csv", "machine_type,score_a,"), ("markdown", "**baseline-maha against")):
        assert asdbench(*command, "--format", form) == 0
        assert capsys.readouterr().out.startswith(start)


def comparison(*rows: str | int, seeds: Sequence[int] | None = None, **options: Any) -> Comparison:
    return load_comparison("tiny", Workspace.from_environment(), rows, seeds=seeds, resamples=50, **options)


def test_equal_requests_give_equal_intervals() -> None:
    systems = ("baseline-mse", "baseline-maha")
    first, again = (comparison(*systems, options=SETTINGS) for _ in range(2))
    assert first == again
    mirrored = comparison(*systems[::-1], options=SETTINGS)
    assert mirrored.rows[-1]["difference_low"] == pytest.approx(-first.rows[-1]["difference_high"])
    wide = comparison(*systems, options=SETTINGS, confidence=0.99)
    assert wide.interval[1] >= first.interval[1]


def test_a_row_is_not_compared_with_itself() -> None:
    with pytest.raises(InputError, match=r"baseline-m.* is compared with itself; name different rows"):
        comparison(1, 2, 1)
    with pytest.raises(InputError, match="give two or more rows to compare, as in 'asdbench compare 1 2"):
        comparison(1)
    with pytest.raises(InputError, match="no seed is given; leave --seeds out"):
        comparison(1, 2, seeds=[])


def test_a_data_set_without_labels_asks_for_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = catalog.truth(catalog.load(Workspace.from_environment(), "tiny")).clear()
    monkeypatch.setattr(catalog, "truth", lambda name: none)
    with pytest.raises(
        InputError, match="no test clip of data set 'tiny' has a known label; give the folder"
    ):
        truth_of("tiny", Workspace.from_environment())
    with pytest.raises(InputError, match="has a known label; a comparison needs labels"):
        comparison(1, 2)


def test_a_tuned_row_is_compared_with_its_untuned_twin(searched: SearchProvenance) -> None:
    tuned = comparison("baseline-mse", "baseline-mse@tuned", options=SETTINGS)
    assert tuned.interval == (0, 0)
    assert [name.split()[1] for name in tuned.rows[0]["systems"]] == ["baseline-mse"] * 2
    assert list(tuned.marks.values())[1].endswith("dev-tuned, 20 trials")


def test_a_tuned_row_has_the_interval_of_its_untuned_twin(
    searched: SearchProvenance, capsys: pytest.CaptureFixture[str]
) -> None:
    provenance = json.loads(json.dumps(msgspec.structs.asdict(searched)))
    for by in ((), ("--by", "type")):
        found = leaderboard(capsys, "--intervals", *by)
        twins = [row for row in found if row["system"] == "baseline-mse"]
        assert [row["tuned"] for row in twins] == [None, provenance] * (len(twins) // 2)
        for untuned, tuned in zip(twins[::2], twins[1::2], strict=True):
            different = {key for key in tuned if tuned[key] != untuned[key]}
            assert different <= {"tuned", "number"}
            assert tuned["official_score_low"] < tuned["official_score_high"]


SYSTEMS = ("baseline-mse", "baseline-maha", "spectra-gauss")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A data home with three systems: the first two nearly equal, the third with another number of seeds."""
    folder = tmp_path_factory.mktemp("board")
    data, store = made_up(folder, SYSTEMS[:1], seeds=range(4), machine_types=("fan", "pump", "valve"))
    for name, seeds, separation in (("baseline-maha", range(4), 0.2), ("spectra-gauss", range(1, 3), 3.0)):
        score(name, data, store, seeds, data.machine_types, separation=separation)
    return Workspace.from_home(folder / "home")


def test_each_row_is_compared_with_the_first_over_the_seeds_that_both_have(board: Workspace) -> None:
    compared = load_comparison("tiny", board, SYSTEMS, resamples=500)
    assert [row["machine_type"] for row in compared.rows] == ["fan", "pump", "valve", "all"] * 2
    assert [row["seeds"] for row in compared.overall] == [[0, 1, 2, 3], [1, 2]]
    alone = load_comparison("tiny", board, SYSTEMS[:2], resamples=500)
    assert [row["difference"] for row in alone.rows] == [row["difference"] for row in compared.rows[:4]]
    assert alone.is_significant
    assert not compared.overall[1]["is_sure"]  # with two seeds
    assert compared.overall[1]["p_value"] is None
    with pytest.raises(InputError, match="there are 2 comparisons; 'overall' has the difference of each"):
        assert compared.difference
    said = " ".join(str(compared).split())
    assert "2 rows against baseline-mse on tiny" in said
    assert "mean of the seeds that both rows have" in said
    assert "Rows with fewer than 3 seeds are never bold." in said
    assert "Differences by machine type" in said


def test_only_seeds_that_both_have_are_compared(board: Workspace) -> None:
    assert load_comparison("tiny", board, SYSTEMS[:2], seeds=[3, 0], resamples=9).rows[0]["seeds"] == [3, 0]
    lacking = (
        r"'spectra-gauss' has no results on all machine types with seed 0; it has seeds 1, 2; run 'asdbench "
        r"run spectra-gauss --data tiny --seeds 0'"
    )
    with pytest.raises(InputError, match=lacking):
        load_comparison("tiny", board, ["baseline-mse", "spectra-gauss"], seeds=[0])


def test_a_published_row_has_a_difference_without_interval(
    board: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {name: {"auc_source": 0.7, "auc_target": 0.6, "pauc": 0.55} for name in ("fan", "pump", "valve")}
    theirs = Reference("their system", "dcase2023", "dev", ("A paper",), None, True, values, {})
    printed = Reference("their other", "dcase2023", "dev", ("A paper",), 0.61, False, {}, {"fan": 0.5})
    monkeypatch.setattr(leaderboard_view, "published_results", lambda *_: ([theirs, printed], []))
    monkeypatch.setattr(Reference, "machine_types", ("fan", "pump", "valve"))
    compared = load_comparison("tiny", board, ["their system", "baseline-mse", "their other"], resamples=50)
    ours, other = compared.overall
    assert ours["score_a"] == pytest.approx(3 / (1 / 0.7 + 1 / 0.6 + 1 / 0.55))
    assert ours["difference"] == pytest.approx(ours["score_b"] - ours["score_a"])
    assert (ours["difference_low"], ours["p_value"], ours["is_sure"]) == (None, None, False)
    assert other["score_b"] == 0.61
    assert [row["machine_type"] for row in compared.rows] == ["fan", "pump", "valve", "all", "fan", "all"]
    said = " ".join(str(compared).split())
    assert "A published result has no scores of clips, so its difference has no interval" in said
    assert "their other: published under another rule, so that the difference means little (A paper)." in said
    ranked = load_ranks("tiny", board, reference=True)
    assert [row["system"] for row in ranked.rows if row["number"] is None] == ["their system"]


def test_what_is_sure_is_corrected_for_the_number_of_differences() -> None:
    types = [{"machine_type": name, "p_value": 0.02, "confidence": 0.95} for name in ("fan", "valve")]
    overall = {"machine_type": "all", "p_value": 0.04, "confidence": 0.95}
    assert [line["is_sure"] for line in with_holm([*types, overall])] == [True, True, True]
    twice = with_holm([*types, overall] * 2)
    assert [(line["p_holm"], line["is_sure"]) for line in twice] == [(0.08, False)] * 6
    without = with_holm([overall, overall | {"p_value": None}])
    assert [line["p_holm"] for line in without] == [0.04, None]
    assert [line["is_sure"] for line in without] == [True, False]


@pytest.mark.parametrize("n_others", [1, 2])
def test_a_narrow_terminal_leaves_out_columns_and_breaks_no_word(n_others: int) -> None:
    line = {
        "score_a": 0.8343,
        "score_b": 0.0828,
        "difference": -0.7515,
        "difference_low": -1.0,
        "difference_high": -0.4727,
        "difference_like_these_low": -1.0,
        "difference_like_these_high": 0.9555,
        "confidence": 0.95,
        "p_value": 0.001,
        "p_holm": 0.001,
        "is_sure": True,
        "seeds": [0, 1, 2],
        "runs": 3,
        "resampled": {"BearingFEMTO": "clips"},
        "few_recordings": {},
        "resamples": 100,
    }
    lines = [
        line | {"machine_type": name, "systems": ["spectra-gauss", other]}
        for other in ("spectra-knn", "baseline-mse")[:n_others]
        for name in ("BearingFEMTO", "FanMIMII", "UAVPropeller", "all")
    ]
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(*comparison_tables(lines, {}, "title"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for word in (
        "-75.15",
        "-100.00 to -47.27",
        "difference",
        "95 % interval,",
        "spectra-knn",
        "BearingFEMTO",
    ):
        assert word in text
    assert "terminal is too narrow: " in " ".join(text.split())
    assert "machines like these; --format csv has all columns." in " ".join(text.split()) or n_others == 2
    wide = Console(width=200, file=io.StringIO(), color_system=None)
    wide.print(*comparison_tables(lines, {}, "title"))
    assert "too narrow" not in wide.file.getvalue()  # type: ignore[attr-defined]
