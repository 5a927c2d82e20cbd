"""What a detector finds: results of clips, scores over time, and events."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WindowScores:
    """The anomaly scores of a clip's windows.

    Attributes
    ----------
    start_s, end_s, score : Float[ndarray, "window"]
    """

    start_s: Array
    end_s: Array
    score: Array


@dataclass(frozen=True)
class Detection:
    """The result for one clip.

    Attributes
    ----------
    machine_type : machine type whose detector scored the clip
    start_s, end_s : the clip's place in its recording
    score : anomaly score, higher is more anomalous
    threshold : score above which a clip is called anomalous; ``None`` where normal clips were too few
    components : score of each component by name, before standardization
    windows : scores over time, where the system has them
    notes : what is remarkable about the audio
    """

    machine_type: str
    start_s: float
    end_s: float
    score: float
    threshold: float | None
    components: Mapping[str, float]
    windows: WindowScores | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_anomaly(self) -> bool:
        """Whether the score exceeds the threshold."""
        return self.threshold is not None and self.score > self.threshold

    @property
    def decision(self) -> str:
        """``"anomaly"``, ``"normal"``, or ``"none"`` without a threshold."""
        if self.threshold is None:
            return "none"
        return "anomaly" if self.is_anomaly else "normal"

    @property
    def peak_s(self) -> float:
        """The middle of the window with the highest score, or of the clip."""
        if self.windows is None:
            return (self.start_s + self.end_s) / 2
        highest = int(self.windows.score.argmax())
        return float(self.windows.start_s[highest] + self.windows.end_s[highest]) / 2


@dataclass(frozen=True)
class SoundEvent:
    """A stretch of a recording that is anomalous.

    Attributes
    ----------
    start_s, end_s : of the first and the last of its clips
    peak_s : the middle of the window, or clip, with the highest score
    score : highest score of its clips
    """

    start_s: float
    end_s: float
    peak_s: float
    score: float


def events(detections: Iterable[Detection]) -> Iterator[SoundEvent]:
    """Merge anomalous clips of a stream that overlap or touch; an event is yielded when it is over."""
    event: SoundEvent | None = None
    for detection in detections:
        if not detection.is_anomaly:
            if event is not None and detection.start_s >= event.end_s:
                yield event
                event = None
            continue
        if event is not None and detection.start_s > event.end_s:
            yield event
            event = None
        highest = event if event is not None and event.score >= detection.score else detection
        start_s = event.start_s if event is not None else detection.start_s
        event = SoundEvent(start_s, detection.end_s, highest.peak_s, highest.score)
    if event is not None:
        yield event
