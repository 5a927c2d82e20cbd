"""Stored scores of a run, reported: submitted, evaluated, compared, beside published ones."""

import csv
import json
import shutil
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
import yaml

from asdbench.cli.main import main
from asdbench.config import assignments
from asdbench.data.sets import catalog
from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.result_record import SearchProvenance
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.metrics import IN_DOMAIN, OFFICIAL
from asdbench.report import submissions as submission
from asdbench.report.compare import compare
from asdbench.report.official_evaluation import truth_of
from asdbench.report.stored_runs import StoredRunOptions, scored_jobs
from asdbench.report.submissions import write_submission
from asdbench.testing import write_tiny

QUICK = ("--set", "epochs=2", "hidden=8", "batch_size=64")
SETTINGS = StoredRunOptions(values={"epochs": 2, "hidden": 8, "batch_size": 64})


def asdbench(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data home with a data set on which both baselines have run with two seeds."""
    with pytest.MonkeyPatch.context() as patched:
        home = tmp_path_factory.mktemp("home")
        patched.setenv("ASDBENCH_HOME", str(home))
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        catalog.add(
            Workspace.from_environment(), "tiny", write_tiny(home / "recordings", test_clips_per_cell=4)
        )
        run = ("run", "baseline-mse", "baseline-maha", "--data", "tiny", "--local", "--seeds", "0", "1")
        assert asdbench(*run, *QUICK) == 0
    return home


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")


def stored_results() -> list[dict]:
    return [
        json.loads(path.read_text())
        for path in (Workspace.from_environment().home / "jobs" / "results").glob("*.json")
    ]


def leaderboard(capsys: pytest.CaptureFixture[str], *options: str) -> list[dict]:
    capsys.readouterr()
    assert asdbench("leaderboard", "--data", "tiny", "--format", "json", *options) == 0
    return json.loads(capsys.readouterr().out)


def test_a_submission_is_evaluated_to_the_score_of_the_leaderboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = catalog.load(Workspace.from_environment(), "tiny")
    systems = ["baseline-mse", "baseline-maha"]
    package = write_submission(
        systems,
        data,
        JobStore.from_workspace(Workspace.from_environment()),
        team="Zhang_DKU",
        folder=tmp_path,
        seed=1,
        settings=SETTINGS,
    )
    labels = ["Zhang_DKU_task2_1", "Zhang_DKU_task2_2"]
    wanted = {
        f"{kind}_{machine}_section_00_test.csv"
        for kind in ("anomaly_score", "decision_result")
        for machine in ("fan", "valve")
    }
    for label in labels:
        folder = tmp_path / "Zhang_DKU" / label
        assert {path.name for path in folder.iterdir()} == wanted | {f"{label}.meta.yaml"}
    with zipfile.ZipFile(package) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(
            f"task2/{label}/{name}" for label in labels for name in wanted | {f"{label}.meta.yaml"}
        )
    assert {path.name for path in tmp_path.iterdir()} == {"Zhang_DKU", "Zhang_DKU.zip"}

    with (tmp_path / "Zhang_DKU" / labels[0] / "decision_result_fan_section_00_test.csv").open() as file:
        decided = dict(csv.reader(file))
    tested = data.clips.filter((pl.col("split") == "test") & (pl.col("machine_type") == "fan"))
    assert set(decided) == {Path(path).name for path in tested["path"]}
    assert set(decided.values()) <= {"0", "1"}

    scores = {}
    for label, system in zip(labels, systems, strict=True):
        capsys.readouterr()
        folder = str(tmp_path / "Zhang_DKU" / label)
        assert asdbench("evaluate", folder, "--data", "tiny", "--format", "json") == 0
        scores[system] = json.loads(capsys.readouterr().out)
    row = compare(
        tuple(systems),
        data,
        JobStore.from_workspace(Workspace.from_environment()),
        seeds=[1],
        settings=SETTINGS,
        resamples=10,
    )[-1]
    assert scores["baseline-mse"]["official_score"] == pytest.approx(row["score_a"], abs=1e-12)
    assert scores["baseline-maha"]["official_score"] == pytest.approx(row["score_b"], abs=1e-12)


def test_the_meta_information_says_what_is_known(tmp_path: Path) -> None:
    data = catalog.load(Workspace.from_environment(), "tiny")
    options = {"team": "Zhang_DKU", "folder": tmp_path, "settings": SETTINGS}
    write_submission(
        ["baseline-maha"], data, JobStore.from_workspace(Workspace.from_environment()), **options
    )
    label = "Zhang_DKU_task2_1"
    meta = yaml.safe_load((tmp_path / "Zhang_DKU" / label / f"{label}.meta.yaml").read_text())
    told, system = meta["submission"], meta["system"]
    assert (told["label"], told["name"], told["abbreviation"]) == (label, "baseline-maha", "baselinem1")
    assert (told["authors"][0]["lastname"], told["authors"][0]["email"]) == ("Zhang", None)
    assert told["authors"][0]["affiliation"]["abbreviation"] == "DKU"
    described = system["description"]
    assert described["input_sampling_rate"] == "16kHz"
    assert described["acoustic_features"] == "log-mel energies (128 bands, window 1024, hop 512 samples)"
    assert (described["embeddings"], described["data_augmentation"]) == (None, None)
    assert "baseline" in described["machine_learning_method"]
    records = stored_results()
    parameters = {record["parameters"] for record in records if record["system"] == "baseline-maha"}
    macs = {record["macs_per_clip"] for record in records if record["system"] == "baseline-maha"}
    assert system["complexity"] == {"total_parameters": max(parameters), "MACS": max(macs)}
    by_type = meta["results"]["development_dataset"]
    assert set(by_type) == {"fan", "valve"}
    [record] = [
        record
        for record in records
        if (record["system"], record["machine_type"], record["seed"]) == ("baseline-maha", "fan", 0)
    ]
    official = record["sections"]["00"]["official"]
    assert by_type["fan"] == {name: pytest.approx(100 * official[name], abs=0.005) for name in official}


def test_decisions_are_those_of_the_threshold(tmp_path: Path) -> None:
    data = catalog.load(Workspace.from_environment(), "tiny")
    write_submission(
        ["baseline-mse"],
        data,
        JobStore.from_workspace(Workspace.from_environment()),
        team="T",
        folder=tmp_path,
        settings=SETTINGS,
    )
    records = stored_results()
    [record] = [
        record
        for record in records
        if (record["system"], record["machine_type"], record["seed"]) == ("baseline-mse", "valve", 0)
    ]
    folder = tmp_path / "T" / "T_task2_1"
    for kind in ("anomaly_score", "decision_result"):
        with (folder / f"{kind}_valve_section_00_test.csv").open() as file:
            rows = dict(csv.reader(file))
        if kind == "anomaly_score":
            scores = {name: float(value) for name, value in rows.items()}
    assert rows == {
        name: str(int(score > record["thresholds"]["empirical"]["threshold"]))
        for name, score in scores.items()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scores: scores.filter(pl.col("use") != "test"), "has no score; a submission needs a finite"),
        (lambda scores: scores.with_columns(score=pl.lit(np.nan)), "has the score nan; a submission"),
        (lambda scores: scores.with_columns(score=pl.lit(-np.inf)), "has the score -inf; a submission"),
    ],
)
def test_a_clip_without_a_finite_score_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change, message: str
) -> None:
    stored = submission.anomaly_scores
    monkeypatch.setattr(submission, "anomaly_scores", lambda *job: change(stored(*job)))
    monkeypatch.setattr(submission, "decision_threshold", lambda scores, *, method: 0.0)
    data = catalog.load(Workspace.from_environment(), "tiny")
    with pytest.raises(InputError, match=message):
        write_submission(
            ["baseline-mse"],
            data,
            JobStore.from_workspace(Workspace.from_environment()),
            team="T",
            folder=tmp_path,
            settings=SETTINGS,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("systems", "options", "message"),
    [
        ([], {}, "0 systems are given; the challenge accepts 1 to 4"),
        (["a", "b", "c", "d", "e"], {}, "5 systems are given"),
        (["baseline-mse"], {"team": "../T"}, r"'../T' is not a valid team name"),
        (["baseline-msee"], {}, "did you mean 'baseline-mse'"),
        (
            ["baseline-mse"],
            {"seed": 7},
            "baseline-mse on fan .* run 'asdbench run baseline-mse .* --seeds 7 --set epochs=2",
        ),
        (["baseline-mse"], {"settings": StoredRunOptions()}, "no scores of baseline-mse"),
        (["baseline-mse"], {"settings": StoredRunOptions(values={"epoch": 2})}, "did you mean 'epochs'"),
        (["baseline-mse"], {"subset": "eval"}, "no test clips of the subset 'eval'"),
    ],
)
def test_bad_requests_are_refused(tmp_path: Path, systems, options, message) -> None:
    wanted = {"team": "T", "folder": tmp_path, "settings": SETTINGS} | options
    with pytest.raises(InputError, match=message):
        write_submission(
            systems,
            catalog.load(Workspace.from_environment(), "tiny"),
            JobStore.from_workspace(Workspace.from_environment()),
            **wanted,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_submission_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("submission", "baseline-mse", "--data", "tiny", "--team", "T", "--to", str(tmp_path), *QUICK)
    assert asdbench(*command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "T.zip: 1 system" in said
    assert asdbench(*command) == 2
    assert "already exists; remove it" in capsys.readouterr().err


# Evaluation by name of the data set


def ground_truth(folder: Path) -> Path:
    """Write the tiny data set's labels as the organizers would."""
    sections, _ = truth_of("tiny", Workspace.from_environment())
    for section in sections:
        for kind, values in (("data", section.anomalous), ("domain", section.target)):
            table = (
                folder / f"ground_truth_{kind}" / f"ground_truth_{section.machine_type}_section_00_test.csv"
            )
            table.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"{name},{int(value)}" for name, value in zip(section.clips, values, strict=True)]
            table.write_text("\n".join(lines) + "\n")
    return folder


