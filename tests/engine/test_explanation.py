import numpy as np
import pytest
import torch

from asdbench.engine.detector import Detector
from asdbench.engine.explanation import explain
from asdbench.engine.machine_detector import DetectorScores, MachineDetector
from asdbench.engine.spectrum import to_spectrum
from tests.exported import Exported

RATE = 16_000


@pytest.fixture
def fan(exported: Exported) -> MachineDetector:
    return Detector.load(exported.folder).machine("fan")


def burst(start_s: float, end_s: float, pitch_hz: float, *, duration_s: float = 2.0) -> np.ndarray:
    """Noise with a tone from start to end."""
    time = np.arange(round(duration_s * RATE)) / RATE
    tone = np.where((time >= start_s) & (time < end_s), 0.3 * np.sin(2 * np.pi * pitch_hz * time), 0)
    noise = np.random.default_rng(0).normal(0, 0.01, len(time))
    return np.rint((tone + noise) * 32767).astype(np.int16)


@pytest.mark.parametrize(("start_s", "pitch_hz"), [(0.4, 3000.0), (1.4, 700.0)])
def test_the_place_of_an_anomaly_carries_the_score(
    fan: MachineDetector, monkeypatch: pytest.MonkeyPatch, start_s: float, pitch_hz: float
) -> None:
    """The system's score is the energy of a clip; a tone must be found where it is."""
    energies = []

    def energy(clips: list[np.ndarray], section: str | None = None) -> DetectorScores:
        energies.extend(clips)
        score = np.array([float((clip.astype(float) ** 2).mean()) for clip in clips])
        return DetectorScores(score, {"energy": score}, None)

    monkeypatch.setattr(fan, "scores", energy)
    clip = burst(start_s, start_s + 0.2, pitch_hz)
    found = explain(fan, clip, bands=8, times=10)
    assert found.drop.shape == (8, 10)
    begin, end, low, high = found.strongest
    assert (begin, end) == (pytest.approx(start_s, abs=0.1), pytest.approx(start_s + 0.2, abs=0.1))
    assert low <= pitch_hz <= high
    assert int(found.drop_of_times.argmax()) == int(found.drop.max(axis=0).argmax())
    assert found.drop.max() > 0.8 * found.score
    assert len(energies) == 1 + 8 * 10 + 10


def test_a_masked_patch_has_the_normal_level(fan: MachineDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    masked = []

    def keep(clips: list[np.ndarray], section: str | None = None) -> DetectorScores:
        masked.extend(clips)
        return DetectorScores(np.zeros(len(clips)), {}, None)

    monkeypatch.setattr(fan, "scores", keep)
    explain(fan, burst(0.0, 2.0, 3000.0), bands=1, times=1)
    _, patch, column = masked
    assert (patch == column).all()
    level = to_spectrum(patch).abs().square().log10().mul(10)[:, 5:-5].mean(dim=1)
    assert torch.quantile((level - fan.normal_level_db).abs(), 0.9) < 6  # phases that do not fit cost some


def test_an_explanation_of_a_real_system(fan: MachineDetector, exported: Exported) -> None:
    clip = np.rint(exported.recording("fan") * 32768).astype(np.int16)
    seen = []
    found = explain(fan, clip, bands=3, times=4, progress=lambda done, total: seen.append((done, total)))
    assert found.score == pytest.approx(exported.test_clips("fan")["score"][0], rel=1e-5)
    assert np.isfinite(found.drop).all()
    assert found.time_edges_s[-1] == pytest.approx(len(clip) / RATE)
    assert found.band_edges_hz[0] == 0
    assert seen[-1] == (16, 16)


def test_a_very_short_clip_has_fewer_patches(fan: MachineDetector) -> None:
    found = explain(fan, burst(0, 1, 500.0, duration_s=0.25), bands=2)
    assert found.drop.shape == (2, 2)
