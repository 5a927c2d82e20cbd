"""The commands of asdbench data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdbench.api.data import add_data
from asdbench.data import holdout
from asdbench.data.sets import catalog
from asdbench.engine.run_record import RunStatus, save_run
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny
from tests.commands import asdbench

QUICK = ("--local", "--set", "epochs=2", "hidden=8")


def test_all_bad_files_are_listed_and_nothing_is_registered(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny(tmp_path / "recordings")
    clips = sorted((folder / "fan" / "train").glob("*.wav"))
    clips[0].write_bytes(b"")
    clips[1].write_text("these are words")
    clips[2].write_bytes(clips[2].read_bytes()[:900])
    soundfile.write(clips[3], np.full(8000, np.nan, np.float32), 16_000, subtype="FLOAT")
    assert asdbench("data", "add", "bad", str(folder)) == 2
    said = capsys.readouterr().err
    for clip in clips[:4]:
        assert f"fan/train/{clip.name}: " in said
    assert "4 problems in " in said
    assert catalog.names(Workspace.from_environment()) == []
    assert asdbench("data", "add", "bad", str(folder), "--skip-bad") == 0
    assert capsys.readouterr().out.count("skipped: ") == 4
    assert catalog.names(Workspace.from_environment()) == ["bad"]


def test_data_sets_are_listed_and_described(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert asdbench("data", "list") == 0
    assert "tiny" in capsys.readouterr().out
    assert asdbench("data", "info", tiny) == 0
    said = capsys.readouterr().out
    for word in ("fan", "valve", "source", "target", "license", "durations", "blocks", "median, 95 %"):
        assert word in said
    assert asdbench("data", "info", tiny, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    data = catalog.load(Workspace.from_environment(), tiny)
    assert (told["name"], told["machine_types"]) == ("tiny", ["fan", "valve"])
    assert told["counts"] == catalog.describe(data).counts.to_dicts()
    assert told["hold_out"] == holdout.describe(data.clips.filter(split="train")).to_dicts()
    assert (told["license"], told["notes"], told["skipped"]) == (None, [], [])


def test_shared_recordings_are_refused_unless_allowed(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny(tmp_path / "recordings", machine_types=("fan",))
    clips = [next((folder / "fan" / split).glob("*_source_*")) for split in ("train", "test")]
    rows = [f"{clip.relative_to(folder).as_posix()},monday" for clip in clips]
    (folder / "fan" / "provenance.csv").write_text("\n".join(["file_name,original", *rows]))
    said = "training and test clips of fan share 1 recording (monday)"
    add = ("data", "add", "factory", str(folder))
    assert asdbench(*add) == 2
    assert f"{said}; " in capsys.readouterr().err
    assert catalog.names(Workspace.from_environment()) == []
    assert asdbench(*add, "--allow-shared-recordings") == 0
    assert f"note: {said}\n" in capsys.readouterr().out
    assert asdbench("data", "info", "factory", "--json") == 0
    assert json.loads(capsys.readouterr().out)["shared_recordings"] == [said]
    assert asdbench("leaderboard", "--data", "factory") == 0
    assert said in capsys.readouterr().out
    assert add_data("factory", folder, allow_shared_recordings=True).shared_recordings == (said,)


def test_one_machine_type_is_counted_in_the_singular(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny(tmp_path / "recordings")
    shutil.rmtree(folder / "valve")
    assert asdbench("data", "add", "fans", str(folder)) == 0
    assert "fans: 1 machine type, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "name", "cure"),
    [
        ("info", "demo", " ('asdbench data demo' generates it)\n"),
        ("info", "nope", " ('asdbench data add nope FOLDER' registers a folder)\n"),
        ("remove", "nope", "\n"),
    ],
)
def test_the_cure_of_an_unknown_name_suits_the_command(
    home: Path, capsys: pytest.CaptureFixture[str], command: str, name: str, cure: str
) -> None:
    assert asdbench("data", command, name) == 2
    assert capsys.readouterr().err.endswith(f"no data set {name!r}; there are: none{cure}")


def test_the_embedded_data_set_is_written_registered_and_removed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asdbench("data", "demo", "--clips-per-type", "20") == 0
    assert "7 machine types, 280 clips registered" in capsys.readouterr().out
    assert catalog.load(Workspace.from_environment(), "demo").machine_types == (
        *("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"),
    )
    folder = home / "recordings" / "demo-20-seed0"
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*.*"))
    assert asdbench("data", "remove", "demo", "--yes") == 0
    said = capsys.readouterr().out
    assert f"demo: the recordings in {folder} ({n_bytes / 1e6:.1f} MB) will be deleted\n" in said
    assert not folder.exists()


def test_a_data_set_is_removed_after_a_confirmation_and_its_recordings_stay(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asdbench("data", "remove", tiny) == 2
    assert "add --yes" in capsys.readouterr().err
    assert catalog.names(Workspace.from_environment()) == ["tiny"]
    assert asdbench("data", "remove", tiny, "--yes") == 0
    said = capsys.readouterr().out
    assert f"the recordings in {tmp_path}/recordings stay\n" in said
    assert said.endswith("tiny is removed\n")
    assert catalog.names(Workspace.from_environment()) == []
    assert (tmp_path / "recordings" / "fan").exists()


def test_a_data_set_that_a_run_uses_is_not_removed(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = Workspace.from_environment().job_storage
    save_run(root, RunStatus.from_command("asdbench run ensemble --data tiny"))
    assert asdbench("data", "remove", tiny, "--yes") == 2
    assert "is under way and may use 'tiny'; wait for its end" in capsys.readouterr().err
    assert catalog.names(Workspace.from_environment()) == ["tiny"]
