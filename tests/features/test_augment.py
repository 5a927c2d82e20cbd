from collections.abc import Sequence

import numpy as np
import pytest
import torch

from asdbench import random_by_row
from asdbench.features.augment import ON_WAVEFORM, Group, mask_windows, transformed
from asdbench.features.torchaudio_import import torchaudio
from asdbench.features.transform_draws import draw

LENGTH = 41_824  # 256 frames, hop 160, of 1024 samples
CLIP = 160_000
MASKS = ("frequency_mask", "time_mask")
VOCODED = ("stretch", "pitch")
PADDED = tuple(sorted(ON_WAVEFORM.difference(VOCODED)))


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3000, 3000, samples, dtype=np.int16)


def sine(frequency_hz: float, samples: int = CLIP) -> np.ndarray:
    return np.round(10_000 * np.sin(2 * np.pi * frequency_hz * np.arange(samples) / 16_000)).astype(np.int16)


def group_of(transform: str, keys: Sequence[int], *, start: int, samples: int, length: int) -> Group:
    rows = len(keys)
    (group,) = draw(
        [transform], torch.zeros(rows, dtype=torch.long), torch.tensor(keys), torch.full((rows,), start),
        torch.full((rows,), samples), {transform: rows}, length=length, window=(256, 128),
    )  # fmt: skip
    return group


def crop(
    clip: np.ndarray, transform: str, *, key: int = 0, start: int = 0, length: int = LENGTH
) -> np.ndarray:
    group = group_of(transform, [key], start=start, samples=len(clip), length=length)
    context = clip[np.arange(int(group.first), int(group.first) + group.samples) % len(clip)]
    return transformed(torch.from_numpy(context)[None], group, length).numpy()[0]


def plain(clip: np.ndarray, start: int) -> np.ndarray:
    return np.pad(clip, LENGTH)[LENGTH + start :][:LENGTH] / np.float32(32768)


def first_drawn(key: int, low: float, high: float) -> float:
    drawn = random_by_row.integers(torch.tensor([key]), 3, high=2**31, draw="transform")
    return low + (high - low) * int(drawn[0, 0]) / 2**31


def peak_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), n=1 << 17))
    return spectrum.argmax() * 16_000 / (1 << 17)


def clicks(apart: int) -> np.ndarray:
    clip = noise(CLIP) // 100
    clip[[3000, 3000 + apart]] = 30_000
    return clip


def distance(samples: np.ndarray) -> int:
    """Return how far the two loudest places are apart, in samples."""
    envelope = np.convolve(samples**2, np.hanning(1024), mode="same")
    one = int(envelope.argmax())
    envelope[max(one - 4000, 0) : one + 4000] = 0
    return abs(int(envelope.argmax()) - one)


def sweep_hz(sample: float) -> float:
    return 500 + 5500 * sample / CLIP


def sweep() -> np.ndarray:
    seconds = np.arange(CLIP) / 16_000
    phase = 2 * np.pi * (500 * seconds + 275 * seconds**2)
    return np.round(10_000 * np.sin(phase)).astype(np.int16)


# What every transform has in common


@pytest.mark.parametrize("transform", sorted(ON_WAVEFORM))
def test_a_transform_of_the_waveform_changes_it(transform: str) -> None:
    clip = noise(CLIP)
    assert not np.array_equal(crop(clip, transform), plain(clip, 0))


@pytest.mark.parametrize("transform", sorted(ON_WAVEFORM))
def test_the_key_alone_decides(transform: str) -> None:
    clip = noise(CLIP)
    assert np.array_equal(crop(clip, transform, key=2**62 - 1), crop(clip, transform, key=2**62 - 1))
    assert not np.array_equal(crop(clip, transform, key=5), crop(clip, transform, key=6))


@pytest.mark.parametrize("transform", PADDED)
@pytest.mark.parametrize("start", [-512, CLIP - 20_000, -1, -LENGTH, -LENGTH - 7, CLIP, CLIP + 7])
def test_outside_the_clip_is_zero(transform: str, start: int) -> None:
    found = crop(noise(CLIP), transform, start=start)
    place = np.arange(start, start + LENGTH)
    inside = (place >= 0) & (place < CLIP)
    assert not found[~inside].any()
    if inside.any():
        assert np.count_nonzero(found[inside]) > 0.9 * np.count_nonzero(inside)


