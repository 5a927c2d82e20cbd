"""Reading clips: every file is decoded to its end before it is trusted.

Conventions
-----------
A clip that the platform works on is 16-bit, mono and at one sample rate (16 kHz). A 16-bit mono file at that
rate comes through bit-exact; others are reduced to one channel by a named policy, resampled with soxr
(quality HQ), scaled to full scale = 32768, rounded to the nearest integer (ties to even) and clipped. The
``near`` and ``far`` policies keep the first and the last channel (near microphone left, far microphone
right); ``both`` keeps these two, the far channel after the near one, so that the clip becomes twice as long
and each microphone is trained on and scored; ``mean`` averages all channels.

Source
------
libsndfile (through soundfile) decodes to 32-bit floats, which hold samples of up to 24 bits exactly. The
content of a clip is these samples, its sample rate and its channels: neither bit depth nor file format count.
libsndfile shortens a cut WAV file silently, so the RIFF chunks are walked here and the length that the data
chunk promises is compared with the file's.

Known departures
----------------
A data chunk length of 0x7FFFF000 or more is what writers to a pipe leave behind: it promises nothing. Where
``both`` joins two channels, a window may span the joint.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from asdbench.data.digests import new_hash
from asdbench.data.fingerprint import SoundFingerprint
from asdbench.errors import InputError, unknown_name
from asdbench.spec import SAMPLE_RATE_HZ

ChannelPolicy = Literal["near", "far", "both", "mean"]
CHANNEL_POLICIES: tuple[ChannelPolicy, ...] = get_args(ChannelPolicy)

_FORMATS = ("WAV", "WAVEX", "RF64", "FLAC")
_BLOCK_FRAMES = 1 << 20
_FULL_SCALE = 32768.0
_HIGHEST = 32767 / _FULL_SCALE  # of 16 bits
_CONSTANT = 2 / _FULL_SCALE
_CLIPPED_SHARE = 1e-3
_OFFSET = 0.1
_UNKNOWN_LENGTH_BYTES = 0x7FFF_F000
SPECTRUM_BANDS = 16
_SPECTRUM_FRAME_S = 0.064
_SPECTRUM_HIGHEST_HZ = 8000
_SILENCE = 1e-9  # power of a bin, so that silence has a level
_RATES = "a whole number from 1000 to 1000000"  # Hz; at others, resampling takes all memory or crashes


class BadAudio(InputError):
    """A file that is not a whole, finite recording; ``reason`` says why without naming the file."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} is not a usable clip: {reason}")
        self.reason = reason


Fault = Literal["silent", "constant", "silent channel", "beyond full scale", "clipped", "offset"]


@dataclass(frozen=True)
class ClipAudio:
    """Facts of one audio file.

    Attributes
    ----------
    samples : number per channel
    sample_rate_hz, channels : of the file
    fault : what is suspicious about the samples, None if nothing (see :class:`SignalCheck`)
    content_hash : hash of the content (hex; see :class:`ContentHash`)
    size_bytes, mtime_ns : of the file
    spectrum : mean level of each of its bands, in dB (see :class:`MeanSpectrum`)
    fingerprint : words of its fingerprint, track by track (see `asdbench.data.fingerprint`)
    """

    samples: int
    sample_rate_hz: int
    channels: int
    fault: Fault | None
    content_hash: str
    size_bytes: int
    mtime_ns: int
    spectrum: Sequence[float]
    fingerprint: bytes


class ContentHash:
    """Hashes what a clip contains: BLAKE2b of sample rate, channels and decoded samples.

    Files that decode to the same samples have the same hash, whatever their format and bit depth.

    Examples
    --------
    >>> hashes = [ContentHash(16000, 1), ContentHash(16000, 1)]
    >>> hashes[0].add(np.zeros((200, 1), np.float32))
    >>> for _ in range(2):
    ...     hashes[1].add(np.zeros((100, 1), np.float32))
    >>> hashes[0].hexdigest() == hashes[1].hexdigest()
    True
    """

    def __init__(self, sample_rate_hz: int, channels: int) -> None:
        self._hash = new_hash(f"{sample_rate_hz} {channels}\n".encode())

    def add(self, block: npt.NDArray[np.float32]) -> None:
        """Take a block into account, Float32[ndarray, "sample channel"]."""
        without_negative_zero = np.ascontiguousarray(block + np.float32(0), "<f4")
        self._hash.update(without_negative_zero.data)

    def hexdigest(self) -> str:
        """Return the hash, hexadecimal."""
        return self._hash.hexdigest()


