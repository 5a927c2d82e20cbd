from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdbench.data.audio import BadAudio
from asdbench.engine.clip_stream import ClipLength
from asdbench.engine.detector import Detector
from asdbench.engine.machine_detector import MachineDetector
from asdbench.engine.recording_scan import scan_file, scan_samples
from tests.exported import Exported

RATE = 16_000


@pytest.fixture(scope="module")
def fan(exported: Exported) -> MachineDetector:
    return Detector.load(exported.folder).machine("fan")


def test_a_recording_of_usual_length_is_one_clip(fan: MachineDetector, exported: Exported) -> None:
    found = scan_file(fan, exported.test_file("fan"))
    assert len(found.detections) == 1
    assert found.highest.score == pytest.approx(exported.test_clips("fan")["score"][0], rel=1e-5)


def test_a_long_recording_is_scored_over_time(
    fan: MachineDetector, exported: Exported, tmp_path: Path
) -> None:
    normal = np.concatenate([exported.recording("fan", place=place) for place in (0, 1)] * 4)
    tone = 0.9 * np.sin(0.7 * np.arange(20_000))
    odd = np.concatenate([normal, tone, normal])
    soundfile.write(tmp_path / "long.wav", odd, RATE)
    found = scan_file(fan, tmp_path / "long.wav", threshold=1e9)
    assert len(found.detections) > 10
    assert found.events == []
    usual_s = fan.record.clips.median_s
    assert found.detections[1].start_s == pytest.approx(usual_s / 2, abs=1e-3)
    starts = len(normal) / RATE
    assert starts - usual_s < found.highest.start_s < starts + usual_s + 1.5
    higher = sorted(detection.score for detection in found.detections)[-2]
    again = scan_file(fan, tmp_path / "long.wav", threshold=higher)
    (event,) = again.events
    assert event.start_s <= event.peak_s <= event.end_s
    assert event.score == found.highest.score


def test_a_length_cuts_what_would_be_one_clip(fan: MachineDetector, exported: Exported) -> None:
    samples = exported.recording("fan")
    found = scan_samples(fan, samples, RATE, ClipLength(0.25, 0.25))
    assert len(found.detections) == -(-len(samples) // 4000)


def test_conversions_are_noted(fan: MachineDetector, exported: Exported) -> None:
    samples = np.repeat(exported.recording("fan"), 2)
    notes = scan_samples(fan, np.stack([samples, samples]), 32_000).notes
    assert notes[:2] == ("the mean of 2 channels is used", "resampled from 32000 Hz to 16000 Hz")
    notes = scan_samples(fan, samples, 8_000).notes
    assert notes[0] == "resampled from 8000 Hz to 16000 Hz; everything above 4 kHz is missing"


def test_a_bad_file_is_named(fan: MachineDetector, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "slow.wav", np.zeros(160_000), 1)  # 42 hours when resampled
    for name, reason in (("empty", "empty file"), ("slow", "its sample rate is 1 Hz")):
        with pytest.raises(BadAudio, match=reason):
            scan_file(fan, tmp_path / f"{name}.wav")