def test_labels_of_the_organizers_serve_a_challenge_that_is_not_registered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_submission(
        ["baseline-mse"],
        catalog.load(Workspace.from_environment(), "tiny"),
        JobStore.from_workspace(Workspace.from_environment()),
        team="T",
        folder=tmp_path,
        settings=SETTINGS,
    )
    folder = str(tmp_path / "T" / "T_task2_1")
    assert asdbench("evaluate", folder, "--data", "tiny", "--format", "csv") == 0
    registered = capsys.readouterr().out
    official = ("--ground-truth", str(ground_truth(tmp_path / "evaluator")), "--format", "csv")
    assert asdbench("evaluate", folder, "--data", "dcase2023", *official) == 0
    assert capsys.readouterr().out == registered
    assert registered.endswith("\n\n")
    assert asdbench("evaluate", folder, "--data", "dcase2032", *official) == 2
    assert "no data set or challenge 'dcase2032'; did you mean 'dcase20" in capsys.readouterr().err


def test_a_challenge_brings_its_rule(tmp_path: Path) -> None:
    folder = ground_truth(tmp_path)
    assert truth_of("tiny", Workspace.from_environment(), ground_truth=folder)[1] is OFFICIAL
    assert truth_of("dcase2021", Workspace.from_environment(), ground_truth=folder)[1] is IN_DOMAIN


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