class SignalCheck:
    """Looks block by block for what is suspicious about the samples of a clip.

    A channel is constant if its samples stay within two steps of 16 bits, and silent if they stay at zero. A
    clip is clipped if one in a thousand of its samples is at full scale; float samples may be beyond it. It
    has an offset if the mean of a channel is more than a tenth of full scale.

    Examples
    --------
    >>> check = SignalCheck()
    >>> check.add(np.zeros((100, 1), np.float32))
    >>> check.fault()
    'silent'
    """

    def __init__(self) -> None:
        self._low = self._high = self._sum = np.zeros(0)
        self._n_samples = self._n_at_full_scale = 0

    def add(self, block: npt.NDArray[np.float32]) -> None:
        """Take a block into account, Float32[ndarray, "sample channel"], full scale 1."""
        low, high = block.min(axis=0), block.max(axis=0)
        total = block.sum(axis=0, dtype=np.float64)
        if self._n_samples:
            low, high = np.minimum(low, self._low), np.maximum(high, self._high)
            total = total + self._sum
        self._low, self._high, self._sum = low, high, total
        self._n_samples += len(block)
        if high.max() >= _HIGHEST or low.min() <= -1:  # rarely, so that counting costs nothing
            is_at_full_scale = (block >= _HIGHEST) | (block <= -1)
            self._n_at_full_scale += int(np.count_nonzero(is_at_full_scale))

    def fault(self) -> Fault | None:
        """Return what is suspicious, None if nothing is."""
        mean = self._sum / self._n_samples
        is_constant = self._high - self._low <= _CONSTANT
        if is_constant.all():
            return "silent" if np.abs(mean).max() <= _CONSTANT else "constant"
        if is_constant.any():
            return "silent channel"
        if self._n_at_full_scale >= _CLIPPED_SHARE * self._n_samples * len(mean):
            return "beyond full scale" if max(self._high.max(), -self._low.min()) > 1.01 else "clipped"
        return "offset" if np.abs(mean).max() > _OFFSET else None


