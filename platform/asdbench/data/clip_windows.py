"""Windows of clips as scoring takes them: where they start, their values, their samples.

A clip shorter than a window is repeated end to end until it fills one. A system that reads whole clips gets
each clip as one window of the clip's own length. Spectrograms are float16, as the
feature store keeps them, so that a recording scored here and one scored from the store have the same values.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench.features.mel import log_mels
from asdbench.spec import MelSpec
from asdbench.system import ClipBatch, InputSpec

FULL_SCALE = 32768
Encode = Callable[[NDArray[np.int16], NDArray[np.int16] | None], Tensor]

FrameT = TypeVar("FrameT", int, NDArray[np.int64])

SCORING_FRAMES = 16_384  # frames of a scoring batch on a CPU, in all its windows, about: they fit a cache


def window_starts(frames: int, window: int, hop: int) -> NDArray[np.int64]:
    """Return where windows start in a clip: 0, hop, 2·hop, ... while before the last start, and the last.

    >>> window_starts(1001, 256, 128).tolist()
    [0, 128, 256, 384, 512, 640, 745]
    """
    last = frames - window
    return np.append(np.arange(0, last, hop), last)


@dataclass(frozen=True)
class Standardization:
    """Mean and deviation of each mel bin, Float[Tensor, "mel"]; also of several machine types or rows."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def stacked(cls, of_machines: "Sequence[Standardization]") -> "Standardization":
        """Return the statistics of several machine types, Float[Tensor, "machine mel"]."""
        means, deviations = ([getattr(one, name) for one in of_machines] for name in ("mean", "deviation"))
        return cls(torch.stack(means), torch.stack(deviations))

    def apply_(self, windows: Tensor) -> Tensor:
        """Turn windows in dB, Float[Tensor, "row frame mel"], into z-scores, in place."""
        return windows.sub_(self.mean).div_(self.deviation)


def stored_mel(samples: NDArray[np.int16], spec: MelSpec, *, min_frames: int) -> Tensor:
    """Return the log-mel spectrogram of one clip as the feature store keeps it, Half[Tensor, "frame mel"].

    A clip shorter than ``min_frames`` frames is repeated end to end until it fills them.
    """
    return stored_mels([samples], spec, min_frames=min_frames)[0]


def stored_mels(
    clips: Sequence[NDArray[np.int16]], spec: MelSpec, *, min_frames: int, device: str = "cpu"
) -> list[Tensor]:
    """Return those of several clips, computed together on ``device``, each Half[Tensor, "frame mel"]."""
    least = spec.hop_samples * (min_frames - 1)
    sizes = [max(len(samples), least) for samples in clips]
    rows = np.zeros((len(clips), max(sizes)), np.int16)  # what follows a clip is silent, as its padding is
    for row, samples, size in zip(rows, clips, sizes, strict=True):
        row[:size] = samples if len(samples) == size else np.resize(samples, size)
    waves = torch.from_numpy(rows).to(device).float().mul_(1 / FULL_SCALE)
    mels = log_mels(waves, spec).half().cpu()
    return [mel[: spec.frames(size)] for mel, size in zip(mels, sizes, strict=True)]


def windows_at(frames: Tensor, starts: NDArray[np.int64], length: int) -> Tensor:
    """Return the windows of ``length`` frames that begin at ``starts``, Half[Tensor, "row frame mel"]."""
    rows = (starts[:, None] + np.arange(length)).reshape(-1)
    return frames.index_select(0, torch.from_numpy(rows)).view(len(starts), length, frames.shape[1])


def crop_samples(spec: MelSpec, frames: int) -> int:
    """Return the number of samples that the ``frames`` frames of a window are computed from."""
    return spec.n_fft + spec.hop_samples * (frames - 1)


def first_sample(frame: FrameT, spec: MelSpec) -> FrameT:
    """Return the first sample of the crop of a window that begins at ``frame``; frames are centered."""
    return spec.hop_samples * frame - spec.n_fft // 2