# Comparison and leaderboard


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
    assert "200 paired bootstrap resamples of clips. Bold" in said
    for form, start in (("csv", "machine_type,score_a,"), ("markdown", "**baseline-maha against")):
        assert asdbench(*command, "--format", form) == 0
        assert capsys.readouterr().out.startswith(start)


def test_equal_requests_give_equal_intervals() -> None:
    systems, data = ("baseline-mse", "baseline-maha"), catalog.load(Workspace.from_environment(), "tiny")
    rows = [
        compare(
            systems,
            data,
            JobStore.from_workspace(Workspace.from_environment()),
            settings=SETTINGS,
            resamples=50,
        )
        for _ in range(2)
    ]
    assert rows[0] == rows[1]
    [mirrored] = compare(
        systems[::-1],
        data,
        JobStore.from_workspace(Workspace.from_environment()),
        settings=SETTINGS,
        resamples=50,
    )[-1:]
    assert mirrored["difference_low"] == pytest.approx(-rows[0][-1]["difference_high"])
    wide = compare(
        systems,
        data,
        JobStore.from_workspace(Workspace.from_environment()),
        settings=SETTINGS,
        resamples=50,
        confidence=0.99,
    )[-1]
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


def test_the_leaderboard_shows_intervals_around_scores(capsys: pytest.CaptureFixture[str]) -> None:
    rows = leaderboard(capsys, "--intervals")
    assert len(rows) == 2
    for row in rows:
        assert row["official_score_low"] < row["official_score"] < row["official_score_high"]
    by_type = leaderboard(capsys, "--intervals", "--by", "type")
    assert len(by_type) == 4
    assert all(row["official_score_low"] <= row["official_score_high"] for row in by_type)
    assert asdbench("leaderboard", "--data", "tiny", "--intervals") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Interval: bootstrap over clips and seeds." in said
    assert f"{100 * rows[0]['official_score_low']:.2f} to {100 * rows[0]['official_score_high']:.2f}" in said


