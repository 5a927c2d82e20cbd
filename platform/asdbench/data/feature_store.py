"""The Arrow store: 16-bit waveforms and float16 log-mel spectrograms as memory-mapped Arrow IPC files.

One file holds the clips of one machine type: a single record batch, so that all its clips are one contiguous
array of samples or frames, with the clip ids and the first row of each clip in the schema's metadata. A file
is named by a hash of all that its content depends on (the clips' content, channel policy, feature parameters,
the code that makes it), is written under a temporary name and never changed. A file that something else has
changed or cut short, as its digest shows (see `digests`), is removed and built again. A changed recording
rebuilds the files of its machine type and no others.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from asdbench import registry
from asdbench.data import digests
from asdbench.data.audio import ChannelPolicy, kept_channels, read_clip
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.errors import InfrastructureError, InputError
from asdbench.io.files import replacing
from asdbench.spec import SAMPLE_RATE_HZ, EncoderSpec, MelSpec

WAVEFORM_CODE = ("asdbench.data.audio", "asdbench.data.feature_store")  # makes the files of waveforms
_MEL_CODE = ("asdbench.data.clip_windows",)  # makes spectrograms of them

_GPU_BATCH_SAMPLES = 2**24  # 17 minutes: about 1.5 GB with the spectra
_GPU_THREADS = 2  # one reads and writes while the other one's batch is computed
_GPU_S = 36_000  # 10 hours: about 4 s of four CPU cores, as long as a process takes to begin with a GPU

Progress = Callable[[int], None]
T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """The stored clips of one machine type.

    Attributes
    ----------
    path : the Arrow IPC file
    """

    path: Path

    @cached_property
    def _batch(self) -> Any:
        return pa.ipc.open_file(pa.memory_map(str(self.path))).get_batch(0)

    @cached_property
    def _layout(self) -> "Layout":
        metadata = self._batch.schema.metadata
        return Layout(
            np.frombuffer(metadata[b"clip_id"], np.int64), np.frombuffer(metadata[b"start"], np.int64)
        )

    @property
    def clip_ids(self) -> NDArray[np.int64]:
        """Ids of the clips, in the order of their rows; shape (clip,)."""
        return self._layout.clip_ids

    @property
    def starts(self) -> NDArray[np.int64]:
        """First row of each clip, and the number of rows at the end; shape (clip + 1,)."""
        return self._layout.starts

    @cached_property
    def rows(self) -> NDArray[Any]:
        """All rows, mapped, not read: int16 of shape (sample,) or float16 of shape (frame, mel)."""
        column = self._batch.column(0)
        if pa.types.is_fixed_size_list(column.type):
            return column.flatten().to_numpy(zero_copy_only=True).reshape(-1, column.type.list_size)  # type: ignore[no-any-return]
        return column.to_numpy(zero_copy_only=True)  # type: ignore[no-any-return]

    def span(self, clip_id: int) -> tuple[int, int]:
        """Return the first row of a clip and the row after its last."""
        return self._layout.span(clip_id)

    def clip(self, clip_id: int) -> NDArray[Any]:
        """Return the rows of one clip, mapped."""
        start, stop = self.span(clip_id)
        return self.rows[start:stop]

    def tokens(self, clip_id: int) -> NDArray[np.float16]:
        """Return the tokens of one clip, mapped, shape (time, band, dim), in a file of embeddings."""
        rows = self.clip(clip_id)
        return rows.reshape(len(rows), int(self._batch.schema.metadata.get(b"bands", b"1")), -1)


def stored(path: Path, *, thorough: bool = False) -> Shard | None:
    """Return the clips in ``path``; ``None`` if it is not there or damaged.

    A damaged file is removed. With ``thorough``, the content is read and compared with its digest, once per
    process; otherwise only if size or modification time have changed.
    """
    shard = Shard(path)
    try:
        if not path.exists():
            return None
        if len(shard.rows) == shard.starts[-1] and digests.is_unchanged(path, thorough=thorough):
            return shard
    except FileNotFoundError:  # another process has removed it
        return None
    except (OSError, ValueError, TypeError, LookupError, pa.ArrowException):  # cut short, or of other content
        pass
    _remove_damaged(path)
    return None


def _remove_damaged(path: Path) -> None:
    logger.warning("the features in %s are damaged; they are built again", path)
    with contextlib.suppress(OSError):  # building them says what is wrong
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@dataclass(frozen=True)
class Layout:
    """Where the clips of a machine type lie among the rows of a file.

    Attributes
    ----------
    clip_ids : ids of the clips, in the order of their rows; shape (clip,)
    starts : first row of each clip, and the number of rows at the end; shape (clip + 1,)
    """

    clip_ids: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def from_lengths(cls, clip_ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> "Layout":
        """Return the layout of clips with these numbers of rows, one after another."""
        return cls(clip_ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    @cached_property
    def _position(self) -> dict[int, int]:
        return {int(clip_id): position for position, clip_id in enumerate(self.clip_ids)}

    def span(self, clip_id: int) -> tuple[int, int]:
        """Return the first row of a clip and the row after its last."""
        position = self._position[clip_id]
        return int(self.starts[position]), int(self.starts[position + 1])


def mel_layout(data: DataSet, machine_type: str, spec: MelSpec, *, min_frames: int) -> Layout:
    """Return where the clips of a machine type lie among its spectrograms' frames, built or not."""
    clips = clips_of(data, machine_type)
    frames = 1 + kept_samples(clips, data.channels) // spec.hop_samples
    return Layout.from_lengths(clips["clip_id"].to_numpy(), np.maximum(frames, min_frames))


