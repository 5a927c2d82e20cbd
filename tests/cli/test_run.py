"""The commands that run systems: what they print, store and return."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.io.workspace import Workspace
from asdbench.registry import SystemSource
from asdbench.testing import write_tiny
from tests.commands import asdbench

QUICK = ("--local", "--set", "epochs=2", "hidden=8")


def test_a_run_ends_with_a_leaderboard_and_a_second_one_trains_nothing(
    tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ("run", "baseline-mse", "baseline-maha", "--data", tiny, "--seeds", "0", "1", *QUICK)
    assert asdbench(*run) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "8 jobs, 4 trainings (0 already stored)" in said
    assert "done 4/4" in said
    assert "Leaderboard of tiny" in said
    assert "to see the results in MLflow, run 'asdbench ui'" in said
    assert asdbench(*run) == 0
    assert "(4 already stored)" in " ".join(capsys.readouterr().out.split())

    assert asdbench("leaderboard", "--data", tiny, "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["system"] for row in rows} == {"baseline-mse", "baseline-maha"}
    for row in rows:
        assert row["seeds"] == [0, 1]
        assert 0 < row["official_score"] <= 1
        assert 0 <= row["official_score_std"] < 0.3  # two seeds may order a few clips equally
        assert row["settings"] == {"epochs": 2, "hidden": 8}
    assert asdbench("leaderboard", "--data", tiny, "--by", "type", "--format", "json") == 0
    by_type = json.loads(capsys.readouterr().out)
    assert len(by_type) == 4
    for row in by_type:
        assert row["machine_type"] in ("fan", "valve")
        assert all(0 <= row[name] <= 1 for name in ("auc_source", "auc_target", "pauc"))


def test_a_storage_that_cannot_be_used_is_bad_input(
    tiny: str, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").touch()
    why = f"asdbench: the storage '{home / 'file'}' cannot be used (Not a directory); fix this, or choose"
    assert asdbench("run", "baseline-mse", "--data", tiny, "--storage", str(home / "file"), *QUICK) == 2
    assert capsys.readouterr().err.startswith(why)
    monkeypatch.setenv("ASDBENCH_STORAGE", str(home / "file"))
    assert asdbench("leaderboard", "--data", tiny) == 2
    assert capsys.readouterr().err.startswith(why)


def test_machine_types_can_be_run_one_after_another(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    for machine in ("fan", "valve"):
        assert asdbench("run", "baseline-mse", "--data", tiny, "--machines", machine, *QUICK) == 0
    capsys.readouterr()
    asdbench("leaderboard", "--data", tiny, "--format", "json")
    (row,) = json.loads(capsys.readouterr().out)
    assert row["complete"] is True
    assert row["official_score"] is not None


def test_a_changed_recording_is_noticed_before_anything_is_done(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = sorted((tmp_path / "recordings" / "fan" / "train").glob("*.wav"))[0]
    soundfile.write(clip, np.zeros(9000, np.int16), 16_000)
    assert asdbench("run", "baseline-mse", "--data", tiny, *QUICK) == 2
    said = capsys.readouterr().err
    assert "1 recordings of data set 'tiny' changed" in said
    assert "asdbench data add tiny" in said


def test_clips_without_labels_are_scored_and_not_judged(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny(tmp_path / "recordings", machine_types=("fan",))
    for index, clip in enumerate(sorted((folder / "fan" / "test").glob("*.wav"))):
        clip.rename(clip.with_name(f"section_00_{index:04d}.wav"))
    table = folder / "fan" / "attributes_00.csv"
    table.write_text("\n".join(row for row in table.read_text().splitlines() if "/test/" not in row) + "\n")
    catalog.add(Workspace.from_environment(), "evaluation", folder)
    assert asdbench("run", "baseline-mse", "--data", "evaluation", *QUICK) == 0
    assert "no test clip of machine type 'fan'" in " ".join(capsys.readouterr().out.split())
    assert list((home / "jobs" / "scores").glob("*/components.parquet"))


def test_a_system_that_fails_does_not_stop_the_others(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "failing.py").write_text(
        "from systems.baseline_mse import BaselineMse\n\n\n"
        "class Failing(BaselineMse):\n"
        '    """Fails."""\n\n'
        "    def forward(self, batch, update, progress):\n"
        "        raise RuntimeError('the layer is on fire')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sources = registry._sources()
    monkeypatch.setattr(
        registry, "_sources", lambda: {**sources, "failing": [SystemSource("failing", None, "failing.py")]}
    )
    assert asdbench("run", "failing", "baseline-mse", "--data", tiny, *QUICK) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "failed: fan failing seed 0" in said
    assert "the layer is on fire" in said
    assert "baseline-mse" in said.split("Leaderboard of tiny")[1]


@pytest.mark.parametrize(
    "setting",
    ["epochs", "batch_size", "frames", "hidden", "bottleneck", "n_fft", "hop_samples", "n_mels"],
)
def test_sizes_have_upper_bounds(tiny: str, capsys: pytest.CaptureFixture[str], setting: str) -> None:
    assert asdbench("run", "baseline-mse", "--data", tiny, "--local", "--set", f"{setting}=100000000") == 2
    assert f"{setting}=100000000 is above the maximum of" in capsys.readouterr().err


def test_a_cluster_named_by_the_environment_does_not_forbid_local(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert asdbench("run", "baseline-mse", "--data", tiny, "--machines", "fan", *QUICK) == 0


def test_a_cluster_named_by_the_environment_is_used(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert asdbench("run", "baseline-mse", "--data", tiny, "--machines", "fan", *QUICK[1:]) == 2
    assert "no Ray cluster answers at '127.0.0.1:1'" in capsys.readouterr().err


@pytest.mark.usefixtures("broken_plugin")
def test_features_are_built_for_the_systems_that_work(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert asdbench("features", tiny) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "skipped: system 'theirs'" in said
    assert "features of tiny are ready" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("tune", "baseline-mse", "--trials", "0"),
            "--trials 0 must be at least 1; to run systems untuned use 'asdbench run baseline-mse",
        ),
        (("tune", "ensemble", "--trials", "2"), "search its weights with 'asdbench fuse"),
        (("tune", "baseline-mse", "--trials", "2", "--only-settings", "epoch"), "did you mean 'epochs'"),
        (("tune", "baseline-mse", "--trials", "2", "--max-cost", "fusion"), "no setting to search"),
        (("tune", "baseline-mse", "--trials", "2", "--subset", "eval"), "no clips in the subset eval"),
        (("tune", "baseline-mse", "--trials", "2", "--local"), "Unknown option: --local"),
        (("tune", "baseline-mse", "--trials", "2", "--search-seed", "-1"), "--search-seed -1 is negative"),
        (("fuse", "baseline-mse"), "fusing needs at least two members"),
        (
            ("fuse", "baseline-mse", "baseline-maha"),
            "run 'asdbench run ensemble --data tiny --seeds 0 --set",
        ),
        (("fuse", "baseline-mse", "baseline-maha", "--ensemble", "baseline-mse"), "setting"),
        (("fuse", "baseline-mse", "baseline-maha", "--set", "stepz=1"), "'stepz'"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_one_sentence(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    catalog.add(Workspace.from_environment(), "tiny", write_tiny(tmp_path / "recordings"))
    assert asdbench(*arguments, "--data", "tiny") == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1


def test_fusion_weights_are_found_shown_and_marked(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.add(
        Workspace.from_environment(), "tiny", write_tiny(tmp_path / "recordings", test_clips_per_cell=4)
    )
    systems = ("baseline-mse", "baseline-maha")
    assert asdbench("run", *systems, "--data", "tiny", *QUICK) == 0
    settings = QUICK[QUICK.index("--set") :]
    fuse = ("fuse", *systems, "--data", "tiny", "--evaluations", "300", *settings)
    assert asdbench(*fuse) == 0
    said = capsys.readouterr().out
    assert "Weights of ensemble" in said
    assert "left out, all" in said
    assert "dev-tuned, 300 weight vectors" in said
    line = next(
        line
        for line in said.splitlines()
        if line.startswith("to run the ensemble with these weights: asdbench ")
    )
    assert asdbench(*line.partition("asdbench ")[2].split(), "--local") == 0
    capsys.readouterr()
    assert asdbench("leaderboard", "--data", "tiny", "--format", "json") == 0
    rows = [row for row in json.loads(capsys.readouterr().out) if row["system"] == "ensemble"]
    assert [row["tuned"]["weight_vectors"] for row in rows] == [300]  # a rerun by the user is marked too
    assert asdbench(*fuse) == 0  # the stored search
    assert "dev-tuned, 300 weight vectors" in capsys.readouterr().out


def test_what_could_not_be_recorded_is_recorded_later(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.add(Workspace.from_environment(), "tiny", write_tiny(tmp_path / "recordings"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("asdbench.driver.recording._RECORDING_PATIENCE_S", 3.0)
    assert asdbench("run", "baseline-mse", "--data", "tiny", *QUICK) == 0
    said = capsys.readouterr().out
    assert "Leaderboard of tiny" in said
    assert "asdbench record" in said
    assert asdbench("record") == 1  # a fault of the server is no bad input
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert asdbench("record") == 0
    assert "3 recorded" in capsys.readouterr().out
    assert asdbench("record") == 0
    assert "0 recorded" in capsys.readouterr().out
