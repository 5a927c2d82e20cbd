"""Score a whole recording: as one clip, or, if it is long, cut into clips that are scored over time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from asdbench.data.audio import ChannelPolicy, DecodedAudio, check_rate, decoded
from asdbench.engine.clip_stream import ClipLength, whole_clip
from asdbench.engine.detection import Detection, SoundEvent, events
from asdbench.engine.detector import as_frames
from asdbench.engine.machine_detector import MachineDetector
from asdbench.spec import SAMPLE_RATE_HZ


@dataclass(frozen=True)
class RecordingResult:
    """The result for a recording.

    Attributes
    ----------
    detections : of its clips, in order; a recording of usual length is one clip
    notes : how it was converted, and what is remarkable about it
    """

    detections: tuple[Detection, ...]
    notes: tuple[str, ...]

    @property
    def highest(self) -> Detection:
        """The clip with the highest score, which is the score of the recording."""
        return max(self.detections, key=lambda detection: detection.score)

    @property
    def events(self) -> list[SoundEvent]:
        """The anomalous stretches."""
        return list(events(self.detections))


def scan_file(
    detector: MachineDetector,
    path: Path,
    length: ClipLength | None = None,
    *,
    threshold: str | float | None = None,
) -> RecordingResult:
    """Score a WAV or FLAC file; parameters as for :func:`scan`, errors those of `asdbench.data.audio`."""
    with decoded(path) as recording:
        return scan(detector, recording, length, threshold=threshold)


def scan_samples(
    detector: MachineDetector,
    samples: NDArray[Any],
    sample_rate: int,
    length: ClipLength | None = None,
    *,
    threshold: str | float | None = None,
) -> RecordingResult:
    """Score samples, as `asdbench.engine.detector.Detector.score` takes them; see :func:`scan`."""
    frames = as_frames(samples)
    check_rate(sample_rate)
    recording = DecodedAudio(int(sample_rate), frames.shape[1], len(frames), iter([frames]))
    return scan(detector, recording, length, threshold=threshold)


def scan(
    detector: MachineDetector,
    recording: DecodedAudio,
    length: ClipLength | None = None,
    *,
    threshold: str | float | None = None,
) -> RecordingResult:
    """Score a recording.

    Parameters
    ----------
    detector : of the recording's machine type
    recording : its blocks are read once; a long one is never held as a whole
    length : cut a recording that is longer than this (default: one that is longer than 1.5 times the longest
        training clip, into clips of the usual duration)
    threshold : as for `asdbench.engine.detector.Detector.score`
    """
    longest_s = detector.longest_s if length is None else length.clip_s
    if recording.frames / recording.sample_rate_hz > longest_s:
        found: Iterable[Detection] = detector.stream(
            recording.blocks, recording.sample_rate_hz, length, threshold=threshold
        )
    else:
        clip = whole_clip(recording.blocks, recording.sample_rate_hz, policy=detector.channels)
        found = [detector.detect(clip.samples, channels=clip.channels, threshold=threshold)]
    detections = tuple(found)
    notes = [*_conversions(recording, detector.channels)]
    notes += [note for detection in detections for note in detection.notes]
    return RecordingResult(detections, tuple(dict.fromkeys(notes)))


def _conversions(recording: DecodedAudio, policy: ChannelPolicy) -> Iterator[str]:
    """Yield how a recording was converted."""
    if recording.channels > 1:
        used = {"near": "the first", "far": "the last", "both": "the first and the last", "mean": "the mean"}
        yield f"{used[policy]} of {recording.channels} channels is used"
    if recording.sample_rate_hz != SAMPLE_RATE_HZ:
        rate_hz = recording.sample_rate_hz
        missing = f"; everything above {rate_hz / 2000:g} kHz is missing" if rate_hz < SAMPLE_RATE_HZ else ""
        yield f"resampled from {rate_hz} Hz to {SAMPLE_RATE_HZ} Hz{missing}"