def waveform_path(data: DataSet, machine_type: str) -> Path:
    """Return where the waveforms of a machine type are or will be stored."""
    clips = clips_of(data, machine_type)
    described = {
        "code": registry.platform_hash(*WAVEFORM_CODE),
        "clips": [clips["clip_id"].to_list(), clips["content_hash"].to_list()],
        "channels": data.channels,
        "sample_rate_hz": SAMPLE_RATE_HZ,
    }
    return content_path(data, "waveform", machine_type, described)


def mel_path(data: DataSet, machine_type: str, spec: MelSpec, *, min_frames: int) -> Path:
    """Return where the log-mel spectrograms of a machine type are or will be stored."""
    frames = 1 + kept_samples(clips_of(data, machine_type), data.channels) // spec.hop_samples
    described = {
        "code": registry.platform_hash(*_MEL_CODE),
        "waveform": waveform_path(data, machine_type).name,
        "mel": dataclasses.asdict(spec),
        "min_frames": min_frames if frames.min() < min_frames else 0,  # one file for all that repeat no clip
    }
    return content_path(data, "mel", machine_type, described)


def waveforms(
    data: DataSet, machine_type: str, *, workers: int | None = None, progress: Progress | None = None
) -> Shard:
    """Return the stored waveforms of a machine type, int16, 16 kHz; build them if necessary.

    Raises :class:`InputError` if a recording has vanished or changed since the data set was indexed.
    """
    path = waveform_path(data, machine_type)
    was_there = path.exists()
    if (existing := stored(path, thorough=True)) is not None:
        return existing
    clips = clips_of(data, machine_type)
    with rebuilding(path, was_there):
        check_unchanged(data, clips)
    lengths = kept_samples(clips, data.channels)

    def read(chosen: Sequence[int]) -> Sequence[NDArray[np.int16]]:
        names = [data.root / clips["path"][row] for row in chosen]
        return [read_clip(name, sample_rate_hz=SAMPLE_RATE_HZ, channels=data.channels) for name in names]

    batches, workers = [[row] for row in range(len(lengths))], workers or os.cpu_count() or 1
    _build(path, clips["clip_id"].to_numpy(), lengths, (), np.int16, read, batches, workers, progress)
    return Shard(path)


