from collections.abc import Iterator

import numpy as np
import pytest
import soxr

from asdbench.engine.clip_stream import ClipLength, cut_stream, whole_clip
from asdbench.errors import InputError

RATE = 16_000


def ramp(samples: int) -> np.ndarray:
    """Samples that all differ, as 16-bit values."""
    return (np.arange(samples, dtype=np.float32)[:, None] - 16_000) / 32768


@pytest.mark.parametrize("blocks", [1, 7, 320])
@pytest.mark.parametrize("hop_s", [0.5, 0.3, 1.0, 1.4])
def test_clips_cover_a_stream_to_its_end(blocks: int, hop_s: float) -> None:
    wave = ramp(40_001)
    clips = list(cut_stream(np.array_split(wave, blocks), RATE, ClipLength(1.0, hop_s), policy="mean"))
    starts = [round(clip.start_s * RATE) for clip in clips]
    hop = round(hop_s * RATE)
    assert starts[:-1] == [hop * k for k in range(len(clips) - 1)]
    assert starts[-1] == 40_001 - RATE
    for start, clip in zip(starts, clips, strict=True):
        expected = np.arange(start, start + RATE) - 16_000
        np.testing.assert_array_equal(clip.samples, expected)


def test_a_short_stream_is_one_clip() -> None:
    (clip,) = cut_stream([ramp(100), ramp(50)], RATE, ClipLength(1.0, 0.5), policy="mean")
    assert len(clip.samples) == 150
    (exact,) = cut_stream([ramp(RATE)], RATE, ClipLength(1.0, 0.5), policy="mean")
    assert len(exact.samples) == RATE


@pytest.mark.parametrize("blocks", [[], [np.zeros((1, 1), np.float32)]])
def test_a_stream_without_a_sample_is_too_short(blocks: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="the stream is too short to leave a sample at 16000 Hz"):
        list(cut_stream(blocks, 96_000, ClipLength(1.0, 0.5), policy="mean"))


def test_a_clip_comes_as_soon_as_it_is_complete() -> None:
    read = []

    def blocks() -> Iterator[np.ndarray]:
        for number in range(100):
            read.append(number)
            yield np.zeros((1600, 1), np.float32)

    stream = cut_stream(blocks(), RATE, ClipLength(1.0, 0.5), policy="mean")
    assert next(stream).start_s == 0.0
    assert len(read) == 10
    assert next(stream).start_s == 0.5
    assert len(read) == 15


def test_a_stream_is_resampled_as_a_whole_recording_is() -> None:
    generator = np.random.default_rng(0)
    wave = generator.normal(0, 0.1, (44_100, 2)).astype(np.float32)
    blocks = np.array_split(wave, 9)
    whole = whole_clip(blocks, 44_100, policy="mean")
    (streamed,) = cut_stream(blocks, 44_100, ClipLength(1.0, 1.0), policy="mean")
    assert len(whole.samples) == len(streamed.samples) == RATE
    assert np.abs(whole.samples.astype(int) - streamed.samples).max() <= 1
    expected = soxr.resample(wave.mean(axis=1), 44_100, RATE, quality="HQ")
    assert np.abs(whole.samples - expected * 32768).max() < 1


def test_both_channels_are_joined_clip_by_clip() -> None:
    wave = np.hstack([ramp(24_000), -ramp(24_000)])
    first, second = cut_stream([wave], RATE, ClipLength(1.0, 0.5), policy="both")
    assert (first.channels, len(first.samples)) == (2, 2 * RATE)
    np.testing.assert_array_equal(second.samples[:RATE], -second.samples[RATE:])


@pytest.mark.parametrize(
    ("clip_s", "hop_s", "name"), [(0, 1, "--window"), (1, -1, "--hop"), (1e-9, 1, "--window")]
)
def test_a_length_must_be_positive(clip_s: float, hop_s: float, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name} is .* s; give a positive number of seconds"):
        ClipLength(clip_s, hop_s)