class MeanSpectrum:
    """Averages the levels of 16 frequency bands over a clip, to tell which clips are alike.

    The bands have equal widths on a logarithmic scale up to 8 kHz or half the sample rate. The power of all
    channels is averaged in frames of about 64 ms; the levels in dB are averaged over frames.

    Examples
    --------
    >>> spectrum = MeanSpectrum(16000)
    >>> spectrum.add(np.full((16000, 1), 0.5, np.float32))
    >>> len(spectrum.levels_db())
    16
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self._frame = 2 ** max(6, round(np.log2(_SPECTRUM_FRAME_S * sample_rate_hz)))
        highest_bin = min(self._frame // 2, round(_SPECTRUM_HIGHEST_HZ / sample_rate_hz * self._frame))
        starts = np.geomspace(1, highest_bin + 1, SPECTRUM_BANDS + 1).round().astype(int)
        for band in range(1, len(starts)):  # low bands would share a bin otherwise
            starts[band] = max(starts[band], starts[band - 1] + 1)
        self._starts = starts
        self._sum = np.zeros(SPECTRUM_BANDS)
        self._n_frames = 0

    def add(self, wave: npt.NDArray[np.float32]) -> None:
        """Take a block (sample, channel), full scale 1, into account; a remainder of a frame is not."""
        if len(wave) < self._frame:
            wave = np.pad(wave, ((0, self._frame - len(wave)), (0, 0)))
        frames = wave[: len(wave) // self._frame * self._frame].reshape(-1, self._frame, wave.shape[1])
        window = np.hanning(self._frame).astype(np.float32)[None, :, None]
        power = (np.abs(np.fft.rfft(frames * window, axis=1)) ** 2).mean(axis=2)
        bands = np.add.reduceat(power, self._starts[:-1], axis=1, dtype=np.float64)
        bands[:, -1] = power[:, self._starts[-2] : self._starts[-1]].sum(axis=1)
        self._sum += (10 * np.log10(bands / np.diff(self._starts) + _SILENCE)).sum(axis=0)
        self._n_frames += len(frames)

    def levels_db(self) -> tuple[float, ...]:
        """Return the mean levels, rounded to 0.01 dB, so that all machines give the same."""
        return tuple(round(float(level), 2) for level in self._sum / self._n_frames)


def inspect_clip(path: Path) -> ClipAudio:
    """Decode a file to its end, block by block, and return its facts.

    Raises
    ------
    BadAudio
        Empty, without samples, truncated, damaged, NaN or infinite samples, a sample rate that
        :func:`check_rate` refuses, not WAV or FLAC, or unreadable.
    """
    with _opened(path) as (file, sound):
        rate_hz, samples = sound.samplerate, 0
        check, spectrum, fingerprint = SignalCheck(), MeanSpectrum(rate_hz), SoundFingerprint(rate_hz)
        content = ContentHash(rate_hz, sound.channels)
        for block in _blocks(path, sound):
            samples += len(block)
            for part in (content, check, spectrum, fingerprint):
                part.add(block)
        status = os.fstat(file.fileno())
        return ClipAudio(
            samples,
            rate_hz,
            sound.channels,
            check.fault(),
            content.hexdigest(),
            status.st_size,
            status.st_mtime_ns,
            spectrum.levels_db(),
            fingerprint.to_bytes(),
        )


def facts_or_reason(path: Path) -> ClipAudio | str:
    """Return what :func:`inspect_clip` finds, or why the file is bad (plain data, for a pool)."""
    try:
        return inspect_clip(path)
    except BadAudio as error:
        return error.reason


def read_clip(
    path: Path, *, sample_rate_hz: int = SAMPLE_RATE_HZ, channels: ChannelPolicy
) -> npt.NDArray[np.int16]:
    """Read a clip as 16-bit at ``sample_rate_hz``: an array (sample,), longer where two channels are kept.

    Raises
    ------
    InputError
        An unknown channel policy, or a file that is bad in a way that :func:`inspect_clip` names.
    """
    if channels not in CHANNEL_POLICIES:
        raise unknown_name("channel policy", channels, CHANNEL_POLICIES)
    with decoded(path) as recording:
        wave = np.concatenate([reduce_channels(block, channels) for block in recording.blocks])
        wave = resampled(wave, recording.sample_rate_hz, sample_rate_hz)
    if not len(wave):
        raise BadAudio(path, f"too short to leave a sample at {sample_rate_hz} Hz")
    return joined_channels(wave)


@dataclass(frozen=True)
class DecodedAudio:
    """An open recording.

    Attributes
    ----------
    sample_rate_hz, channels, frames : of the file; a frame has one sample per channel
    blocks : its samples in blocks, Float32[ndarray, "sample channel"], full scale 1
    """

    sample_rate_hz: int
    channels: int
    frames: int
    blocks: Iterator[npt.NDArray[np.float32]]


@contextmanager
def decoded(path: Path) -> Iterator[DecodedAudio]:
    """Open a recording to read it in blocks, however long it is.

    Raises
    ------
    BadAudio
        The file is bad in a way that :func:`inspect_clip` names; on opening, or at the bad block.
    """
    with _opened(path) as (_, sound):
        blocks = _blocks(path, sound)
        yield DecodedAudio(sound.samplerate, sound.channels, sound.frames, blocks)


def check_rate(sample_rate: float) -> None:
    """Raise :class:`InputError` unless a sample rate is a whole number of Hz from 1 kHz to 1 MHz."""
    is_number = isinstance(sample_rate, int | float | np.number)
    if not is_number or not _is_rate(sample_rate):
        given = f"{sample_rate} Hz" if is_number else repr(sample_rate)
        raise InputError(f"the sample rate is {given}; give {_RATES}, such as {SAMPLE_RATE_HZ}")


def _is_rate(sample_rate: float) -> bool:
    return 1_000 <= sample_rate <= 1_000_000 and float(sample_rate).is_integer()


def resampled(
    wave: npt.NDArray[np.float32], from_hz: int, to_hz: int = SAMPLE_RATE_HZ
) -> npt.NDArray[np.float32]:
    """Return (sample, channel) at another sample rate; unchanged if it is the same."""
    if from_hz == to_hz:
        return wave
    return soxr.resample(wave, from_hz, to_hz, quality="HQ")  # type: ignore[no-any-return]


def joined_channels(wave: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Return the kept channels of (sample, channel), one after the other, as 16-bit samples."""
    joined = wave.T.reshape(-1)
    clipped: npt.NDArray[np.float32] = np.clip(np.rint(joined * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    return clipped.astype(np.int16)


def kept_channels(channels: int, policy: ChannelPolicy) -> int:
    """Return how many of ``channels`` channels a policy keeps, one after the other."""
    return min(channels, 2) if policy == "both" else 1


def reduce_channels(block: npt.NDArray[np.float32], policy: ChannelPolicy) -> npt.NDArray[np.float32]:
    """Reduce (sample, channel) to (sample, kept channel)."""
    if policy == "mean":
        return np.asarray(block.mean(axis=1, keepdims=True))
    channels = {"near": [0], "far": [-1], "both": [0, -1][: block.shape[1]]}[policy]
    return block[:, channels]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[FileIO, Any]]:
    """Open a file for reading and decoding; every obstacle becomes a :class:`BadAudio`."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadAudio(path, "a folder or a device, not a file")
        if status.st_size == 0:
            raise BadAudio(path, "empty file (0 bytes)")
        with path.open("rb", buffering=0) as file:
            if missing := _missing_wav_bytes(file, status.st_size):
                raise BadAudio(
                    path, f"truncated: {missing} of the bytes that its header promises are missing"
                )
            file.seek(0)
            with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                if sound.format not in _FORMATS:
                    raise BadAudio(path, f"{sound.format} audio, not WAV or FLAC")
                if not _is_rate(sound.samplerate):
                    raise BadAudio(path, f"its sample rate is {sound.samplerate} Hz, not {_RATES}")
                yield file, sound
    except soundfile.LibsndfileError as error:
        reason = f"not audio, or cut inside its header ({error.error_string.strip().rstrip('.')})"
        raise BadAudio(path, reason) from error
    except FileNotFoundError as error:
        raise BadAudio(path, "a broken link" if path.is_symlink() else "no such file") from error
    except OSError as error:
        raise BadAudio(path, f"unreadable ({error.strerror})") from error


def _missing_wav_bytes(file: FileIO, size_bytes: int) -> int:
    """Return how many bytes the data chunk of a RIFF file promises beyond its end; 0 for any other file."""
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return 0
    while len(chunk := file.read(8)) == 8:
        length = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            return 0 if length >= _UNKNOWN_LENGTH_BYTES else max(0, file.tell() + length - size_bytes)
        file.seek(length + length % 2, os.SEEK_CUR)
    return 0


def _blocks(path: Path, sound: Any) -> Iterator[npt.NDArray[np.float32]]:
    """Decode all to blocks, Float32[ndarray, "sample channel"]."""
    is_float = sound.subtype in ("FLOAT", "DOUBLE")
    frames = 0
    while True:
        try:
            block = sound.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            detail = error.error_string.strip().rstrip(".")
            raise BadAudio(path, f"truncated or damaged: it does not decode to its end ({detail})") from error
        if not len(block):
            break
        if is_float and not np.isfinite(block).all():
            raise BadAudio(path, "NaN or infinite samples")
        frames += len(block)
        yield block
    if frames < sound.frames:
        raise BadAudio(path, f"truncated: {frames} of {sound.frames} promised samples can be read")
    if frames == 0:
        raise BadAudio(path, "no samples (zero length)")