def mels(
    data: DataSet,
    machine_type: str,
    spec: MelSpec,
    *,
    min_frames: int,
    device: str = "cpu",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Shard:
    """Return the stored log-mel spectrograms of a machine type, float16 dB; build them if necessary.

    A clip shorter than ``min_frames`` frames is repeated end to end until it fills them. On a GPU, many clips
    are computed at a time. Its values differ from those of a CPU by float32 rounding: a stored value is most
    often the same or the next one of float16, and may differ by more far below a frame's strongest frequency.
    The file has the same name whichever device has built it.
    """
    path = mel_path(data, machine_type, spec, min_frames=min_frames)
    was_there = path.exists()
    if (existing := stored(path, thorough=True)) is not None:
        return existing
    from asdbench.data.clip_windows import stored_mels

    with rebuilding(path, was_there):
        source = waveforms(data, machine_type, workers=workers)
    lengths = np.maximum(1 + np.diff(source.starts) // spec.hop_samples, min_frames)

    def compute(chosen: Sequence[int]) -> Sequence[NDArray[np.float16]]:
        clips = [source.rows[source.starts[row] : source.starts[row + 1]] for row in chosen]
        mels = stored_mels(clips, spec, min_frames=min_frames, device=device)
        return [mel.numpy() for mel in mels]

    if device == "cpu":
        batches, workers = [[row] for row in range(len(lengths))], workers or os.cpu_count() or 1
    else:
        batches, workers = [*by_length(np.diff(source.starts), _GPU_BATCH_SAMPLES, equal=False)], _GPU_THREADS
    _build(path, source.clip_ids, lengths, (spec.n_mels,), np.float16, compute, batches, workers, progress)
    return Shard(path)


@dataclass(frozen=True)
class FeatureSpec:
    """The features of a machine type that some jobs read; plain data that travels.

    Attributes
    ----------
    data, machine_type : names of the data set and of the machine type
    mel : of the spectrograms
    min_frames : of a spectrogram; a shorter clip is repeated
    waveform : whether the jobs read waveforms, too
    encoder : of the embeddings that the jobs read, too
    weights : ids of pretrained weights that the jobs read themselves
    second_channel : whether they read those of the far microphone, too
    """

    data: str
    machine_type: str
    mel: MelSpec
    min_frames: int
    waveform: bool = False
    encoder: EncoderSpec | None = None
    weights: tuple[str, ...] = ()
    second_channel: bool = False


def _far(data: DataSet) -> DataSet:
    return dataclasses.replace(data, channels="far")


def paths(data: DataSet, spec: FeatureSpec) -> list[Path]:
    """Return the Arrow files of some features, existing or not."""
    from asdbench.data.embeddings import embeddings_path

    files = [mel_path(data, spec.machine_type, spec.mel, min_frames=spec.min_frames)]
    if spec.waveform:
        files.append(waveform_path(data, spec.machine_type))
    if spec.second_channel:
        files.append(waveform_path(_far(data), spec.machine_type))
    if spec.encoder is not None:
        files.append(embeddings_path(data, spec.machine_type, spec.encoder))
    return files


def key_of(data: DataSet, spec: FeatureSpec) -> str:
    """Return what names some features: it differs where their content would."""
    return " ".join([*(path.name for path in paths(data, spec)), *spec.weights])


def is_built(data: DataSet, spec: FeatureSpec) -> bool:
    """Return whether all files of some features are stored, whole."""
    return all(stored(path) is not None for path in paths(data, spec))


def build(
    data: DataSet,
    spec: FeatureSpec,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Build features unless they are stored; ``progress`` is called with the clips done, and all of them.

    Spectrograms and embeddings are computed on ``device``.

    Raises
    ------
    InputError
        A recording has vanished or changed since the data set was indexed.
    InfrastructureError
        The disk is full.
    """
    n_passes = 2 + (spec.encoder is not None) + spec.second_channel
    total = clips_of(data, spec.machine_type).height * n_passes
    done = itertools.count(1)

    def advance(_: int) -> None:
        if progress is not None:
            progress(next(done), total)

    waveforms(data, spec.machine_type, progress=advance)
    if spec.second_channel:
        waveforms(_far(data), spec.machine_type, progress=advance)
    mels(data, spec.machine_type, spec.mel, min_frames=spec.min_frames, device=device, progress=advance)
    if spec.encoder is not None:
        from asdbench.data.embeddings import embeddings

        embeddings(data, spec.machine_type, spec.encoder, device=device, progress=advance)
    if progress is not None:
        progress(total, total)


def gains_from_gpu(data: DataSet, spec: FeatureSpec) -> bool:
    """Return whether a GPU builds features sooner: an encoder's, or spectrograms of many hours.

    Those of fewer hours are built before a process has begun to use a GPU.
    """
    seconds = kept_samples(clips_of(data, spec.machine_type), data.channels).sum() / SAMPLE_RATE_HZ
    return spec.encoder is not None or bool(seconds > _GPU_S)


def bytes_to_build(data: DataSet, specs: Iterable[FeatureSpec]) -> int:
    """Return the bytes of disk that building the missing ones of ``specs`` will take."""
    sizes: dict[Path, int] = {}
    for spec in specs:
        samples = kept_samples(clips_of(data, spec.machine_type), data.channels)
        frames = np.maximum(1 + samples // spec.mel.hop_samples, spec.min_frames)
        mel = mel_path(data, spec.machine_type, spec.mel, min_frames=spec.min_frames)
        sizes[mel] = int(frames.sum()) * spec.mel.n_mels * 2
        sizes[waveform_path(data, spec.machine_type)] = int(samples.sum()) * 2
        if spec.encoder is not None:
            from asdbench.data import embeddings

            path = embeddings.embeddings_path(data, spec.machine_type, spec.encoder)
            sizes[path] = embeddings.bytes_to_build(data, spec.machine_type, spec.encoder)
        if spec.second_channel:
            sizes[waveform_path(_far(data), spec.machine_type)] = int(samples.sum()) * 2
    return sum(n_bytes for path, n_bytes in sizes.items() if stored(path) is None)


@contextmanager
def rebuilding(path: Path, is_damaged: bool) -> Iterator[None]:
    """Let a damaged copy whose recordings are on another node be a fault of this one: it is copied again."""
    try:
        yield
    except InputError as error:
        if not is_damaged:
            raise
        raise InfrastructureError(
            f"the features in {str(path)!r} were damaged and are removed, and cannot be built here ({error})"
            f"; run the same command again"
        ) from error


def clips_of(data: DataSet, machine_type: str) -> pl.DataFrame:
    """Return the rows of a machine type's clips, in the order in which files hold them."""
    return data.clips.filter(pl.col("machine_type") == machine_type).sort("clip_id")


def kept_samples(clips: pl.DataFrame, policy: ChannelPolicy) -> NDArray[np.int64]:
    """Samples of each clip's kept channels after resampling, as soxr counts them: rounded to the nearest."""
    samples = clips["samples"].to_numpy()
    rate = clips["sample_rate_hz"].to_numpy()
    kept = np.array([kept_channels(channels, policy) for channels in clips["channels"]], np.int64)
    return kept * ((samples * SAMPLE_RATE_HZ + rate // 2) // rate)  # type: ignore[no-any-return]


def content_path(data: DataSet, kind: str, machine_type: str, described: Any) -> Path:
    """Return the path of a file that depends on ``described``."""
    digest = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=12).hexdigest()
    return data.workspace.home / "store" / f"{machine_type}-{kind}-{digest}.arrow"


def check_unchanged(data: DataSet, clips: pl.DataFrame) -> None:
    """Raise :class:`InputError` if recordings of ``clips`` changed or vanished since they were indexed."""
    changed = catalog.changed_files(dataclasses.replace(data, clips=clips))
    if changed:
        raise InputError(
            f"{len(changed)} recordings of data set {data.name!r} changed or vanished since they were "
            f"indexed (the first: {changed[0]}); run {data.add_command!r} to index them again"
        )


def _build(
    path: Path,
    clip_ids: NDArray[np.int64],
    lengths: NDArray[np.int64],
    inner: tuple[int, ...],
    dtype: Any,
    content: Callable[[Sequence[int]], Sequence[NDArray[Any]]],
    batches: Sequence[Sequence[int]],
    workers: int,
    progress: Progress | None,
) -> None:
    """Build a file batch by batch of clips, in parallel."""
    layout = Layout.from_lengths(clip_ids, lengths)
    with stored_rows(path, layout, inner, dtype) as rows:

        def fill(batch: int) -> None:
            contents = in_halves(content, batches[batch])
            for row, values in zip(batches[batch], contents, strict=True):
                if len(values) != lengths[row]:
                    raise InputError(
                        f"clip {row} of {path.name} has {len(values)} rows where {lengths[row]} were expected"
                    )
                rows[layout.starts[row] : layout.starts[row + 1]] = values
                if progress is not None:
                    progress(1)

        _in_threads(fill, len(batches), workers)


def by_length(samples: NDArray[np.int64], most_samples: int, *, equal: bool) -> Iterator[list[int]]:
    """Yield clips that are computed together, of so many samples with their padding, or a single one.

    Examples
    --------
    >>> list(by_length(np.array([10, 20, 10, 10]), most_samples=50, equal=True))
    [[0, 2, 3], [1]]
    >>> list(by_length(np.array([10, 20, 10, 10]), most_samples=60, equal=False))
    [[0, 2, 3], [1]]
    >>> list(by_length(np.array([10, 20, 10, 10]), most_samples=80, equal=False))
    [[0, 2, 3, 1]]
    """
    rows: list[int] = []
    for row in np.argsort(samples, kind="stable").tolist():
        is_too_much = (len(rows) + 1) * samples[row] > most_samples
        if rows and (is_too_much or (equal and samples[row] != samples[rows[0]])):
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def in_halves(content: Callable[[Sequence[int]], Sequence[T]], rows: Sequence[int]) -> list[T]:
    """Return the content of clips; where a GPU's memory runs out, that of one half after the other."""
    import torch

    try:
        return list(content(rows))
    except torch.OutOfMemoryError:
        if len(rows) == 1:
            raise
    middle = len(rows) // 2
    return in_halves(content, rows[:middle]) + in_halves(content, rows[middle:])


@contextmanager
def stored_rows(
    path: Path, layout: Layout, inner: tuple[int, ...], dtype: Any, *, bands: int = 1
) -> Iterator[NDArray[Any]]:
    """Give a mapped scratch file to fill, then write it as one Arrow record batch.

    Parameters
    ----------
    path : of the Arrow file
    layout : where clips lie among the rows
    inner : shape of a row: none, or one axis
    dtype : int16 or float16
    bands : number of frequency bands whose tokens a row holds, see :meth:`Shard.tokens`
    """
    with _scratch(path, (int(layout.starts[-1]), *inner), dtype) as rows:
        yield rows
        flat = pa.Array.from_buffers(
            pa.int16() if dtype is np.int16 else pa.float16(), rows.size, [None, pa.py_buffer(rows)]
        )
        column = pa.FixedSizeListArray.from_arrays(flat, inner[0]) if inner else flat
        metadata = {"clip_id": layout.clip_ids.astype(np.int64).tobytes(), "start": layout.starts.tobytes()}
        if bands > 1:
            metadata["bands"] = str(bands).encode()
        schema = pa.schema([pa.field("rows", column.type)], metadata=metadata)
        try:
            with replacing(path) as temporary:
                with pa.ipc.new_file(str(temporary), schema) as writer:
                    writer.write_batch(pa.record_batch([column], schema=schema))
                digests.write_note(path, temporary.stat(), digests.digest_of(temporary))
        except OSError as error:
            raise _no_room(path, error) from error


@contextmanager
def _scratch(path: Path, shape: tuple[int, ...], dtype: Any) -> Iterator[NDArray[Any]]:
    scratch = path.with_name(f".{path.name}.{os.getpid()}.rows")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with scratch.open("wb") as file:  # a full disk would end the process where a map is written to
                os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        except OSError as error:
            raise _no_room(path, error) from error
        yield np.memmap(scratch, dtype=dtype, mode="r+", shape=shape)
    finally:
        scratch.unlink(missing_ok=True)


def _no_room(path: Path, error: OSError) -> InfrastructureError:
    return InfrastructureError(
        f"cannot build {path.name!r} in {str(path.parent)!r} ({error.strerror or error}); make room, or set "
        f"ASDBENCH_HOME to another disk"
    )


def _in_threads(work: Callable[[int], None], count: int, workers: int) -> None:
    """Run ``work`` on 0 .. count-1. Decoding and transforms run outside Python's lock, a thread each."""
    import torch

    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            futures = [pool.submit(work, item) for item in range(count)]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                for future in futures:
                    future.cancel()
            for future in futures:
                if not future.cancelled():
                    future.result()
    finally:
        torch.set_num_threads(before)  # the threads' setting holds for the whole process
