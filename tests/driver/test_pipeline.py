"""A run of several systems: ensembles over what is there, pseudo-anomalies of another data set."""

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from asdbench.data.sets import catalog
from asdbench.engine.evaluation import anomaly_scores, components_of
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.io import retry
from asdbench.io.retry import RetryingStorage
from asdbench.io.storage import Storage, StorageError
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny
from asdbench.testing.conformance import run_job
from tests.commands import asdbench

QUICK = ("--local", "--set", "epochs=2", "hidden=8", "steps=4")
SMALL = ("width=16", "heads=2", "ffn=16", "blocks=1", "embedding=4", "window_frames=32", "n_mels=16")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    catalog.add(Workspace.from_environment(), "tiny", write_tiny(tmp_path / "recordings"))
    return tmp_path / "home"


def board(capsys: pytest.CaptureFixture[str], data: str) -> dict[str, dict[str, object]]:
    capsys.readouterr()
    assert asdbench("leaderboard", "--data", data, "--format", "json") == 0
    return {row["system"]: row for row in json.loads(capsys.readouterr().out)}


def test_an_ensemble_runs_what_is_missing_and_reuses_the_rest(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asdbench("run", "baseline-mse", "--data", "tiny", *QUICK[:-1]) == 0
    capsys.readouterr()
    run = ("run", "ensemble", "--data", "tiny", *QUICK, "members=baseline-mse,multitask-mel", *SMALL)
    # the width of the mel differs, so the autoencoder has to be trained again
    assert asdbench(*run) == 0
    assert "4 jobs, 4 trainings (0 already stored)" in " ".join(capsys.readouterr().out.split())
    assert asdbench(*run) == 0
    assert "(4 already stored)" in " ".join(capsys.readouterr().out.split())
    assert asdbench("run", "baseline-mse", "--data", "tiny", *QUICK[:-1], "n_mels=16") == 0
    assert "(2 already stored)" in " ".join(capsys.readouterr().out.split())
    assert asdbench("run", "multitask-mel", "--data", "tiny", "--local", "--set", QUICK[-1], *SMALL) == 0
    rows = board(capsys, "tiny")
    members = [rows["baseline-mse"], rows["multitask-mel"]]
    assert rows["ensemble"]["complete"]
    for summed in ("parameters", "macs_per_clip"):
        assert rows["ensemble"][summed] == sum(row[summed] for row in members)  # type: ignore[misc]
    assert rows["ensemble"]["settings"]["members"] == ["baseline-mse", "multitask-mel"]  # type: ignore[index]


def test_damaged_files_are_made_again_by_the_same_command(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ("run", "baseline-mse", "--data", "tiny", *QUICK[:-1])
    assert asdbench(*run) == 0
    rows = board(capsys, "tiny")
    scores = sorted((home / "jobs" / "scores").iterdir())
    (scores[0] / "components.parquet").write_bytes((scores[0] / "components.parquet").read_bytes()[:500])
    (scores[1] / "scoring.json").unlink()
    (scores[1] / "scoring.json").mkdir()
    for result in (home / "jobs" / "results").iterdir():
        result.write_bytes(b"{")
    assert asdbench(*run) == 0
    assert "components.parquet is damaged" in " ".join(capsys.readouterr().err.split())
    there = {path.name for folder in scores for path in folder.iterdir()}
    damaged = {"components.parquet", "scoring.json"}
    assert there == {"backend.pt", "embeddings.npy", *damaged, *(f"{name}.damaged" for name in damaged)}
    assert board(capsys, "tiny")["baseline-mse"]["official_score"] == rows["baseline-mse"]["official_score"]


def test_transient_faults_of_the_storage_do_not_end_the_driver(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of file fails twice when it is read and twice when it is written."""
    left: dict[tuple[str, str], int] = defaultdict(lambda: 2)

    def faulty(operation: str) -> Callable[..., object]:
        action: Callable[..., object] = getattr(Storage, operation)

        def run(self: Storage, name: str, *rest: object) -> object:
            kind = f"{name.partition('/')[0]} {Path(name).suffix}"
            if left[operation, kind] and isinstance(self, RetryingStorage):
                left[operation, kind] -= 1
                raise StorageError("stale file handle", transient=True)
            return action(self, name, *rest)

        return run

    monkeypatch.setattr(retry, "_RETRY_S", 0.01)
    for operation in ("read", "write", "names", "size_bytes"):
        monkeypatch.setattr(Storage, operation, faulty(operation))
    assert asdbench("run", "baseline-mse", "--data", "tiny", *QUICK[:-1]) == 0
    assert "waiting: stale file handle" in " ".join(capsys.readouterr().err.split())
    assert {(operation, kind) for operation, kind in left if not left[operation, kind]} >= {
        ("read", "trainings .json"), ("read", "scores .json"), ("read", "scores .parquet"),
        ("write", "results .json"), ("size_bytes", "results .json"), ("names", "trainings "),
    }  # fmt: skip


def test_other_weights_need_no_new_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members = "members=baseline-mse,baseline-maha"
    scores = []
    for weights in ("1,0", "0.25,0.75"):
        assert asdbench("run", "ensemble", "--data", "tiny", *QUICK[:-1], members, f"weights={weights}") == 0
        settings = {"epochs": 2, "hidden": 8, "members": members.partition("=")[2], "weights": weights}
        job = ResolvedJob.from_workspace(
            Job("ensemble", settings, "tiny", "fan", 0), Workspace.from_environment()
        )
        scores.append(
            anomaly_scores(job, JobStore.from_workspace(Workspace.from_environment())).sort("use", "clip_id")
        )
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("(0 already stored)") == said.count("(2 already stored)") == 1
    alone = anomaly_scores(job.members[0], JobStore.from_workspace(Workspace.from_environment())).sort(
        "use", "clip_id"
    )["score"]
    assert scores[0]["score"].to_numpy() == pytest.approx(alone.to_numpy())  # both have unit deviation
    assert not scores[0].equals(scores[1])


def test_an_ensemble_of_components_weighs_members_not_components(home: Path) -> None:
    members = "multitask-mel,baseline-mse"
    named = ["members=" + members, "join=components", "weights=3,1", *SMALL]
    assert asdbench("run", "ensemble", "--data", "tiny", *QUICK, *named) == 0
    settings = dict(pair.split("=") for pair in [*QUICK[2:], *named])
    job = ResolvedJob.from_workspace(
        Job("ensemble", settings, "tiny", "fan", 0), Workspace.from_environment()
    )
    found = components_of(job, JobStore.from_workspace(Workspace.from_environment()))
    parts = []
    for member, names in zip(job.members, (["logit", "gmm"], ["mse"]), strict=True):
        table = components_of(member, JobStore.from_workspace(Workspace.from_environment())).sort(
            "use", "clip_id"
        )
        table = table.filter(pl.col("use") != "hold-out-target")  # the other member holds out none
        normal = table.filter(pl.col("use") == "hold-out")
        z = [(table[n] - normal[n].mean()) / normal[n].std(ddof=0) for n in names]
        parts.append(sum(z) / len(z))
    assert found["mean"].to_numpy() == pytest.approx(((3 * parts[0] + parts[1]) / 4).to_numpy())


def test_pseudo_anomalies_of_another_data_set(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.add(
        Workspace.from_environment(),
        "lonely",
        write_tiny(tmp_path / "lonely", machine_types=["valve"], seed=3),
    )
    run = ("run", "multitask-mel", "--data", "lonely", *QUICK[:2], QUICK[-1], *SMALL)
    assert asdbench(*run) == 2
    assert "with --pseudo-anomalies-from" in " ".join(capsys.readouterr().err.split())
    assert asdbench(*run, "--pseudo-anomalies-from", "tiny") == 0
    (row,) = board(capsys, "lonely").values()
    assert row["settings"]["pseudo_anomaly_data"] == "tiny"  # type: ignore[index]
    assert (
        asdbench("run", "baseline-mse", "--data", "lonely", *QUICK[:-1], "--pseudo-anomalies-from", "tiny")
        == 2
    )
    assert "no system of this run takes pseudo-anomalies" in " ".join(capsys.readouterr().err.split())
    assert asdbench(*run, "--pseudo-anomalies-from", "tinny") == 2
    assert "did you mean 'tiny'" in " ".join(capsys.readouterr().err.split())


def test_with_foreign_pseudo_anomalies_the_scores_are_others(home: Path, tmp_path: Path) -> None:
    catalog.add(
        Workspace.from_environment(),
        "more",
        write_tiny(tmp_path / "more", machine_types=["pump", "fan"], seed=9),
    )
    keys = set()
    for pseudo_anomaly_data in (None, "more"):
        settings = dict(pair.split("=") for pair in SMALL)
        keys.add(
            ResolvedJob.from_workspace(
                Job("multitask-mel", settings, "tiny", "fan", 0, pseudo_anomaly_data),
                Workspace.from_environment(),
            ).training_key
        )
    assert len(keys) == 2
    mse = {
        ResolvedJob.from_workspace(
            Job("baseline-mse", {}, "tiny", "fan", 0, pseudo_anomaly_data), Workspace.from_environment()
        ).training_key
        for pseudo_anomaly_data in (None, "more")
    }
    assert len(mse) == 1


@pytest.mark.parametrize("change", ["no attributes", "one value", "no target"])
@pytest.mark.parametrize("system", ["multitask-mel", "multitask-combined", "adversarial"])
def test_unusual_data_sets(home: Path, tmp_path: Path, system: str, change: str) -> None:
    folder = write_tiny(tmp_path / "unusual", target_clips=0 if change == "no target" else 3, seed=4)
    for file in [*folder.rglob("*.wav")]:
        stem = file.stem.partition("_spd_")[0]
        if change != "no target":
            file.rename(file.with_name(stem + ("_spd_1" if change == "one value" else "") + ".wav"))
    if change != "no target":
        for table in folder.rglob("attributes_00.csv"):
            table.unlink()
    catalog.add(Workspace.from_environment(), "unusual", folder)
    quick = {"cvae_steps": 2, "adversarial_steps": 2, "batch_size": 8}
    if system != "adversarial":
        quick = {"steps": 3, **dict(pair.split("=") for pair in SMALL)}
    found = run_job(
        Job(system, quick, "unusual", "fan", 0),
        Workspace.from_environment(),
        JobStore.from_workspace(Workspace.from_environment()),
    )
    assert np.isfinite(found.fused["score"].to_numpy()).all()
    assert (len(found.resolved.clips.facts.attributes) == 0) == (change != "no target")
    assert ((found.resolved.clips._clips.domain == 1).any()) == (change != "no target")
