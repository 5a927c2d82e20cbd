import json
from pathlib import Path

import msgspec
import pytest

from asdbench.data.sets import catalog
from asdbench.engine.job_store import JobStore
from asdbench.engine.result_record import SearchProvenance
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.report.compare import compare
from asdbench.report.official_evaluation import truth_of
from asdbench.report.stored_runs import StoredRunOptions
from tests.commands import asdbench, leaderboard

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
    assert asdbench(*command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "baseline-maha against baseline-mse on tiny" in said
    assert "seed 0 only" in said
    assert "200 paired bootstrap resamples, and from what seeds vary. Resampled: clips. No interval" in said
    assert "at least 3 machine types, and there are 2. Nothing is bold: with 1 seed the luck" in said
    for form, start in (("csv", "machine_type,score_a,"), ("markdown", "**baseline-maha against")):
        assert asdbench(*command, "--format", form) == 0
        assert capsys.readouterr().out.startswith(start)


def test_equal_requests_give_equal_intervals() -> None:
    systems, data = ("baseline-mse", "baseline-maha"), catalog.load(Workspace.from_environment(), "tiny")
    comparisons = [
        compare(
            systems,
            data,
            JobStore.from_workspace(Workspace.from_environment()),
            settings=SETTINGS,
            resamples=50,
        )
        for _ in range(2)
    ]
    assert comparisons[0] == comparisons[1]
    rows = [comparison.rows for comparison in comparisons]
    [mirrored] = compare(
        systems[::-1],
        data,
        JobStore.from_workspace(Workspace.from_environment()),
        settings=SETTINGS,
        resamples=50,
    ).rows[-1:]
    assert mirrored["difference_low"] == pytest.approx(-rows[0][-1]["difference_high"])
    wide = compare(
        systems,
        data,
        JobStore.from_workspace(Workspace.from_environment()),
        settings=SETTINGS,
        resamples=50,
        confidence=0.99,
    ).rows[-1]
    assert wide["difference_high"] >= rows[0][-1]["difference_high"]


def test_a_system_is_not_compared_with_itself() -> None:
    data = catalog.load(Workspace.from_environment(), "tiny")
    with pytest.raises(InputError, match="baseline-mse is compared with itself; name two different systems"):
        compare(("baseline-mse", "baseline-mse"), data, JobStore.from_workspace(Workspace.from_environment()))
    with pytest.raises(InputError, match="no seed is given; --seeds takes"):
        compare(
            ("baseline-mse", "baseline-maha"),
            data,
            JobStore.from_workspace(Workspace.from_environment()),
            seeds=[],
            settings=SETTINGS,
        )


def test_a_data_set_without_labels_asks_for_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = catalog.truth(catalog.load(Workspace.from_environment(), "tiny")).clear()
    monkeypatch.setattr(catalog, "truth", lambda name: none)
    with pytest.raises(
        InputError, match="no test clip of data set 'tiny' has a known label; give the folder"
    ):
        truth_of("tiny", Workspace.from_environment())
    with pytest.raises(InputError, match="has a known label; a comparison needs labels"):
        compare(
            ("baseline-mse", "baseline-maha"),
            catalog.load(Workspace.from_environment(), "tiny"),
            JobStore.from_workspace(Workspace.from_environment()),
        )


def test_a_tuned_row_has_the_interval_of_its_untuned_twin(
    searched: SearchProvenance, capsys: pytest.CaptureFixture[str]
) -> None:
    for by in ((), ("--by", "type")):
        found = leaderboard(capsys, "--intervals", *by)
        twins = [row for row in found if row["system"] == "baseline-mse"]
        assert [row["tuned"] for row in twins] == [None, msgspec.structs.asdict(searched)] * (len(twins) // 2)
        for untuned, tuned in zip(twins[::2], twins[1::2], strict=True):
            different = {key for key in tuned if tuned[key] != untuned[key]}
            assert different <= {"tuned", "number"}
            assert tuned["official_score_low"] < tuned["official_score_high"]
