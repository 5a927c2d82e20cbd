"""Attacks on the split: test clips that come back among the training clips, in another form."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import BadFolder
from asdbench.data.sets.clips import index_folder
from asdbench.data.sets.shared_recordings import shared_recordings
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.report.leaderboard_note import leaderboard_note
from asdbench.report.leaderboard_view import load_leaderboard
from asdbench.testing.tiny import write_tiny

N_TEST = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A machine type of noise clips (flac): five to train on, forty to test on."""
    root = tmp_path / "set"
    names = [f"train/section_00_source_train_normal_{n:04d}_spd_1.flac" for n in range(5)]
    names += [
        f"test/section_00_source_test_{label}_{n:04d}_spd_1.flac"
        for label in ("normal", "anomaly")
        for n in range(N_TEST // 2)
    ]
    for seed, name in enumerate(names):
        path = root / "fan" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = np.random.default_rng(seed).normal(0, 0.1, 16000)
        soundfile.write(path, wave, 16000)
    return root


def clips_to_copy(folder: Path) -> list[Path]:
    return sorted((folder / "fan" / "test").iterdir())


def train_on(folder: Path, number: int, wave: np.ndarray, *, suffix: str = "wav", subtype: str) -> None:
    path = folder / "fan" / "train" / f"section_00_source_train_normal_{100 + number:04d}_spd_1.{suffix}"
    soundfile.write(path, wave, 16000, subtype=subtype)


@pytest.mark.parametrize(("suffix", "subtype"), [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_24")])
def test_test_clips_encoded_again_are_a_data_leak(folder: Path, suffix: str, subtype: str) -> None:
    assert index_folder(folder).bad == []
    for number, path in enumerate(clips_to_copy(folder)):
        train_on(folder, number, soundfile.read(path)[0], suffix=suffix, subtype=subtype)
    bad = index_folder(folder).bad
    assert len(bad) == N_TEST
    assert bad[0].reason == (
        "data leak: its content equals that of the training clip fan/train/"
        f"section_00_source_train_normal_0100_spd_1.{suffix}"
    )
    with pytest.raises(BadFolder, match="40 problems"):
        catalog.add(Workspace.from_environment(), "mine", folder)


def test_test_clips_in_another_form_are_probable_copies(folder: Path) -> None:
    for number, path in enumerate(clips_to_copy(folder)[:8]):
        train_on(folder, number, 0.5 * soundfile.read(path)[0][1234:], subtype="PCM_16")
    bad = index_folder(folder).bad
    assert [problem.path for problem in bad] == [
        f"fan/test/{path.name}" for path in clips_to_copy(folder)[:8]
    ]
    assert bad[7].reason == (
        "probably the same recording as the training clip fan/train/"
        "section_00_source_train_normal_0107_spd_1.wav (they share 0.9 s)"
    )


def test_skip_bad_leaves_probable_copies_out(folder: Path) -> None:
    train_on(folder, 0, 0.5 * soundfile.read(clips_to_copy(folder)[3])[0], subtype="PCM_16")
    workspace = Workspace.from_environment()
    data = catalog.add(workspace, "mine", folder, skip_bad=True)
    assert [problem.path for problem in data.left_out] == [f"fan/test/{clips_to_copy(folder)[3].name}"]
    assert data.clips.filter(split="test").height == N_TEST - 1
    again = catalog.add(workspace, "mine", folder, skip_bad=True)  # from stored fingerprints
    assert again.left_out == data.left_out


def test_training_clips_may_resemble_one_another(folder: Path) -> None:
    train_on(
        folder, 0, 0.5 * soundfile.read(sorted((folder / "fan/train").iterdir())[0])[0], subtype="PCM_16"
    )
    assert index_folder(folder).bad == []


def write_recordings(folder: Path, *, shared: int) -> None:
    """Write a ``provenance.csv``: the first training clips are of recordings that test clips are of."""
    train, test = (
        [path.relative_to(folder).as_posix() for path in sorted((folder / "fan" / split).iterdir())]
        for split in ("train", "test")
    )
    lines = [f"{path},{'a' if number < shared else 'c'}{number}" for number, path in enumerate(train)]
    lines += [f"{path},{'a' if number < shared else 'b'}{number}" for number, path in enumerate(test)]
    (folder / "fan" / "provenance.csv").write_text("\n".join(["file_name,original", *lines]))


def test_shared_recordings_are_refused_unless_allowed_and_mark_what_is_said(folder: Path) -> None:
    workspace = Workspace.from_environment()
    write_recordings(folder, shared=0)
    clean = catalog.add(workspace, "mine", folder)
    assert clean.shared_recordings == ()
    write_recordings(folder, shared=4)
    said = "training and test clips of fan share 4 recordings (a0, a1, a2, and 1 more)"
    with pytest.raises(InputError, match=re.escape(f"{said}; a score on such")) as caught:
        catalog.add(workspace, "mine", folder)
    assert "--allow-shared-recordings" in str(caught.value)
    assert catalog.load(workspace, "mine").fingerprint() == clean.fingerprint()
    catalog.add(workspace, "mine", folder, allow_shared_recordings=True)
    data = catalog.load(workspace, "mine")
    assert data.shared_recordings == catalog.describe(data).notes == (said,)
    assert data.suffix("dev") == " (shared recordings)"
    assert data.add_command.endswith(" --allow-shared-recordings")
    assert (clean.suffix("dev"), clean.add_command) == ("", data.add_command.rpartition(" ")[0])


def test_a_recording_may_stand_in_training_and_test_clips_of_different_domains() -> None:
    clips = pl.DataFrame(
        {
            "machine_type": ["fan"] * 5,
            "split": ["train", "test", "test", "supplemental", "test"],
            "domain": ["source", "target", "source", None, None],
            "recording": ["a", "a", "b", "c", "c"],
        }
    )
    assert shared_recordings(clips[:3]) == []
    assert shared_recordings(clips) == ["training and test clips of fan share 1 recording (c)"]
    assert shared_recordings(clips.with_columns(domain=None)) == [
        "training and test clips of fan share 2 recordings (a, c)"
    ]


def test_probable_copies_can_be_kept_and_mark_the_data_set(folder: Path) -> None:
    workspace = Workspace.from_environment()
    for number, path in enumerate(clips_to_copy(folder)[:2]):
        train_on(folder, number, 0.5 * soundfile.read(path)[0], subtype="PCM_16")
    with pytest.raises(BadFolder, match="--allow-shared-recordings keeps probable copies"):
        catalog.add(workspace, "mine", folder)
    data = catalog.add(workspace, "mine", folder, allow_shared_recordings=True)
    assert data.clips.filter(split="test").height == N_TEST
    (said,) = data.shared_recordings
    assert said.startswith(
        "2 test clips of fan are probably the same recordings as training clips (fan/test/"
    )


def test_every_result_on_shared_recordings_is_marked(tmp_path: Path) -> None:
    workspace = Workspace.from_environment()
    folder = write_tiny(tmp_path / "tiny", machine_types=("fan",))
    write_recordings(folder, shared=1)
    data = catalog.add(workspace, "tiny", folder, allow_shared_recordings=True)
    said = "training and test clips of fan share 1 recording (a0)"
    assert load_leaderboard("tiny", workspace).notes == (said,)
    assert load_leaderboard("tiny", workspace).title == "Leaderboard of tiny (shared recordings)"
    assert said in leaderboard_note([], data, subset="dev")


def test_a_space_behind_its_name_does_not_hide_a_shared_recording() -> None:
    clips = pl.DataFrame({"split": ["train", "test"], "recording": ["monday", " monday "]})
    clips = clips.with_columns(machine_type=pl.lit("fan"), domain=pl.lit("source"))
    assert shared_recordings(clips) == ["training and test clips of fan share 1 recording (monday)"]