@pytest.mark.parametrize("transform", ["fade", "shift"])
@pytest.mark.parametrize("start", [-512, 0, 33_333, CLIP - 20_000])
def test_a_crop_is_a_part_of_the_whole(transform: str, start: int) -> None:
    clip = noise(CLIP)
    padded = np.pad(crop(clip, transform, length=CLIP), LENGTH)
    assert np.array_equal(crop(clip, transform, start=start), padded[LENGTH + start :][:LENGTH])


@pytest.mark.parametrize("transform", sorted(ON_WAVEFORM))
@pytest.mark.parametrize("samples", [1, 2, 700, LENGTH - 1])
def test_short_clips(transform: str, samples: int) -> None:
    found = crop(np.full(samples, 8192, np.int16), transform, start=-100)
    assert np.isfinite(found).all()
    if transform in VOCODED:  # repeated end to end
        np.testing.assert_allclose(found, 0.25, atol=2e-3)
    else:
        assert not found[:100].any()
        assert not found[100 + samples :].any()


@pytest.mark.parametrize("transform", sorted(ON_WAVEFORM))
def test_silence_stays_silent(transform: str) -> None:
    assert not crop(np.zeros(CLIP, np.int16), transform, start=-512).any()


# Noise, fade, shift


@pytest.mark.parametrize("start", [0, 60_000, 100_000])
def test_noise_has_the_drawn_power_relative_to_the_crop(start: int) -> None:
    clip = np.concatenate([sine(440, 80_000), sine(440, 80_000) // 50])
    clean = plain(clip, start)
    ratios = []
    for key in range(6):
        added = crop(clip, "noise", start=start, key=key) - clean
        ratios.append(10 * np.log10(np.mean(clean**2) / np.mean(added**2)))
        assert ratios[-1] == pytest.approx(first_drawn(key, -6, 6), abs=0.15)
        assert abs(np.corrcoef(added[1:], added[:-1])[0, 1]) < 0.03  # white
    assert max(ratios) - min(ratios) > 3


def test_fades_have_the_five_shapes_over_at_most_half_the_clip() -> None:
    samples = 300
    shapes = ("linear", "quarter_sine", "half_sine", "logarithmic", "exponential")
    ramps = {
        shape: np.stack(
            [
                torchaudio.transforms.Fade(length, 0, shape)(torch.ones(samples)).numpy()
                for length in range(samples // 2 + 1)
            ]
        )
        for shape in shapes
    }

    def lengths(gain: np.ndarray, shape: str) -> np.ndarray:
        half = samples // 2
        return np.flatnonzero(np.abs(ramps[shape][:, :half] - gain[:half]).max(axis=1) < 1e-5)

    seen, faded_in, faded_out = set(), [], []
    for key in range(60):
        gain = 2 * crop(np.full(samples, 16_384, np.int16), "fade", key=key, length=samples)
        fits = [
            (shape, lengths(gain, shape), lengths(gain[::-1], shape))
            for shape in shapes
            if len(lengths(gain, shape)) and len(lengths(gain[::-1], shape))
        ]
        assert fits
        if len(fits) == 1:
            shape, into, out = fits[0]
            seen.add(shape)
            faded_in.append(into[0])
            faded_out.append(out[0])
    assert seen == set(shapes)
    for drawn in (faded_in, faded_out):
        assert min(drawn) < 30
        assert max(drawn) > 120
    assert faded_in != faded_out


def test_a_shift_is_a_roll_by_at_most_five_seconds() -> None:
    clip = noise(CLIP)
    shifts = []
    for key in range(12):
        found = crop(clip, "shift", key=key, length=CLIP) * 32768
        tried = np.flatnonzero(clip == found[0])
        by = [-place % CLIP for place in tried if np.array_equal(np.roll(clip, -place), found)]
        assert len(by) == 1
        shifts += by
    assert max(shifts) <= 80_000
    assert min(shifts) < 20_000
    assert max(shifts) > 60_000


# Stretch and pitch


@pytest.mark.parametrize("samples", [CLIP, 16_000])
@pytest.mark.parametrize("key", range(4))
def test_stretching_keeps_frequency_and_level(key: int, samples: int) -> None:
    found = crop(sine(1000, samples), "stretch", key=key, start=1234)
    assert peak_hz(found) == pytest.approx(1000, abs=16_000 / LENGTH)
    assert np.sqrt(2 * np.mean(found**2)) == pytest.approx(10_000 / 32_768, rel=0.02)


def test_stretching_divides_durations_by_the_rate() -> None:
    rates = [first_drawn(key, 0.5, 2) for key in range(8)]
    assert min(rates) < 0.7
    assert max(rates) > 1.6
    for key, rate in enumerate(rates):
        found = distance(crop(clicks(16_000), "stretch", key=key))
        assert found == pytest.approx(16_000 / rate, abs=512)  # half a frame of the vocoder, which blurs


@pytest.mark.parametrize("key", range(4))
@pytest.mark.parametrize("start", [-512, 50_000, CLIP - LENGTH])
def test_a_stretched_crop_shows_the_clip_from_its_start_on_or_from_the_nearest_place(
    key: int, start: int
) -> None:
    found = crop(sweep(), "stretch", key=key, start=start)
    rate = first_drawn(key, 0.5, 2)
    first = min(max(start, 0), CLIP - rate * LENGTH)
    beside = 1536 + 2 * 512  # what the vocoder needs before and after, at a rate of up to 2
    for place in (0, LENGTH - 2048):
        heard = peak_hz(found[place : place + 2048])
        expected = sweep_hz(first + (place + 1024) * rate)
        assert heard == pytest.approx(expected, abs=5500 * beside / CLIP + 30)


@pytest.mark.parametrize("samples", [CLIP, 16_000])
@pytest.mark.parametrize("key", range(6))
def test_pitch_is_shifted_by_the_drawn_semitones(key: int, samples: int) -> None:
    found = crop(sine(1000, samples), "pitch", key=key, start=1234)
    semitones = first_drawn(key, -10, 10)
    assert 12 * np.log2(peak_hz(found) / 1000) == pytest.approx(semitones, abs=0.07)
    assert np.sqrt(2 * np.mean(found**2)) == pytest.approx(10_000 / 32_768, rel=0.02)


@pytest.mark.parametrize("key", range(6))
def test_pitch_shifting_keeps_durations(key: int) -> None:
    assert distance(crop(clicks(16_000), "pitch", key=key)) == pytest.approx(16_000, abs=512)


def test_the_smallest_pitch_shift_is_none() -> None:
    key = next(key for key in range(2000) if abs(first_drawn(key, -10, 10)) < 0.03)
    clip = noise(CLIP)
    np.testing.assert_allclose(
        crop(clip, "pitch", key=key, start=20_000), clip[20_000:][:LENGTH] / 32_768, atol=1e-4
    )


def test_a_pitch_above_the_band_is_not_folded_back() -> None:
    key = next(key for key in range(100) if first_drawn(key, -10, 10) > 7)
    assert np.abs(crop(sine(6000), "pitch", key=key)).max() < 1e-3


# Masks


def stripes(transform: str, keys: range) -> list[tuple[int, int]]:
    """Return (begin, width) of the mask of each row; no other sample of the rows may have changed."""
    windows = torch.ones(len(keys) + 1, 256, 128)
    mask_windows(windows, group_of(transform, keys, start=0, samples=CLIP, length=LENGTH))
    windows, found = windows[:-1], []
    for window in windows.numpy() if transform == "time_mask" else windows.numpy().transpose(0, 2, 1):
        masked = np.flatnonzero(window[:, 0] == 0)
        assert np.array_equal(masked, np.arange(masked[0], masked[0] + len(masked)))
        expected = np.ones_like(window)
        expected[masked] = 0
        assert np.array_equal(window, expected)
        found.append((int(masked[0]), len(masked)))
    return found


@pytest.mark.parametrize(("transform", "size"), [("frequency_mask", 128), ("time_mask", 256)])
def test_a_mask_is_one_stripe_of_at_most_a_tenth(transform: str, size: int) -> None:
    found = stripes(transform, range(600))
    widths = {width for _, width in found}
    assert widths == set(range(1, size // 10 + 1))
    assert min(begin for begin, _ in found) == 0
    assert max(begin + width for begin, width in found) == size
    assert stripes(transform, range(600)) == found
