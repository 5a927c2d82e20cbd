"""Long recordings and streams: cut into overlapping clips in constant memory, and merged into events.

A clip has the usual duration of a training clip, and the next one begins half a clip later. The last clip
ends with the recording, as the last window of a clip does. An event is a run of anomalous clips that overlap
or touch: it begins with the first of them and ends with the last.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from asdbench.data.audio import ChannelPolicy, joined_channels, reduce_channels, resampled
from asdbench.errors import InputError
from asdbench.spec import SAMPLE_RATE_HZ

Frames = NDArray[np.float32]


@dataclass(frozen=True)
class CutClip:
    """A clip of a stream.

    Attributes
    ----------
    start_s : its place in the stream
    samples : 16-bit samples at 16 kHz; of several kept channels, one after the other
    channels : number of kept channels
    """

    start_s: float
    samples: NDArray[np.int16]
    channels: int


@dataclass(frozen=True)
class ClipLength:
    """How a stream is cut: duration of a clip, and distance between the starts of clips, in seconds.

    Raises :class:`InputError` unless both are positive.
    """

    clip_s: float
    hop_s: float

    def __post_init__(self) -> None:
        for name, value in (("--window", self.clip_s), ("--hop", self.hop_s)):
            if not 0 < value < float("inf") or round(value * SAMPLE_RATE_HZ) < 1:
                raise InputError(f"{name} is {value} s; give a positive number of seconds, such as 10")

    @property
    def samples(self) -> tuple[int, int]:
        """Both in samples at 16 kHz."""
        return round(self.clip_s * SAMPLE_RATE_HZ), round(self.hop_s * SAMPLE_RATE_HZ)


def cut_stream(
    blocks: Iterable[Frames], sample_rate_hz: int, length: ClipLength, *, policy: ChannelPolicy
) -> Iterator[CutClip]:
    """Yield the clips of a stream as soon as they are complete; a shorter stream is one clip.

    Raises :class:`InputError` if it is too short to leave a sample.

    Parameters
    ----------
    blocks : consecutive blocks, Float32[ndarray, "sample channel"], full scale 1, of any length
    sample_rate_hz : of the blocks
    length : duration and distance of clips
    policy : by which several channels become a single one

    Examples
    --------
    >>> blocks = [np.zeros((8_000, 1), np.float32)] * 5
    >>> [clip.start_s for clip in cut_stream(blocks, 16_000, ClipLength(1.0, 0.6), policy="mean")]
    [0.0, 0.6, 1.2, 1.5]
    """
    size, hop = length.samples
    held, first, start = np.empty((0, 1), np.float32), 0, 0  # samples; place of the first; of the next clip
    for block in _at_16_khz(blocks, sample_rate_hz, policy):
        held = np.concatenate([held, block]) if len(held) else block
        while first + len(held) >= start + size:
            yield _clip(held[start - first : start - first + size], start)
            start += hop
        # a last clip that ends with the stream may reach back by a whole clip
        done = min(max(start - first, 0), max(len(held) - size, 0))
        held, first = held[done:], first + done
    end = first + len(held)
    if not end:
        raise _too_short("stream")
    covered = start - hop + size if start else 0
    if end > covered:
        last = max(end - size, 0)
        yield _clip(held[last - first :], last)


def whole_clip(blocks: Iterable[Frames], sample_rate_hz: int, *, policy: ChannelPolicy) -> CutClip:
    """Return a whole recording as one clip; the parameters are those of :func:`cut_stream`.

    Raises :class:`InputError` if it is too short to leave a sample.
    """
    reduced = [reduce_channels(block, policy) for block in blocks]
    wave = resampled(np.concatenate(reduced), sample_rate_hz)
    if not len(wave):
        raise _too_short("recording")
    return _clip(wave, 0)


def _too_short(what: str) -> InputError:
    return InputError(
        f"the {what} is too short to leave a sample at {SAMPLE_RATE_HZ} Hz; give a longer {what}"
    )


def _clip(frames: Frames, start: int) -> CutClip:
    return CutClip(start / SAMPLE_RATE_HZ, joined_channels(frames), frames.shape[1])


def _at_16_khz(blocks: Iterable[Frames], sample_rate_hz: int, policy: ChannelPolicy) -> Iterator[Frames]:
    resampler: Any = None
    for block in blocks:
        reduced = reduce_channels(block, policy)
        if sample_rate_hz == SAMPLE_RATE_HZ:
            yield reduced
            continue
        if resampler is None:
            channels = reduced.shape[1]
            resampler = soxr.ResampleStream(
                sample_rate_hz, SAMPLE_RATE_HZ, channels, dtype="float32", quality="HQ"
            )
        yield resampler.resample_chunk(np.ascontiguousarray(reduced)).reshape(-1, channels)
    if resampler is not None:
        rest = resampler.resample_chunk(np.empty((0, channels), np.float32), last=True)
        yield rest.reshape(-1, channels)
