"""The records of searches, ``searches/<key>.json``: of settings (studies) and of fusion weights.

The rooms that search write them through this module; the leaderboard reads from it which settings a search
chose.
"""

from typing import Literal, TypeVar

import msgspec

from asdbench.config import Scalar, SettingValue
from asdbench.engine.job_store import JobStore
from asdbench.io.records import record_from_json, record_to_json

SCHEMA_VERSION = 1
_CURE = "remove the file, and the same 'asdbench tune' or 'asdbench fuse' searches again"

T = TypeVar("T", bound=msgspec.Struct)
Settings = dict[str, SettingValue]
TrialState = Literal["running", "complete", "pruned", "failed"]


class StoredTrial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A trial of a study.

    Attributes
    ----------
    number : from 0, which is the untuned system
    parameters : drawn values by setting
    state : ``"running"``, ``"complete"``, ``"pruned"`` or ``"failed"``
    rungs : official scores over the first machine types, for each number of them
    types : metrics of each finished machine type
    began_unix_s, ended_unix_s : when
    message : why it failed
    """

    number: int
    parameters: Settings
    state: TrialState
    rungs: tuple[float, ...]
    types: dict[str, dict[str, float]]
    began_unix_s: float
    ended_unix_s: float | None
    message: str | None


class BestTrial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The best complete trial of a study, with all settings of its system."""

    number: int
    score: float
    settings: Settings


class BestWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The best fusion weights, as settings of the ensemble."""

    score: float
    settings: Settings


class LeftOutReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A machine type, scored with the weights and choices that were found without it."""

    weights: tuple[float, ...]
    score: float
    choices: dict[str, Scalar] = {}


class NestedReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An ensemble on machine types that neither the search of members' settings nor that of weights saw.

    Attributes
    ----------
    score, equal_weights
        The official score over all machine types, each with members tuned without it and with the weights
        found without it, or with equal weights.
    left_out : the weights and the score of each machine type
    seeds : the seeds of these scores, which the searches did not see if there are fresh ones
    """

    score: float
    equal_weights: float
    left_out: dict[str, LeftOutReport]
    seeds: tuple[int, ...]


class FusionReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a stored fusion search that is shown to people.

    Attributes
    ----------
    members, weights, choices, score
        The weights and choices found, and their official score.
    member_trials : number of trials of the searches that chose the members' settings; 0 if none did
    weight_vectors : number of weight vectors that were evaluated
    equal_weights
        The score with equal weights; ``None`` if the members' settings were chosen with the same labels,
        since it is then no score of an untuned ensemble.
    leave_one_type_out, left_out
        The score over all machine types, each with the weights found without it, and those by type; ``None``
        and empty if the members' settings were chosen with the labels of these types.
    nested : the same with members that were tuned without the type, too, as far as they were
    without_estimate : why there is no estimate for an unseen machine type
    chosen_on_labels : members whose authors looked at the labels of this data set
    """

    members: tuple[str, ...]
    weights: tuple[float, ...]
    choices: dict[str, Scalar]
    score: float
    member_trials: int
    weight_vectors: int
    equal_weights: float | None
    leave_one_type_out: float | None
    left_out: dict[str, LeftOutReport]
    nested: NestedReport | None = None
    without_estimate: str | None = None
    chosen_on_labels: tuple[str, ...] = ()


class _SearchRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What all searches have in common.

    Attributes
    ----------
    system : whose settings are searched
    data, subset : the data set, and the subset whose labels steer the search
    protocol, held_out : whose labels it sees: ``"dev"``, or all but those of one machine type
    pseudo_anomaly_data : data set of the pseudo-anomalies, if not ``data``
    start : settings of the untuned system
    seeds : over which scores are averaged
    description : all that the search depends on, as its key hashes it
    """

    system: str
    data: str
    subset: str
    protocol: str
    held_out: str | None
    pseudo_anomaly_data: str | None
    start: Settings
    seeds: tuple[int, ...]
    description: dict[str, object]
    schema_version: int = SCHEMA_VERSION


class StudyRecord(_SearchRecord, frozen=True, kw_only=True, tag="study"):
    """A study of a system's settings, with all its trials.

    Attributes
    ----------
    best : the best complete trial
    trials_done : number of finished trials
    trials : all trials by number
    """

    best: BestTrial | None
    trials_done: int
    trials: tuple[StoredTrial, ...]


class FusionRecord(_SearchRecord, frozen=True, kw_only=True, tag="fusion"):
    """A search for an ensemble's weights.

    Attributes
    ----------
    best, report : what it found, for programs and for people
    nested_key : hash of what the nested estimate in ``report`` depends on
    """

    best: BestWeights
    report: FusionReport
    nested_key: str | None = None


SearchRecord = StudyRecord | FusionRecord


def name_of(key: str) -> str:
    """Return the name of a search's file in the job store."""
    return f"searches/{key}.json"


def save_search(store: JobStore, key: str, record: SearchRecord) -> None:
    """Store the record of a search."""
    store.root.write(name_of(key), record_to_json(record))


def load_study(store: JobStore, key: str) -> StudyRecord | None:
    """Return the stored record of a study, ``None`` if there is none.

    Raises `asdbench.io.records.RecordError` for a record that does not fit.
    """
    content = _content(store, key)
    return None if content is None else _parsed(content, StudyRecord, _path(store, name_of(key)))


def load_fusion(store: JobStore, key: str) -> FusionRecord | None:
    """Return the stored record of a fusion search, ``None`` if there is none; raises as `load_study` does."""
    content = _content(store, key)
    return None if content is None else _parsed(content, FusionRecord, _path(store, name_of(key)))


def from_json(content: bytes, *, path: str) -> SearchRecord:
    """Return the record of a search of either kind; raises as `load_study` does."""
    return _parsed(content, SearchRecord, path)  # type: ignore[arg-type]


def _content(store: JobStore, key: str) -> bytes | None:
    return store.root.read(name_of(key)) if store.root.exists(name_of(key)) else None


def _path(store: JobStore, name: str) -> str:
    return f"{store.root}/{name}"


def _parsed(content: bytes, kind: type[T], path: str) -> T:
    return record_from_json(content, kind, schema_version=SCHEMA_VERSION, path=path, cure=_CURE)