def feature_starts(frames: NDArray[np.int64], input_spec: InputSpec, spec: MelSpec) -> NDArray[np.int64]:
    """Return the first frames, in a further spectrogram, of windows that begin at ``frames`` of ``mel``."""
    return frames * input_spec.mel.hop_samples // spec.hop_samples


def repeated(samples: NDArray[np.int16], input_spec: InputSpec) -> NDArray[np.int16]:
    """Return the samples of a clip, repeated end to end where it is shorter than a window."""
    least = input_spec.mel.hop_samples * (input_spec.min_frames - 1)
    return samples if len(samples) >= least else np.resize(samples, least)


def crops(
    clips: Sequence[NDArray[np.int16]],
    starts: Sequence[int] | NDArray[np.int64],
    spec: MelSpec,
    *,
    frames: int,
) -> Tensor:
    """Return the samples of the ``frames`` frames from a start of each clip, Float[Tensor, "row sample"]."""
    length = crop_samples(spec, frames)
    rows = np.zeros((len(starts), length), np.float32)
    for row, samples, start in zip(rows, clips, starts, strict=True):
        first = first_sample(int(start), spec)
        part = samples[max(first, 0) : first + length]
        place = max(-first, 0)
        row[place : place + len(part)] = part
    return torch.from_numpy(rows).mul_(1 / FULL_SCALE)


def regrouped(batch: ClipBatch, rows_of_clip: Sequence[int]) -> ClipBatch:
    """Return the batch with its rows, in order, belonging to clips of the given numbers of rows."""
    clip = torch.repeat_interleave(torch.arange(len(rows_of_clip)), torch.tensor(rows_of_clip))
    return replace(batch, clip=clip, n_clips=len(rows_of_clip))


class MostFrames(Protocol):
    """Says how many frames the next batch may have; `asdbench.data.batch_frames.BatchFrames` does."""

    @property
    def frames(self) -> int:
        """The number of frames in all windows of a batch."""


def grouped(
    rows: Sequence[int],
    frames: Sequence[int],
    tokens: Sequence[int] | None = None,
    *,
    most: MostFrames | None = None,
) -> Iterator[slice]:
    """Yield neighboring clips that are scored together: about ``SCORING_FRAMES`` frames in their windows.

    Windows of different lengths share no batch, nor do clips with other numbers of an encoder's tokens.

    Parameters
    ----------
    rows : number of windows of each clip
    frames : length of the windows of each clip, in frames
    tokens : an encoder's tokens in the time of each clip, if embeddings are read
    most : asked before each batch for the number of frames, if not ``SCORING_FRAMES``

    Examples
    --------
    >>> list(grouped([40, 40, 20], [256, 256, 256]))
    [slice(0, 1, None), slice(1, 3, None)]
    >>> list(grouped([1, 1, 1], [313, 313, 157]))  # whole clips
    [slice(0, 2, None), slice(2, 3, None)]
    """
    start, total, limit = 0, 0, most.frames if most else SCORING_FRAMES
    kinds = list(zip(frames, tokens or [0] * len(frames), strict=True))
    for clip, (count, length) in enumerate(zip(rows, frames, strict=True)):
        if clip > start and (kinds[clip] != kinds[start] or (total + count) * length > limit):
            yield slice(start, clip)
            start, total, limit = clip, 0, most.frames if most else SCORING_FRAMES
        total += count
    if rows:
        yield slice(start, len(rows))


