"""The records of finished trainings and scorings, ``training.json`` and ``scoring.json``."""

from datetime import UTC, datetime
from typing import NotRequired, TypedDict

import msgspec

from asdbench.config import SettingValue
from asdbench.engine.versions import Versions
from asdbench.io.records import record_from_json, record_to_json

SCHEMA_VERSION = 3
_CURE = "remove the file, and the same 'asdbench run' makes it again"


class TrainingDescription(TypedDict):
    """All that a trained model depends on."""

    platform: str  # hash of the platform's code, of `asdbench.engine.platform_code`
    system: str
    code: str
    settings: dict[str, SettingValue]
    machine_type: str
    seed: int
    clips: list[tuple[str, str]]
    supplemental: NotRequired[list[tuple[str, str]]]  # where supplemental clips are trained on
    hold_out_seed: NotRequired[int]  # if it is not ``seed``
    weights: NotRequired[dict[str, str]]  # SHA-256 of pretrained weights by id, if there are any
    encoder_code: NotRequired[str]  # `asdbench.data.embeddings.code`, where stored embeddings are read


class ScoringDescription(TypedDict):
    """All that the component scores of a trained model depend on."""

    platform: str  # hash of the platform's code, of `asdbench.engine.platform_code`
    training: str
    system: str
    code: str
    settings: dict[str, SettingValue]
    clips: str
    machine_type: NotRequired[str]  # where the training does not name it


class CurvePoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A point of a training curve: the mean losses and monitors since the point before."""

    stage: str
    epoch: int
    losses: dict[str, float]


class TrainingRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A finished training.

    Attributes
    ----------
    description : all that the trained model depends on
    data : name of the data set
    steps, seconds : spent, over interruptions
    curve : the training curve
    validation : mean losses over the windows that training left out, if the batch plan leaves out some
    parameters : number of the system's parameters
    processes, device : where it ran
    peak_rss_bytes : peak memory of the process
    versions : what trained it
    compiled : whether its steps ran compiled to the end
    began_unix_s : when this process began it
    finished : when it ended, UTC, in ISO 8601
    """

    description: TrainingDescription
    data: str
    steps: int
    seconds: float
    curve: tuple[CurvePoint, ...]
    validation: dict[str, float] | None
    parameters: int
    processes: int
    device: str
    peak_rss_bytes: int
    versions: Versions
    began_unix_s: float
    finished: str
    compiled: bool = False
    schema_version: int = SCHEMA_VERSION


class ScoringRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Finished component scores.

    Attributes
    ----------
    description : all that the scores depend on
    data : name of the data set
    backend_seconds, scoring_seconds : time of fitting the back end and of scoring
    clips_scored : number of clips
    versions : what scored them
    macs_per_clip : multiply-accumulates of scoring one clip
    isolation : what kept the system from reading labels: ``"kernel"``, ``"python"`` or ``"none"``
    finished : when it ended, UTC, in ISO 8601
    """

    description: ScoringDescription
    data: str
    backend_seconds: float
    scoring_seconds: float
    clips_scored: int
    macs_per_clip: int
    versions: Versions
    isolation: str
    finished: str
    schema_version: int = SCHEMA_VERSION


def to_json(record: TrainingRecord | ScoringRecord) -> bytes:
    """Return a record as the content of its file."""
    return record_to_json(record)


def training_from_json(content: bytes, *, path: str) -> TrainingRecord:
    """Return the record of a training; one that does not fit is an `asdbench.io.records.RecordError`."""
    return record_from_json(content, TrainingRecord, schema_version=SCHEMA_VERSION, path=path, cure=_CURE)


def scoring_from_json(content: bytes, *, path: str) -> ScoringRecord:
    """Return the record of a scoring; one that does not fit is an `asdbench.io.records.RecordError`."""
    return record_from_json(content, ScoringRecord, schema_version=SCHEMA_VERSION, path=path, cure=_CURE)


def now() -> str:
    """Return the current time, UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