@pytest.fixture
def searched(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchProvenance:
    """A copy of the data home in which a search has chosen the settings of baseline-mse."""
    shutil.copytree(home, tmp_path / "home", ignore=shutil.ignore_patterns("recordings"))
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    data, tuned = catalog.load(Workspace.from_environment(), "tiny"), SearchProvenance("abc", 20)
    jobs = scored_jobs(
        ["baseline-mse"],
        data,
        JobStore.from_workspace(Workspace.from_environment()),
        seeds=[0, 1],
        machine_types=["fan", "valve"],
        settings=SETTINGS,
    )
    for of_seed in jobs["baseline-mse"].values():
        for resolved in of_seed.values():
            evaluate(resolved, JobStore.from_workspace(Workspace.from_environment()), tuned=tuned)
    return tuned


def test_a_tuned_row_has_the_interval_of_its_untuned_twin(
    searched: SearchProvenance, capsys: pytest.CaptureFixture[str]
) -> None:
    for by in ((), ("--by", "type")):
        found = leaderboard(capsys, "--intervals", *by)
        twins = [row for row in found if row["system"] == "baseline-mse"]
        assert [row["tuned"] for row in twins] == [None, msgspec.structs.asdict(searched)] * (len(twins) // 2)
        for untuned, tuned in zip(twins[::2], twins[1::2], strict=True):
            different = {key for key in tuned if tuned[key] != untuned[key]}
            assert different == {"tuned"}
            assert tuned["official_score_low"] < tuned["official_score_high"]


def test_a_tuned_row_is_compared_and_submitted_by_its_settings(
    searched: SearchProvenance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = leaderboard(capsys)
    [row] = [row for row in before if row["tuned"]]
    options = ("--data", "tiny", "--set", *assignments(row["settings"]).split())
    command = ("compare", "baseline-mse", "baseline-maha", *options, "--seeds", "0", "1", "--resamples", "10")
    capsys.readouterr()
    assert asdbench(*command, "--format", "json") == 0
    overall = json.loads(capsys.readouterr().out)[-1]
    assert overall["score_a"] == pytest.approx(row["official_score"], abs=1e-12)
    stored = stored_results()
    out = ("--team", "Zhang_DKU", "--to", str(tmp_path / "out"))
    assert asdbench("submission", "baseline-mse", *options, *out) == 0
    label = "Zhang_DKU_task2_1"
    meta = yaml.safe_load((tmp_path / "out" / "Zhang_DKU" / label / f"{label}.meta.yaml").read_text())
    assert set(meta["results"]["development_dataset"]) == {"fan", "valve"}
    assert len(stored_results()) == len(stored)
    assert leaderboard(capsys) == before


def test_a_submission_of_searched_settings_leaves_no_untuned_result(
    searched: SearchProvenance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where only the search has judged them, the submission's own figures are stored nowhere."""
    for path in (Workspace.from_environment().home / "jobs" / "results").glob("*.json"):
        if not json.loads(path.read_text())["tuned"]:
            path.unlink()
    write_submission(
        ["baseline-mse"],
        catalog.load(Workspace.from_environment(), "tiny"),
        JobStore.from_workspace(Workspace.from_environment()),
        team="T",
        folder=tmp_path,
        settings=SETTINGS,
    )
    [row] = leaderboard(capsys)
    assert row["tuned"]["search"] == "abc"


def test_published_results_are_shown_for_their_own_data_only(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asdbench("leaderboard", "--data", "tiny", "--reference") == 0
    captured = capsys.readouterr()
    assert "no published results on tiny; there are for dcase2023" in captured.out
    assert "official baseline" not in captured.out
    catalog.add(Workspace.from_environment(), "dcase2023", home / "recordings")
    assert asdbench("leaderboard", "--data", "dcase2023", "--reference", "--by", "type") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Zhang_DKU_task2_2" in said
    assert said.count(" published ") == 12
    assert "official baseline MSE" in said
    assert "Zhang and Li, technical report" in said
    assert "not comparable with the official rule" in said
