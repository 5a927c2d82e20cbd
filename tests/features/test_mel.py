import warnings

import librosa
import numpy as np
import pytest
import torch

from asdbench.features.mel import log_mel, log_mel_of_padded, log_mels
from asdbench.features.torchaudio_import import torchaudio
from asdbench.spec import SAMPLE_RATE_HZ, MelSpec

SPECS = [
    MelSpec(),
    MelSpec(hop_samples=512, floor=float(np.finfo(np.float64).eps)),
    MelSpec(n_fft=400, hop_samples=200, n_mels=40, f_min_hz=50.0, f_max_hz=7600.0),
    MelSpec(n_fft=4096, hop_samples=333, n_mels=3),
]


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def computed(wave: np.ndarray, spec: MelSpec, *, min_frames: int = 1) -> np.ndarray:
    return log_mel(torch.from_numpy(wave), spec, min_frames=min_frames).numpy()


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("samples", [16000, 33333])
def test_it_agrees_with_librosa(spec: MelSpec, samples: int) -> None:
    wave = noise(samples) + 0.3 * np.sin(0.2 * np.arange(samples)).astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=wave.astype(np.float64), sr=SAMPLE_RATE_HZ, n_fft=spec.n_fft,
        hop_length=spec.hop_samples, n_mels=spec.n_mels,
        fmin=spec.f_min_hz, fmax=spec.f_max_hz, power=2.0, center=True, pad_mode="constant",
    )  # fmt: skip
    expected = 10 * np.log10(np.maximum(power, spec.floor)).T
    found = computed(wave, spec)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("n_fft", [1024, 1023, 64])
@pytest.mark.parametrize("samples", [1, 159, 160, 161, 511, 512, 16000, 160000])
def test_there_is_a_frame_at_every_hop(n_fft: int, samples: int) -> None:
    spec = MelSpec(n_fft=n_fft, n_mels=8)
    assert computed(noise(samples), spec).shape == (1 + samples // 160, 8)
    assert spec.frames(samples) == 1 + samples // 160


@pytest.mark.parametrize("at_frame", [0, 1, 40, 100])
def test_an_impulse_is_seen_by_the_frames_that_cover_it(at_frame: int) -> None:
    """Frame t covers samples [hop*t - n_fft/2, hop*t + n_fft/2), and weighs the middle most."""
    spec = MelSpec()
    wave = np.zeros(16001, np.float32)
    wave[160 * at_frame] = 1.0
    level = computed(wave, spec).max(axis=1)
    assert level.argmax() == at_frame
    heard = np.flatnonzero(level > -99.0)
    reach = range(max(0, at_frame - 3), min(100, at_frame + 3) + 1)  # 3 * 160 < 512 < 4 * 160
    assert heard.tolist() == list(reach)


def test_a_tone_lies_in_its_band() -> None:
    wave = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    centers = librosa.mel_frequencies(n_mels=130, fmin=0, fmax=8000)[1:-1]
    band = computed(wave, MelSpec())[50].argmax()
    assert abs(centers[band] - 1000) < 20


def test_silence_is_at_the_floor() -> None:
    assert (computed(np.zeros(16000, np.float32), MelSpec()) == -100.0).all()
    np.testing.assert_allclose(computed(np.zeros(999, np.float32), MelSpec(floor=1e-7)), -70.0, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 7, 300, 16000, 40799, 40800, 40801])
def test_a_short_clip_is_repeated_end_to_end(samples: int) -> None:
    spec = MelSpec()
    wave = noise(samples)
    found = computed(wave, spec, min_frames=256)
    enough = 255 * 160
    if samples >= enough:
        assert np.array_equal(found, computed(wave, spec))
    else:
        assert np.array_equal(found, computed(np.tile(wave, -(-enough // samples))[:enough], spec))
    assert len(found) == 256


def test_the_waveform_is_left_as_it_was() -> None:
    wave = torch.from_numpy(noise(5000))
    before = wave.clone()
    log_mel(wave, MelSpec())
    assert torch.equal(wave, before)


def test_torchaudio_works_beside_any_build_of_torch() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bank = torchaudio.functional.melscale_fbanks(513, 0.0, 8000.0, 64, 16000)
    assert bank.shape == (513, 64)
    assert torchaudio.transforms.Spectrogram is not None


@pytest.mark.parametrize("spec", SPECS)
def test_crops_have_the_frames_of_the_whole_clip(spec: MelSpec) -> None:
    waves = [noise(160_000, seed) for seed in range(3)]
    padded = [np.pad(wave, (spec.n_fft // 2, spec.n_fft)) for wave in waves]
    begins = (0, 30, spec.frames(160_000) - 256)
    length = 255 * spec.hop_samples + spec.n_fft
    crops = [wave[spec.hop_samples * begin :][:length] for wave, begin in zip(padded, begins, strict=True)]
    found = log_mel_of_padded(torch.from_numpy(np.stack(crops)), spec)
    assert found.shape == (3, 256, spec.n_mels)
    for row, (wave, begin) in enumerate(zip(waves, begins, strict=True)):
        np.testing.assert_allclose(found[row], computed(wave, spec)[begin : begin + 256], atol=1e-4)


def test_crops_are_left_as_they_were() -> None:
    crops = torch.from_numpy(noise(5000)).view(2, 2500)
    before = crops.clone()
    log_mel_of_padded(crops, MelSpec())
    assert torch.equal(crops, before)


def test_clips_of_equal_length_have_the_spectrograms_of_each() -> None:
    waves, spec = torch.from_numpy(np.stack([noise(5000, seed) for seed in range(7)])), MelSpec()
    expected = torch.stack([log_mel(wave, spec) for wave in waves])
    torch.testing.assert_close(log_mels(waves, spec), expected, atol=1e-3, rtol=0)
