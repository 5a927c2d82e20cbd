import io
import time

import numpy as np
import pytest
import soundfile
import soxr

from asdbench.data.fingerprint import SoundFingerprint, Words
from asdbench.data.sets.copies import probable_copies

RATE_HZ = 16000
N_CLIPS = 12


def fingerprint(wave: np.ndarray, rate_hz: int = RATE_HZ) -> Words:
    computed = SoundFingerprint(rate_hz)
    computed.add(np.asarray(wave, np.float32).reshape(len(wave), -1))
    return computed.words()


def machine(seed: int, duration_s: float = 1.0) -> np.ndarray:
    """Return a hum with strokes and pink noise, as a machine sounds at some moment."""
    generator = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    spectrum = np.fft.rfft(generator.normal(0, 1, len(time_s)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 30), len(time_s))
    hum = np.sin(2 * np.pi * 120 * time_s + generator.uniform(0, 6)) * noise.std()
    strokes = 1 + ((time_s * 5 + generator.uniform()) % 1 < 0.1)
    wave = hum + noise * strokes
    return np.asarray(np.rint(3000 * wave / wave.std()) / 32768, np.float32)


def as_ogg(wave: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, wave, RATE_HZ, format="OGG", subtype="VORBIS")
    file.seek(0)
    return np.asarray(soundfile.read(file, dtype="float32")[0])


def with_noise(wave: np.ndarray, snr_db: float) -> np.ndarray:
    noise = np.random.default_rng(9).normal(0, wave.std(), len(wave))
    return np.asarray(wave + noise * 10 ** (-snr_db / 20))


CHANGES = {
    "trimmed by 10 %": lambda wave: fingerprint(wave[len(wave) // 10 :]),
    "trimmed by 50 %": lambda wave: fingerprint(wave[len(wave) // 4 : 3 * len(wave) // 4]),
    "shifted": lambda wave: fingerprint(np.concatenate([wave[::-1][:1234], wave[:-1234]])),
    "8 kHz": lambda wave: fingerprint(soxr.resample(wave, RATE_HZ, 8000), 8000),
    "44.1 kHz": lambda wave: fingerprint(soxr.resample(wave, RATE_HZ, 44100), 44100),
    "12 dB louder": lambda wave: fingerprint(np.clip(3.98 * wave, -1, 1)),
    "12 dB quieter": lambda wave: fingerprint(np.rint(wave / 3.98 * 32768) / 32768),
    "noise at 20 dB": lambda wave: fingerprint(with_noise(wave, 20)),
    "Vorbis": lambda wave: fingerprint(as_ogg(wave)),
    "stereo": lambda wave: fingerprint(np.stack([wave, wave], axis=1)),
    "one channel of two": lambda wave: fingerprint(np.stack([with_noise(wave * 0, 0) + 1e-3, wave], axis=1)),
    "trimmed by 50 %, 8 kHz, noise at 20 dB": lambda wave: fingerprint(
        with_noise(soxr.resample(wave[len(wave) // 2 :], RATE_HZ, 8000), 20), 8000
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(change: str) -> None:
    waves = {f"clip{seed}": machine(seed) for seed in range(N_CLIPS)}
    tested = {name: fingerprint(wave) for name, wave in waves.items()}
    copies = probable_copies(tested, {name: CHANGES[change](wave) for name, wave in waves.items()})
    assert {name: copy.original for name, copy in copies.items()} == {name: name for name in waves}
    assert max(copy.errors for copy in copies.values()) < 0.25


def test_other_moments_of_a_machine_are_no_copies() -> None:
    tested = {str(seed): fingerprint(machine(seed)) for seed in range(40)}
    trained = {str(seed): fingerprint(machine(seed)) for seed in range(40, 120)}
    assert probable_copies(tested, trained) == {}
    assert probable_copies(tested, {}) == probable_copies({}, trained) == {}


def test_silence_and_a_steady_tone_are_no_copies() -> None:
    tone = 0.1 * np.sin(2 * np.pi * 500 * np.arange(RATE_HZ) / RATE_HZ)
    clips = {"silence": fingerprint(np.zeros(RATE_HZ)), "tone": fingerprint(tone)}
    assert probable_copies({"silence": clips["silence"]}, clips) == {}
    assert probable_copies({"tone": clips["tone"]}, {"silence": clips["silence"]}) == {}


def test_the_shared_part_is_measured() -> None:
    wave = machine(0, 3.0)
    copies = probable_copies(
        {"a": fingerprint(wave[: 2 * RATE_HZ])}, {"b": fingerprint(wave[RATE_HZ // 2 :])}
    )
    assert copies["a"].shared_s == pytest.approx(1.5, abs=0.05)


def test_many_clips_take_seconds() -> None:
    generator = np.random.default_rng(0)
    trained, tested = (
        {f"{side}{number}": generator.integers(1, 2**32, (1, 1240), np.uint32) for number in range(count)}
        for side, count in (("train", 500), ("test", 100))
    )
    start = time.process_time()
    assert probable_copies({**tested, "copy": trained["train7"][:, 300:]}, trained).keys() == {"copy"}
    assert time.process_time() - start < 5
