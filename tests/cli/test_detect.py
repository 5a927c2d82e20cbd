"""export and detect, as a user calls them."""

import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdbench.engine.detector import Detector
from tests.commands import asdbench
from tests.exported import AUTOENCODER, Exported

RATE = 16_000


@pytest.fixture
def model(exported: Exported, home: Path) -> str:
    return str(exported.folder)


class _Standard:
    """Standard input with these bytes."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)

    def isatty(self) -> bool:
        return False


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_system_is_exported_and_used(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(exported.data.workspace.home))
    monkeypatch.chdir(tmp_path)
    settings = ("--set", *(f"{name}={value}" for name, value in AUTOENCODER.items()))
    export = ("export", "baseline-mse", "--data", "tiny", "--machines", "fan", "--threshold", "gamma")
    assert asdbench(*export, *settings) == 0
    assert "detectors/baseline-mse-tiny: baseline-mse, 1 machine type" in capsys.readouterr().out
    clip = str(exported.test_file("fan"))
    assert asdbench("detect", "detectors/baseline-mse-tiny", clip, "--format", "json") == 0
    (row,) = lines(capsys)
    thresholds = Detector.load(exported.folder).record.machines["fan"].thresholds
    assert row["score"] == pytest.approx(exported.test_clips("fan")["score"][0], rel=1e-5)
    assert row["threshold"] == thresholds["gamma"].threshold
    assert asdbench("export", "baseline-mse", "--data", "tiny", "--seed", "3", *settings) == 2
    assert "run 'asdbench run baseline-mse --data tiny --seeds 3 --set" in capsys.readouterr().err


def test_files_and_folders_are_scored(
    model: str, exported: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = exported.test_file("fan").parent
    assert asdbench("detect", model, str(folder), "--machine", "fan", "--json") == 0
    rows = lines(capsys)
    assert [row["file"] for row in rows] == sorted(map(str, folder.glob("*.wav")))
    stored = {str(exported.data.root / path): score for path, score in
              exported.test_clips("fan").select("path", "score").iter_rows()}  # fmt: skip
    assert {row["file"]: row["score"] for row in rows} == pytest.approx(stored, rel=1e-5, abs=1e-5)
    for row in rows:
        assert row["decision"] == ("anomaly" if row["score"] > row["threshold"] else "normal")
        assert row["machine_type"] == "fan"
    assert asdbench("detect", model, str(folder), "--machine", "fan") == 0
    shown = capsys.readouterr().out
    assert "baseline-mse on fan of tiny" in shown
    assert "section_00_source_test_anomaly_0000" in shown


def test_a_bad_file_does_not_stop_the_others(
    model: str, exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "nan.wav", np.full(1000, np.nan), RATE, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("no sound")
    good = str(exported.test_file("fan"))
    bad = [str(tmp_path / name) for name in ("empty.wav", "nan.wav", "text.wav")]
    assert asdbench("detect", model, *bad, good, "--machine", "fan", "--format", "json") == 1
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row.get("error", "") for row in rows][:2] == ["empty file (0 bytes)", "NaN or infinite samples"]
    assert "not audio" in rows[2]["error"]
    assert "score" in rows[3]
    assert err == "asdbench: 3 of 4 files could not be scored\n"
    assert asdbench("detect", model, bad[0], "--machine", "fan") == 2
    out, err = capsys.readouterr()
    assert (out + err).count("empty file (0 bytes)") == 1


def test_doubtful_recordings_are_scored_with_notes(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tone = np.sin(np.arange(RATE) / 7)
    soundfile.write(tmp_path / "clipped.wav", (3 * tone).clip(-1, 1), RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "stereo.flac", np.stack([tone, tone], axis=1) / 4, 44_100)
    soundfile.write(tmp_path / "short.wav", tone[:50] / 4, RATE)
    assert asdbench("detect", model, str(tmp_path), "--machine", "fan", "--format", "json") == 0
    notes = {Path(str(row["file"])).name: " ".join(row["notes"]) for row in lines(capsys)}  # type: ignore[arg-type]
    assert "clipped" in notes["clipped.wav"]
    assert "silent" in notes["silent.wav"]
    assert "the mean of 2 channels is used" in notes["stereo.flac"]
    assert "resampled from 44100 Hz" in notes["stereo.flac"]
    assert "too short for a window" in notes["short.wav"]


def test_a_long_recording_has_events(
    model: str, exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    normal = np.concatenate([exported.recording("fan", place=place) for place in range(4)])
    soundfile.write(tmp_path / "long.wav", np.concatenate([normal, normal]), RATE)
    options = ["--machine", "fan", "--window", "1", "--hop", "0.5"]
    assert asdbench("detect", model, str(tmp_path), *options, "--format", "json") == 0
    (row,) = lines(capsys)
    clips = row["clips"]
    assert isinstance(clips, list)
    assert [clip["start_s"] for clip in clips[:3]] == [0.0, 0.5, 1.0]
    highest = max(clip["score"] for clip in clips)
    assert row["score"] == highest
    limit = str(sorted(clip["score"] for clip in clips)[-2])
    assert asdbench("detect", model, str(tmp_path), *options, "--threshold", limit, "--format", "json") == 0
    (row,) = lines(capsys)
    (event,) = row["events"]  # type: ignore[misc]
    assert event["score"] == highest
    assert event["end_s"] - event["start_s"] == 1.0
    assert asdbench("detect", model, str(tmp_path), *options, "--threshold", limit) == 0
    assert f"{event['start_s']:.1f} to {event['end_s']:.1f} s, highest at" in capsys.readouterr().out


def test_a_stream_is_scored_while_it_runs(
    model: str, exported: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = np.concatenate([exported.recording("fan", place=place) for place in range(4)])
    content = np.rint(samples * 32768).astype("<i2").tobytes()
    options = ["--machine", "fan", "--window", "1", "--threshold", "-1e9"]
    monkeypatch.setattr(sys, "stdin", _Standard(content + b"x"))
    assert asdbench("detect", model, "-", *options, "--format", "json") == 0
    rows = lines(capsys)
    assert [row["type"] for row in rows] == ["clip"] * (len(rows) - 1) + ["event"]
    expected = Detector.load(model).stream([samples], RATE, machine="fan", window_s=1.0)
    assert [row["score"] for row in rows[:-1]] == pytest.approx([found.score for found in expected])
    assert rows[-1]["end_s"] == pytest.approx(len(samples) / RATE, abs=1e-3)
    monkeypatch.setattr(sys, "stdin", _Standard(content))
    assert asdbench("detect", model, "-", *options, "--rate", "8000") == 0
    assert f"0.0 to {2 * len(samples) / RATE:.1f} s, highest at" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "standard input is empty"),
        (b"x", "the stream is too short to leave a sample at 16000 Hz"),
        (b"RIFF....WAVE", "standard input is a WAV or FLAC file"),
    ],
)
def test_a_stream_that_is_none_is_named(
    model: str,
    content: bytes,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", _Standard(content))
    assert asdbench("detect", model, "-", "--machine", "fan") == 2
    assert message in capsys.readouterr().err


def test_a_closed_stream_is_named(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert asdbench("detect", model, "-", "--machine", "fan") == 2
    assert "standard input is closed; pipe raw 16-bit mono samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a file or folder to score"),
        (["no such file"], "there is no file or folder 'no such file'"),
        (["FOLDER"], "there are no WAV or FLAC files in"),
        (["FILE", "--rate", "8000"], "--rate 8000 is for samples on standard input"),
        (["-", "FILE"], "- stands for standard input and takes no further files"),
        (["-", "--explain", "x.png"], "--explain needs files"),
        (["FILE", "--window", "0"], "--window is 0.0 s; give a positive number"),
        (["FILE", "--threshold", "gama"], "did you mean 'gamma'"),
        (["FILE", "--tresh", "1"], "unknown option --tresh"),
        (["FILE", "--threshold", "nan"], "the threshold nan is not a finite number"),
        (["FILE", "--explain", "/proc/no"], "--explain cannot write to the folder '/proc/no'"),
        (["FILE", "--explain", "FILE/pictures"], "(Not a directory); name another one"),
        (["FILE", "--explain", "FOLDER/a.png"], "a.png', which is a folder; name another place"),
        (["FILE", "FILE2", "--explain", "x.png"], "is one picture for 2 files; name a folder"),
    ],
)
def test_a_bad_request_is_named(
    model: str,
    exported: Exported,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {
        "FILE": str(exported.test_file("fan")),
        "FILE2": str(exported.test_file("fan", place=1)),
        "FOLDER": str(tmp_path),
    }
    if "FOLDER/a.png" in arguments:
        (tmp_path / "a.png").mkdir()
    given = [
        names.get(first, first) + slash + rest for first, slash, rest in (w.partition("/") for w in arguments)
    ]
    assert asdbench("detect", model, *given, "--machine", "fan") == 2
    out, err = capsys.readouterr()
    assert message in " ".join(err.split())
    assert not out


def test_a_folder_that_is_no_model_is_named(
    home: Path, tmp_path: Path, exported: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asdbench("detect", str(tmp_path), str(exported.test_file("fan"))) == 2
    assert "is not an exported detector" in capsys.readouterr().err
    assert asdbench("detect", str(exported.folder), str(exported.test_file("fan"))) == 2
    assert "choose one with --machine: fan, valve" in capsys.readouterr().err


def test_pictures_are_written(
    model: str,
    exported: Exported,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asdbench.engine.explanation._BANDS", 2)
    file = exported.test_file("fan")
    for explain, picture in (("pictures", f"pictures/{file.stem}.png"), ("one.png", "one.png")):
        assert (
            asdbench("detect", model, str(file), "--machine", "fan", "--explain", str(tmp_path / explain))
            == 0
        )
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
        assert f"{picture}: " in capsys.readouterr().err


def test_a_picture_that_fails_does_not_stop_the_others(
    model: str,
    exported: Exported,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name too long for a temporary name has no picture; one that is not UTF-8 has, and is shown."""
    monkeypatch.setattr("asdbench.engine.explanation._BANDS", 1)
    monkeypatch.setattr("asdbench.engine.explanation._TIMES", 1)
    names = ["a" * 245 + ".wav", os.fsdecode(b"caf\xe9.wav")]
    for name in names:
        shutil.copy(exported.test_file("fan"), tmp_path / name)
    options = ["--machine", "fan", "--explain", str(tmp_path / "pictures")]
    assert asdbench("detect", model, *(str(tmp_path / name) for name in names), *options) == 1
    out, err = capfd.readouterr()
    assert "caf\ufffd.wav" in out
    assert "aaa.png' (File name too long); name another place with --explain" in err
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == [os.fsdecode(b"caf\xe9.png")]
    assert asdbench("detect", model, str(tmp_path / names[1]), "--machine", "fan", "--json") == 0
    assert json.loads(capfd.readouterr().out)["file"] == str(tmp_path / names[1])
