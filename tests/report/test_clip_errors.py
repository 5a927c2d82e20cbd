"""The clips that a system gets most wrong."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdbench.errors import InputError
from asdbench.report.clip_errors import clip_sound, worst_errors
from asdbench.report.row_scores import row_jobs, type_scores
from tests.report.made_up import leaderboard_rows, made_up


def test_the_worst_errors_are_farthest_from_the_threshold(tmp_path: Path) -> None:
    data, store = made_up(tmp_path, ["baseline-mse"], seeds=[0], machine_types=["fan"], separation=1.0)
    (fan,) = type_scores(row_jobs(leaderboard_rows(data, store)[0], data), data, store)
    errors = worst_errors([fan], per_type=99)
    wrong = fan.decided[0] != fan.anomalous
    assert {error.path for error in errors} == set(fan.clips.filter(wrong)["path"])
    assert [error.is_anomaly for error in errors] == sorted(error.is_anomaly for error in errors)
    misses = [error for error in errors if error.is_anomaly]
    assert misses
    assert [e.distance for e in misses] == sorted((e.distance for e in misses), reverse=True)
    assert all(error.score <= error.threshold for error in misses)
    normal = fan.scores[0][~fan.anomalous]
    first = misses[0]
    assert first.distance == pytest.approx((first.threshold - first.score) / normal.std())
    assert first.attributes.startswith("spd ")
    assert [e.path for e in worst_errors([fan]) if e.is_anomaly] == [first.path]


def test_the_sound_of_a_clip_is_heard_and_seen(tmp_path: Path) -> None:
    data, store = made_up(tmp_path, ["baseline-mse"], seeds=[0], machine_types=["fan"], separation=1.0)
    (fan,) = type_scores(row_jobs(leaderboard_rows(data, store)[0], data), data, store)
    error = worst_errors([fan])[0]
    sound = clip_sound(error, data)
    samples, rate = soundfile.read(io.BytesIO(sound.mp3))
    original, _ = soundfile.read(data.root / error.path)
    assert rate == 16_000
    assert len(samples) == pytest.approx(len(original), abs=3000)
    assert sound.duration_s == sound.shown_s == len(original) / 16_000
    assert np.abs(samples).max() == pytest.approx(0.9, abs=0.1)
    assert sound.mels.shape == (1 + len(original) // 512, 64)
    assert clip_sound(error, data).mp3 == sound.mp3
    (data.root / error.path).unlink()
    with pytest.raises(InputError, match="no such file"):
        clip_sound(error, data)
