import numpy as np
import pytest

from asdbench.data.fingerprint import N_BITS, SoundFingerprint, words_from_bytes


def fingerprint(wave: np.ndarray, rate_hz: int = 16000, *, blocks: int = 1) -> SoundFingerprint:
    computed = SoundFingerprint(rate_hz)
    for block in np.array_split(wave.astype(np.float32).reshape(len(wave), -1), blocks):
        computed.add(block)
    return computed


def noise(samples: int = 16000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050])
def test_blocks_do_not_matter(rate_hz: int) -> None:
    whole = fingerprint(noise(2 * rate_hz), rate_hz).words()
    np.testing.assert_array_equal(fingerprint(noise(2 * rate_hz), rate_hz, blocks=7).words(), whole)


def test_the_level_does_not_matter_and_another_moment_differs_in_half_of_the_bits() -> None:
    words = fingerprint(noise(64000)).words()
    np.testing.assert_array_equal(fingerprint(0.25 * noise(64000)).words(), words)
    differing = np.bitwise_count(words ^ fingerprint(noise(64000, seed=1)).words()).mean() / N_BITS
    assert differing == pytest.approx(0.5, abs=0.03)


def test_silence_has_no_words() -> None:
    wave = noise(32000)
    wave[12000:20000] = 0
    words = fingerprint(wave).words()[0]
    assert (words[94:149] == 0).all()
    assert (words[:80] != 0).all()
    assert not fingerprint(np.zeros(16000)).words().any()
    assert fingerprint(noise(700)).words().shape == (1, 0)


def test_channels_are_tracks() -> None:
    left, right = noise(seed=1), noise(seed=2)
    words = fingerprint(np.stack([left, right], axis=1)).words()
    for track, wave in zip(words, (left + right, left, right), strict=True):
        np.testing.assert_array_equal(track, fingerprint(wave).words()[0])
    content = fingerprint(np.stack([left, right], axis=1)).to_bytes()
    np.testing.assert_array_equal(words_from_bytes(content, channels=2), words)
    short = fingerprint(np.zeros((9, 2)))
    assert words_from_bytes(short.to_bytes(), channels=2).shape == short.words().shape == (3, 0)
