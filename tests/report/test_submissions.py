import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from asdbench.config import assignments
from asdbench.data.sets import catalog
from asdbench.engine.job_store import JobStore
from asdbench.engine.result_record import HeldOutNormals, SearchProvenance, StoredThreshold
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.metrics import IN_DOMAIN, OFFICIAL
from asdbench.report import submissions as submission
from asdbench.report.comparison import load_comparison
from asdbench.report.official_evaluation import truth_of
from asdbench.report.stored_runs import StoredRunOptions
from asdbench.report.submissions import write_submission
from tests.commands import asdbench, leaderboard

pytestmark = pytest.mark.usefixtures("at_home")

QUICK = ("--set", "epochs=2", "hidden=8", "batch_size=64")

CALIBRATED = StoredThreshold(0.0, {}, 9)
SETTINGS = StoredRunOptions(values={"epochs": 2, "hidden": 8, "batch_size": 64})


def stored_results() -> list[dict]:
    return [
        json.loads(path.read_text())
        for path in (Workspace.from_environment().home / "jobs" / "results").glob("*.json")
    ]


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
    row = load_comparison(
        "tiny", Workspace.from_environment(), systems, seeds=[1], options=SETTINGS, resamples=10
    ).rows[-1]
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
    monkeypatch.setattr(submission, "uncalibrated_threshold", lambda job, scores, *, method: 0.0)
    monkeypatch.setattr(submission, "decision_thresholds", lambda *job: {"empirical": CALIBRATED})
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


def test_decisions_from_too_few_normal_clips_are_told_in_the_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"source": HeldOutNormals(0, 0, 4, "recordings", True)}
    stored = {"empirical": StoredThreshold(None, few, 9)}
    monkeypatch.setattr(submission, "decision_thresholds", lambda *job: stored)
    data = catalog.load(Workspace.from_environment(), "tiny")
    store = JobStore.from_workspace(Workspace.from_environment())
    write_submission(["baseline-mse"], data, store, team="T", folder=tmp_path, settings=SETTINGS)
    folder = tmp_path / "T" / "T_task2_1"
    metadata = yaml.safe_load((folder / "T_task2_1.meta.yaml").read_text())
    said = metadata["system"]["description"]["decision_making"]
    assert "not calibrated for fan (too few normal clips to set a threshold: 4 recordings, needed 9)" in said
    assert len(list(folder.glob("decision_result_*.csv"))) == 2


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
    options = ("--data", "tiny", "--team", "T", "--output", str(tmp_path))
    command = ("submission", "baseline-mse", *options, *QUICK)
    assert asdbench(*command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "T.zip: 1 system" in said
    assert asdbench(*command) == 2
    assert "already exists; remove it" in capsys.readouterr().err


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
    out = ("--team", "Zhang_DKU", "--output", str(tmp_path / "out"))
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
