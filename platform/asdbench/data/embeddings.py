"""Embeddings of clips by frozen pretrained encoders, stored as float16 next to the features.

An encoder reads whole clips of 16 kHz, a few of equal length at a time, and gives a grid of tokens for each:
(time, band, dim). The file of a machine type has one row per time, with the tokens of all bands. It is named
by a hash of the clips' content, the encoder's specification, the digest of its weights and the code that
computes them, so that jobs, seeds, back ends and searches share it, and other weights under the same id or a
corrected encoder give another file. A clip shorter
than a second is repeated end to end until it lasts one.

The encoder is loaded once per process and let go when another one is needed. Clips are encoded in batches by
all threads of torch, or on the GPU that the process has; what is stored is written where it belongs at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench import registry
from asdbench.data.audio import ChannelPolicy, read_clip
from asdbench.data.feature_store import (
    WAVEFORM_CODE,
    Layout,
    Progress,
    Shard,
    by_length,
    check_unchanged,
    clips_of,
    content_path,
    in_halves,
    kept_samples,
    rebuilding,
    stored,
    stored_rows,
    waveforms,
)
from asdbench.data.sets.catalog import DataSet
from asdbench.errors import InputError
from asdbench.features.waveform import normalize_level, subtract_far_microphone
from asdbench.io.workspace import Workspace
from asdbench.nn import encoders
from asdbench.nn.encoders import Encoder, band_of_tokens
from asdbench.spec import SAMPLE_RATE_HZ, EncoderSpec
from asdbench.weights import store as weights
from asdbench.weights.records import named

_LEAST_SAMPLES = SAMPLE_RATE_HZ
_BATCH_SAMPLES = 40 * SAMPLE_RATE_HZ  # of the clips that are encoded together on a CPU
_GPU_BATCH_SAMPLES = 640 * SAMPLE_RATE_HZ
_FULL_SCALE = 32768
_MOST_BANDS = 8  # where the record of the weights does not say

Samples = NDArray[np.int16]


class ClipEncoder:
    """A frozen encoder with its weights, as the store and detectors use it.

    Parameters
    ----------
    network : the encoder
    spec : layer, level and microphones
    device : where it runs
    """

    def __init__(self, network: Encoder, spec: EncoderSpec, device: str = "cpu") -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.spec, self.device = spec, device
        self.layer = spec.counted_layer(network.depth)

    def grid(self, samples: int) -> tuple[int, int, int]:
        """Return the numbers of times and bands of a clip, and the width of a token."""
        grid = self.network.grid(max(samples, _LEAST_SAMPLES))
        return grid.time, grid.frequency, self.network.dim

    @torch.inference_mode()
    def encode(self, clips: Sequence[Samples], far: Sequence[Samples] = ()) -> Tensor:
        """Return the tokens of clips of equal length, Half[Tensor, "clip time band dim"].

        Parameters
        ----------
        clips : samples of each clip, 16 kHz
        far : the same of the far microphone, if the specification subtracts it
        """
        waveform = self._waveform(clips)
        if self.spec.far_microphone == "subtract":
            waveform = subtract_far_microphone(waveform, self._waveform(far))
        if self.spec.normalize_level:
            waveform = normalize_level(waveform)
        tokens: Tensor = self.network(waveform, [self.layer])[0]
        return band_of_tokens(tokens.half().cpu(), self.network.grid(waveform.shape[1]))

    def encode_clip(self, clip: Samples, far: Samples | None = None) -> Tensor:
        """Return the tokens of one clip, Half[Tensor, "time band dim"]; see `encode`."""
        return self.encode([clip], [] if far is None else [far])[0]

    def _waveform(self, clips: Sequence[Samples]) -> Tensor:
        rows = [np.resize(clip, max(len(clip), _LEAST_SAMPLES)) for clip in clips]
        return torch.from_numpy(np.stack(rows)).to(self.device).float().div_(_FULL_SCALE)


def clip_encoder(workspace: Workspace, spec: EncoderSpec, *, device: str = "cpu") -> ClipEncoder:
    """Return an encoder with its weights from the data home, which are read once per process.

    Raises
    ------
    InputError
        The weights are unknown, missing or damaged; the message says how to get them.
    """
    return _clip_encoder(workspace.home, spec, weights.digest(spec.id, workspace), device)


@lru_cache(maxsize=1)  # the next one takes the memory of the last one
def _clip_encoder(home: Path, spec: EncoderSpec, digest: str, device: str) -> ClipEncoder:
    tensors = weights.load(spec.id, Workspace.from_home(home))
    return ClipEncoder(encoders.load(spec.id, tensors), spec, device)


def code() -> str:
    """Return what stands for the code that computes embeddings; results of stored ones depend on it."""
    return registry.platform_hash(__name__)


def embeddings_path(data: DataSet, machine_type: str, spec: EncoderSpec) -> Path:
    """Return where the embeddings of a machine type are or will be stored.

    Raises :class:`InputError` if the encoder has no such layer, or if nobody knows the digest of the weights:
    they have never been in this home.
    """
    clips = clips_of(data, machine_type)
    described = {
        "code": code(),
        "clips": [clips["clip_id"].to_list(), clips["content_hash"].to_list()],
        "channels": data.channels,
        "samples": registry.platform_hash(*WAVEFORM_CODE),
        "encoder": asdict(replace(spec, layer=spec.counted_layer(named(spec.id).grid.layers))),
        "weights": weights.digest(spec.id, data.workspace),
    }
    return content_path(data, "encoded", machine_type, described)


def bytes_to_build(data: DataSet, machine_type: str, spec: EncoderSpec) -> int:
    """Return about how many bytes of disk the embeddings of a machine type take."""
    grid = named(spec.id).grid
    times = kept_samples(clips_of(data, machine_type), data.channels) / (SAMPLE_RATE_HZ * grid.hop_ms / 1e3)
    return int(np.maximum(times, 1).sum()) * (grid.bands or _MOST_BANDS) * grid.dim * 2


def embeddings(
    data: DataSet,
    machine_type: str,
    spec: EncoderSpec,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Shard:
    """Return the stored embeddings of a machine type; compute them if necessary.

    Raises
    ------
    InputError
        The weights are missing; a recording has vanished or changed since the data set was indexed; a far
        microphone is to be subtracted and there is none.
    """
    path = embeddings_path(data, machine_type, spec)
    was_there = path.exists()
    if (existing := stored(path, thorough=True)) is not None:
        return existing
    with rebuilding(path, was_there):
        read = _reader(data, machine_type, spec)
    clips = clips_of(data, machine_type)
    samples = kept_samples(clips, data.channels)
    encoder = clip_encoder(data.workspace, spec, device=device)
    times, bands, dim = _grids(encoder, samples)
    layout = Layout.from_lengths(clips["clip_id"].to_numpy(), times)
    with stored_rows(path, layout, (bands * dim,), np.float16, bands=bands) as rows:
        most = _BATCH_SAMPLES if device == "cpu" else _GPU_BATCH_SAMPLES
        for chosen in by_length(samples, most, equal=True):
            tokens = in_halves(lambda some: [*encoder.encode(*read(some)).flatten(2).numpy()], chosen)
            for row, values in zip(chosen, tokens, strict=True):
                rows[layout.starts[row] : layout.starts[row + 1]] = values
                if progress is not None:
                    progress(1)
    return Shard(path)


def _grids(encoder: ClipEncoder, samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], int, int]:
    """Return the number of times of clips of these lengths, the number of bands, and the width of a token."""
    shapes = {length: encoder.grid(length) for length in np.unique(samples).tolist()}
    _, bands, dim = next(iter(shapes.values()))
    return np.array([shapes[length][0] for length in samples.tolist()], np.int64), bands, dim


def _reader(
    data: DataSet, machine_type: str, spec: EncoderSpec
) -> Callable[[Sequence[int]], tuple[list[Samples], list[Samples]]]:
    """Return what reads the near and, if it is needed, the far microphone of clips, given by their rows."""
    clips = clips_of(data, machine_type)
    check_unchanged(data, clips)
    if spec.far_microphone == "ignore":
        shard = waveforms(data, machine_type)
        return lambda rows: ([shard.clip(clips["clip_id"][row]) for row in rows], [])
    check_stereo(data, machine_type)

    def read(rows: Sequence[int], policy: ChannelPolicy) -> list[Samples]:
        return [read_clip(data.root / clips["path"][row], channels=policy) for row in rows]

    return lambda rows: (read(rows, "near"), read(rows, "far"))


def check_stereo(data: DataSet, machine_type: str) -> None:
    """Raise :class:`InputError` unless all clips of a machine type have a near and a far microphone."""
    fewest = int(clips_of(data, machine_type)["channels"].to_numpy().min())
    cure = "leave far_microphone at 'ignore'"
    if fewest < 2:
        raise InputError(
            f"recordings of {machine_type} in data set {data.name!r} have {fewest} channel, and no far "
            f"microphone to subtract; {cure}"
        )
    if data.channels != "near":
        raise InputError(
            f"data set {data.name!r} keeps the channel {data.channels!r} of its recordings, and the far "
            f"microphone is subtracted from the near one; register it again with --channels near, or {cure}"
        )
