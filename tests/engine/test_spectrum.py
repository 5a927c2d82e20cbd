import numpy as np
import torch

from asdbench.engine.spectrum import N_FFT, level_db, mean_level_db, to_samples, to_spectrum


def noise(samples: int, level: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, level, samples).astype(np.int16)


def test_a_clip_comes_back_from_its_spectrum() -> None:
    for samples in (300, 1024, 16_001):
        clip = noise(samples, 3000)
        assert np.abs(to_samples(to_spectrum(clip), samples).astype(int) - clip).max() <= 1


def test_the_level_follows_the_signal() -> None:
    quiet, loud = (mean_level_db([noise(16_000, level)]) for level in (100, 1000))
    torch.testing.assert_close(loud - quiet, torch.full_like(loud, 20.0), atol=0.5, rtol=0)
    tone = (10_000 * np.sin(2 * np.pi * 2000 * np.arange(16_000) / 16_000)).astype(np.int16)
    assert int(level_db(to_spectrum(tone)).mean(dim=1).argmax()) == 2000 * N_FFT // 16_000
