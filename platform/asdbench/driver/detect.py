"""Detect on files, folders and a stream of raw samples; explain what was found."""

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from asdbench.data.audio import BadAudio, decoded
from asdbench.data.sets.layouts import AUDIO_SUFFIXES
from asdbench.engine.clip_stream import ClipLength, CutClip, cut_stream, whole_clip
from asdbench.engine.detection import Detection
from asdbench.engine.explanation import Explanation, Progress, explain
from asdbench.engine.machine_detector import MachineDetector
from asdbench.engine.recording_scan import RecordingResult, scan_file
from asdbench.errors import InputError

_BLOCK_S = 0.25
_BYTES = 2  # of a sample

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileResult:
    """The result for a file.

    Attributes
    ----------
    path : the file
    result : what was found; None if the file cannot be scored
    error : why it cannot be scored; empty if it can
    """

    path: Path
    result: RecordingResult | None
    error: str = ""


def audio_files(paths: Iterable[Path]) -> list[Path]:
    """Return files as given, and the WAV and FLAC files in folders and their subfolders, sorted, each once.

    Raises :class:`InputError` for a path that does not exist and for a folder without such files.
    """
    files: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            within = [
                file
                for file in sorted(path.rglob("*"))
                if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file() and not file.name.startswith(".")
            ]
            if not within:
                raise InputError(f"there are no WAV or FLAC files in {str(path)!r}; name a folder with some")
            files |= dict.fromkeys(within)
        elif not path.exists():
            raise InputError(f"there is no file or folder {str(path)!r}; check the path")
        else:
            files[path] = None
    return list(files)


def detect_files(
    detector: MachineDetector,
    files: Sequence[Path],
    *,
    length: ClipLength | None = None,
    threshold: str | float | None = None,
) -> Iterator[FileResult]:
    """Yield the result of each file; one that cannot be scored does not stop the others.

    Parameters
    ----------
    detector : of the files' machine type
    files : WAV or FLAC files
    length, threshold : as for `asdbench.engine.recording_scan.scan`
    """
    detector.threshold(threshold)  # an unknown method is an error of the request, not of a file
    for path in files:
        try:
            yield FileResult(path, scan_file(detector, path, length, threshold=threshold))
        except BadAudio as error:
            yield FileResult(path, None, error.reason)
        except InputError as error:
            yield FileResult(path, None, str(error))


def pcm_blocks(stream: BinaryIO, sample_rate_hz: int) -> Iterator[NDArray[np.float32]]:
    """Yield blocks, Float32[ndarray, "sample channel"], of raw 16-bit little-endian mono samples.

    Raises :class:`InputError` for a stream without a sample, or one that begins as a WAV or FLAC file.
    """
    size = max(1, round(_BLOCK_S * sample_rate_hz)) * _BYTES
    rest, is_first = b"", True
    while content := stream.read(size):
        if is_first and content[:4] in (b"RIFF", b"fLaC"):
            raise InputError(
                "standard input is a WAV or FLAC file; give the file's name, or convert it to raw samples "
                "with 'ffmpeg -i FILE -f s16le -ac 1 -ar 16000 -'"
            )
        is_first = False
        content = rest + content
        whole = len(content) // _BYTES * _BYTES
        rest = content[whole:]
        if whole:
            yield np.frombuffer(content[:whole], "<i2").astype(np.float32)[:, None] / np.float32(32768)
    if is_first:
        raise InputError("standard input is empty; pipe raw 16-bit mono samples to 'asdbench detect MODEL -'")
    if rest:
        logger.warning("the stream ended within a sample; the last byte was left out")


def detect_stream(
    detector: MachineDetector,
    stream: BinaryIO,
    sample_rate_hz: int,
    *,
    length: ClipLength | None = None,
    threshold: str | float | None = None,
) -> Iterator[Detection]:
    """Yield the result of each clip of a stream of raw samples as soon as it is complete.

    The parameters are those of `pcm_blocks` and `detect_files`.
    """
    return detector.stream(pcm_blocks(stream, sample_rate_hz), sample_rate_hz, length, threshold=threshold)


def check_pictures(pictures: Sequence[Path]) -> None:
    """Make the folders of pictures, and raise :class:`InputError` where a picture cannot be written."""
    for picture in pictures:
        if picture.is_dir():
            raise InputError(
                f"--explain cannot write {str(picture)!r}, which is a folder; name another place"
            )
    for folder in {picture.parent for picture in pictures}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise InputError(
                f"--explain cannot write to the folder {str(folder)!r} ({error.strerror}); name another one"
            ) from error


def write_explanation(
    detector: MachineDetector,
    found: FileResult,
    picture: Path,
    *,
    length: ClipLength | None = None,
    progress: Progress | None = None,
) -> str:
    """Write the picture of a file's highest clip and return a sentence on the patch that carries most of it.

    Parameters
    ----------
    detector : of the file's machine type
    found : a file with a result
    picture : PNG file to write
    length : as for `detect_files`
    progress : called with the number of scored patches and of all

    Raises
    ------
    InputError
        The picture cannot be written, or the file has no explanation.
    """
    from asdbench.io.files import replacing
    from asdbench.report.detections import shown_name
    from asdbench.report.figures.explanation import explanation_figure

    assert found.result is not None
    highest = found.result.highest
    clip = _clip_at(detector, found, length)
    if clip.channels > 1:
        raise InputError(f"{found.path} keeps {clip.channels} channels; an explanation takes one")
    explanation = explain(detector, clip.samples, progress=progress)
    figure = explanation_figure(clip.samples, highest, explanation, title=shown_name(found.path.name))
    try:
        with replacing(picture) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
    except OSError as error:
        raise InputError(
            f"cannot write {str(picture)!r} ({error.strerror}); name another place with --explain"
        ) from error
    return explanation_sentence(explanation, start_s=highest.start_s)


def explanation_sentence(explanation: Explanation, *, start_s: float) -> str:
    """Return which patch of a clip that starts at ``start_s`` lowers the score most when it is masked."""
    begin, end, low, high = explanation.strongest
    score = explanation.score
    before, after = f"{score:.4g}", f"{score - explanation.drop.max():.4g}"
    if explanation.drop.max() <= 0 or before == after:
        return f"no part of the recording alone carries the score of {before}"
    return (
        f"masking {start_s + begin:.2f} to {start_s + end:.2f} s, {low / 1000:.2f} to {high / 1000:.2f} kHz "
        f"lowers the score most: {before} to {after}"
    )


def _clip_at(detector: MachineDetector, found: FileResult, length: ClipLength | None) -> CutClip:
    """Return the clip of a file that has the highest score, read again."""
    assert found.result is not None
    policy = detector.channels
    with decoded(found.path) as recording:
        if len(found.result.detections) == 1:
            return whole_clip(recording.blocks, recording.sample_rate_hz, policy=policy)
        clips = cut_stream(
            recording.blocks, recording.sample_rate_hz, length or detector.length(), policy=policy
        )
        start_s = found.result.highest.start_s
        return next(clip for clip in clips if clip.start_s == start_s)
