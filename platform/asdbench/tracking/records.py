"""What is recorded in MLflow, as plain values: runs, and the entries of the outbox that they travel in.

Idea: a `RunRecord` holds the complete content of one MLflow run, and an entry what is delivered together. An
entry that waits in a file is therefore self-contained: it needs neither the job store nor the same version of
the platform, and names the commit whose code made the result.

There are four kinds of entries: a row of the leaderboard with its seeds (`RowEntry`), which is updated in
place; what surrounds the rows of a leaderboard (`BoardEntry`): its arrangement and which rows are still on
it; a trial with its search (`TrialEntry`); and the model of a row (`ModelEntry`), which alone needs the job
store: it says how to export the model instead of holding it.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from asdbench.config import SettingValue, assignments
from asdbench.engine.task_records import CurvePoint

Status = Literal["FINISHED", "FAILED", "KILLED"]
Curve = Sequence[CurvePoint]

KEY = "asdbench.key"  # identity of a row or a search
KIND = "asdbench.kind"  # row, seed, search or trial
RESULTS = "asdbench.results"  # hash of what a row or a seed is computed from
AS_OF = "asdbench.as_of_ns"  # when the stored results were read
STORE = "asdbench.store"  # id of the job store
SEED = "asdbench.seed"
WEIGHTS = "asdbench.weights"  # hash of what a model depends on
STATE = "asdbench.state"  # hash of all that is recorded of a model
CURRENT = "asdbench.current"  # whether a model is the best of its system
TRIALS, TRIAL, IS_DEFAULT = "asdbench.trials", "asdbench.trial", "asdbench.default"
_NAME_CHARACTERS = 250  # MLflow's column
MODEL_GROUP = "model-"  # how the groups of models begin


class DatasetRecord(msgspec.Struct, frozen=True):
    """A data set, as MLflow lists it among the inputs of a run.

    Attributes
    ----------
    name, digest : name, and the first characters of the fingerprint
    source : where the recordings are
    columns : type of each column of the clip table, by name
    profile : counts by name
    context : what the clips were used for
    """

    name: str
    digest: str
    source: str
    columns: dict[str, str]
    profile: dict[str, str | int | float]
    context: str = "evaluation"


class RunRecord(msgspec.Struct, frozen=True):
    """The content of one MLflow run.

    Attributes
    ----------
    name : name of the run
    tags, params : texts by name
    metrics : name, value and step of each metric
    began_ms, ended_ms : start and end in milliseconds since 1970
    status : final status
    files : content of artifacts by path
    dataset : the data set, ``None`` for none

    Examples
    --------
    >>> run = RunRecord("trial 0", {}, {}, [("score", 0.5, 1), ("score", 0.6, 2)], 0, 1)
    >>> run.last("score")
    0.6
    """

    name: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: list[tuple[str, float, int]]
    began_ms: int
    ended_ms: int
    status: Status = "FINISHED"
    files: dict[str, bytes] = {}
    dataset: DatasetRecord | None = None

    def last(self, metric: str) -> float | None:
        """Return the value of a metric at its last step, or ``None`` if the run lacks the metric."""
        return max(
            ((step, value) for name, value, step in self.metrics if name == metric), default=(0, None)
        )[1]


class RowEntry(msgspec.Struct, frozen=True, tag="row"):
    """A row of a leaderboard, with the records of its seeds.

    Attributes
    ----------
    experiment : name of the experiment, without ``asdbench/``
    row : the row; its tags have the key of the row, the hash of its results and when these were read
    seeds : its seeds; their tags have the seed and the hash of its results
    """

    experiment: str
    row: RunRecord
    seeds: list[RunRecord]

    @property
    def group(self) -> str:
        """The key of entries that only one process may write at a time: those of a row."""
        return hash_of([self.experiment, self.row.tags[KEY]])


class BoardEntry(msgspec.Struct, frozen=True, tag="board"):
    """The arrangement of an experiment, and the rows that are still on its leaderboard.

    Attributes
    ----------
    experiment : name of the experiment, without ``asdbench/``
    store : id of the job store whose leaderboard it is
    as_of_ns : when the stored results were read, in nanoseconds since 1970
    keys : keys of all rows of this store that are on the leaderboard; others are deleted
    tags : tags of the experiment
    """

    experiment: str
    store: str
    as_of_ns: int
    keys: list[str]
    tags: dict[str, str]

    @property
    def group(self) -> str:
        """The key of entries that only one process may write at a time: those of an experiment."""
        return hash_of([self.experiment, "board"])


class TrialEntry(msgspec.Struct, frozen=True, tag="trial"):
    """A trial with its search.

    Attributes
    ----------
    experiment : name of the experiment, without ``asdbench/``
    search, trial : the records of the search and of its trial
    arrangement : tags of the experiment
    """

    experiment: str
    search: RunRecord
    trial: RunRecord
    arrangement: dict[str, str] = {}

    @property
    def group(self) -> str:
        """The key of entries that only one process may write at a time: those of a search."""
        return hash_of([self.experiment, self.search.tags[KEY]])


class ModelEntry(msgspec.Struct, frozen=True, tag="model"):
    """The model of a row: what is recorded of it, and what is needed to export it.

    Attributes
    ----------
    experiment : name of the experiment, without ``asdbench/``
    store : id of the job store
    key, results : of the row, as in its tags
    weights : hash of all that the exported model depends on
    as_of_ns : when the stored results were read, in nanoseconds since 1970
    leads : whether the row is the best of those that no search has chosen
    system, settings, data, machine_types, seed, pseudo_anomaly_data : the jobs to export; settings are the
        changed ones
    data_digest : the digest of the data set, as in `DatasetRecord`
    metrics : metrics of the row
    """

    experiment: str
    store: str
    key: str
    results: str
    weights: str
    as_of_ns: int
    leads: bool
    system: str
    settings: dict[str, SettingValue]
    data: str
    data_digest: str
    machine_types: list[str]
    seed: int
    pseudo_anomaly_data: str | None
    metrics: dict[str, float]

    @property
    def group(self) -> str:
        """The key of entries that only one process may write at a time: those of a system."""
        return MODEL_GROUP + hash_of([self.experiment, self.system])

    @property
    def state(self) -> str:
        """A hash of all that is recorded of the model."""
        return hash_of([self.key, self.results, self.weights, str(self.leads)])


Entry = RowEntry | BoardEntry | TrialEntry | ModelEntry


def to_bytes(entry: Entry) -> bytes:
    """Return an entry as the content of its file (MessagePack); losses that are not finite are kept."""
    return msgspec.msgpack.encode(entry)


def from_bytes(content: bytes) -> Entry:
    """Return the entry that `to_bytes` wrote; raises `msgspec.DecodeError` for any other content."""
    return msgspec.msgpack.decode(content, type=Entry)


# How values are written


def at_step_0(metrics: Mapping[str, float]) -> list[tuple[str, float, int]]:
    """Return metrics that have no steps."""
    return [(metric_name(name), float(value), 0) for name, value in metrics.items()]


def losses(curve: Curve, prefix: str) -> Iterator[tuple[str, float, int]]:
    """Yield the points of a training curve as ``<prefix>/<stage> <name>``, with the epoch as step."""
    for point in curve:
        for name, value in point.losses.items():
            yield metric_name(f"{prefix}/{point.stage} {name}"), float(value), point.epoch


def texts(values: Mapping[str, object]) -> dict[str, str]:
    """Return values in the notation of ``--set``."""
    return {name: assignments({name: value}).partition("=")[2] for name, value in values.items()}


def metric_name(name: str) -> str:
    """Return a name without the characters that MLflow does not allow in names of metrics.

    >>> metric_name("own type: right")
    'own type_ right'
    """
    return re.sub(r"[^/\w.\- ]", "_", name)


def run_name(prefix: str, settings: Mapping[str, object], suffix: str = "") -> str:
    """Return the name of a run; settings that are too long are cut and end in ``…``."""
    shown = f" {assignments(settings)}" if settings else ""
    n_characters = _NAME_CHARACTERS - len(prefix) - len(suffix)
    return prefix + (shown if len(shown) <= n_characters else f"{shown[: n_characters - 1]}…") + suffix


def percent(fraction: float) -> float:
    """Return a fraction in percent with two decimals, as people read it.

    >>> percent(0.673512)
    67.35
    """
    return round(100 * fraction, 2)


def n_trials(trials: int) -> str:
    """Return a number of trials in words."""
    return "1 trial" if trials == 1 else f"{trials} trials"


def hash_of(parts: Sequence[str]) -> str:
    """Return a short hash of texts."""
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=12).hexdigest()