def scoring_batches(
    clips: Sequence[NDArray[np.int16]],
    input_spec: InputSpec,
    standardization: Standardization | None,
    *,
    section: int,
    machine: int = 0,
    encode: Encode | None = None,
    far: Sequence[NDArray[np.int16]] | None = None,
    feature_standardizations: Mapping[str, Standardization] | None = None,
) -> Iterator[ClipBatch]:
    """Yield all windows of clips that are not in a store, as `JobData.scoring_batches` does of stored ones.

    Parameters
    ----------
    clips : samples of each clip, at least one, 16 kHz
    input_spec : input that the system reads
    standardization : statistics of the mel bins, if the system takes z-scores
    section : index of the clips' section in `TrainingFacts.sections`, or ``UNKNOWN``
    machine : index of the clips' machine type, see `ClipBatch.machine`
    encode : the encoder whose embeddings the system reads: from the samples of a clip, and those of its far
        microphone if there is one, to its tokens, Half[Tensor, "time band dim"]
    far : samples of the far microphone of each clip
    feature_standardizations : statistics of the further spectrograms, if the system takes z-scores
    """
    frames = [max(input_spec.mel.frames(len(samples)), input_spec.min_frames) for samples in clips]
    lengths = [input_spec.window_frames or of_clip for of_clip in frames]
    starts = [
        window_starts(of_clip, length, input_spec.window_hop_frames)
        for of_clip, length in zip(frames, lengths, strict=True)
    ]
    encoded = None
    if encode is not None:
        encoded = [encode(clip, None if far is None else far[place]) for place, clip in enumerate(clips)]
    times = None if encoded is None else [len(tokens) for tokens in encoded]
    for group in grouped([len(of_clip) for of_clip in starts], lengths, times):
        length = lengths[group.start]
        batch = _scoring_batch(clips[group], starts[group], length, input_spec, standardization, section)
        tokens = None if encoded is None else torch.stack(encoded[group]).float()
        features = _features(clips[group], starts[group], length, input_spec, feature_standardizations or {})
        second = None
        if input_spec.second_channel:
            assert far is not None
            second = _crops_of(far[group], starts[group], length, input_spec)
        yield replace(
            batch,
            machine=torch.full_like(batch.machine, machine),
            encoded=tokens,
            features=features,
            second_waveform=second,
        )


def _scoring_batch(
    clips: Sequence[NDArray[np.int16]],
    starts: Sequence[NDArray[np.int64]],
    length: int,
    input_spec: InputSpec,
    standardization: Standardization | None,
    section: int,
) -> ClipBatch:
    mel, least = input_spec.mel, input_spec.min_frames
    windows = torch.cat(
        [
            windows_at(stored_mel(samples, mel, min_frames=least), of_clip, length)
            for samples, of_clip in zip(clips, starts, strict=True)
        ]
    ).float()
    waveform = _crops_of(clips, starts, length, input_spec) if input_spec.waveform else None
    batch = ClipBatch(
        windows=standardization.apply_(windows) if standardization else windows,
        clip=torch.empty(0),
        n_clips=0,
        machine=torch.zeros(len(windows), dtype=torch.long),
        section=torch.full((len(windows),), section),
        waveform=waveform,
    )
    return regrouped(batch, [len(of_clip) for of_clip in starts])


def _crops_of(
    clips: Sequence[NDArray[np.int16]],
    starts: Sequence[NDArray[np.int64]],
    length: int,
    input_spec: InputSpec,
) -> Tensor:
    """Return the samples of all windows of clips, Float[Tensor, "row sample"]."""
    owners = [repeated(samples, input_spec) for samples in clips]
    of_rows = [owner for owner, of_clip in zip(owners, starts, strict=True) for _ in of_clip]
    return crops(of_rows, np.concatenate(starts), input_spec.mel, frames=length)


def _features(
    clips: Sequence[NDArray[np.int16]],
    starts: Sequence[NDArray[np.int64]],
    length: int,
    input_spec: InputSpec,
    standardizations: Mapping[str, Standardization],
) -> dict[str, Tensor]:
    """Return the further spectrograms of all windows of clips, Float[Tensor, "row frame mel"] by name."""
    features = {}
    for name, spec in input_spec.features.items():
        least, n_frames = (input_spec.frames_of(spec, n) for n in (input_spec.min_frames, length))
        rows = [
            windows_at(
                stored_mel(samples, spec, min_frames=least),
                feature_starts(of_clip, input_spec, spec),
                n_frames,
            )
            for samples, of_clip in zip(clips, starts, strict=True)
        ]
        windows = torch.cat(rows).float()
        features[name] = standardizations[name].apply_(windows) if name in standardizations else windows
    return features
