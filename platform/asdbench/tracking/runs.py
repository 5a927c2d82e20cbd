"""The records of finished runs, searches and trials, and the MLflow runs that they become.

Idea: a `RunRecord` holds the complete content of one MLflow run as plain values, and an `OutboxEntry` the
records that are delivered together. An entry that waits in a file is therefore self-contained: it needs
neither the job store nor the same version of the platform, and names the commit whose code made the result.

Conventions: metrics are fractions between 0 and 1, times are in seconds. A run starts and ends with its
results: the end is when the last one was finished, the start is earlier by the time of training and scoring.
Metrics of a machine type are named ``<machine type>/auc_source`` in the outer run and ``auc_source`` in the
nested one, losses ``loss/<stage>/<name>``, with the epoch as step. ``official_score`` is over all machine
types of a run; the same mean over one type is ``harmonic_mean``, or ``arithmetic_mean`` if that is the rule.

The metric of a trial is ``score``, over the machine types that were finished at the time; their number is the
step. Its losses are ``loss/<machine type>/<stage>/<name>``.

Scores on development clips and on evaluation clips must not be ranked together, so runs on the eval subset
are in a separate experiment, ``asdbench/<data set>/eval``; searches are in ``asdbench/<data set>/searches``.
"""

import dataclasses
import hashlib
import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import polars as pl

import asdbench
from asdbench.config import assignments
from asdbench.engine.result_metrics import machine_type_metrics
from asdbench.engine.result_record import ResultRecord
from asdbench.engine.task_records import CurvePoint
from asdbench.metrics import summary

Status = Literal["FINISHED", "FAILED", "KILLED"]
TrialState = Literal["complete", "pruned", "failed"]
Curve = Sequence[CurvePoint]

KEY, RESULTS = "asdbench.key", "asdbench.results"
TRIALS, TRIAL, IS_DEFAULT = "asdbench.trials", "asdbench.trial", "asdbench.default"
_STATUS: dict[TrialState, Status] = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
_NAME_CHARACTERS = 250  # MLflow's column


@dataclass(frozen=True)
class RunRecord:
    """The content of one MLflow run.

    Attributes
    ----------
    name : name of the run
    tags, params : texts by name
    metrics : name, value and step of each metric
    began_ms, ended_ms : start and end in milliseconds since 1970
    status : final status
    files : content of text artifacts by path
    data : name and fingerprint of the data set, for the column "Dataset"; ``None`` leaves it empty
    nested : records of its nested runs

    Examples
    --------
    >>> run = RunRecord("baseline-mse seed 0", {}, {}, [("score", 0.5, 1), ("score", 0.6, 2)], 0, 1)
    >>> run.last("score")
    0.6
    """

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Sequence[tuple[str, float, int]]
    began_ms: int
    ended_ms: int
    status: Status = "FINISHED"
    files: Mapping[str, str] = field(default_factory=dict)
    data: tuple[str, str] | None = None
    nested: Sequence["RunRecord"] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunRecord":
        """Return the record that ``dataclasses.asdict`` turned into ``values``."""
        return cls(**{**values, "nested": [cls.from_dict(record) for record in values["nested"]]})

    def last(self, metric: str) -> float | None:
        """Return the value of a metric at its last step, or ``None`` if the run lacks the metric."""
        return max(
            ((step, value) for name, value, step in self.metrics if name == metric), default=(0, None)
        )[1]


@dataclass(frozen=True)
class OutboxEntry:
    """The records that are delivered together: a run with its nested runs, or one trial with its search.

    Attributes
    ----------
    experiment : name of the experiment, without ``asdbench/``
    run : the run, or the search
    trial : the trial of the search, ``None`` for a run
    """

    experiment: str
    run: RunRecord
    trial: RunRecord | None = None

    @property
    def group(self) -> str:
        """The key of entries that only one process may write at a time: those of a run, or of a search."""
        return _hash([self.experiment, self.run.tags[KEY]])

    def to_json(self) -> str:
        """Return the entry as JSON; losses that are not finite are kept."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "OutboxEntry":
        """Return the entry that `to_json` wrote.

        Raises `ValueError`, `TypeError` or `KeyError` for any other text.
        """
        values = json.loads(text)
        trial = values["trial"] and RunRecord.from_dict(values["trial"])
        return cls(values["experiment"], RunRecord.from_dict(values["run"]), trial)


@dataclass(frozen=True, eq=False)
class Run:
    """The results of one system with settings and a seed, on the machine types of a data set.

    Attributes
    ----------
    system : name of the system
    settings : all its settings
    changed_settings : the settings that differ from the defaults
    data : name of the data set
    fingerprint : hash of the content of the data set
    seed : seed of the training
    complete : whether all machine types with labels have a result; only then is there an official score
    records : result record by machine type, as ``evaluate`` stores it
    keys : key of the result in the job store, by machine type
    scores : table of ``clip_id``, ``use`` and ``score``, by machine type
    curves : training curve by machine type
    subset : the subset that was evaluated
    tuned : ``search`` (its key), ``trials`` (their number) and ``protocol`` of the search that chose the
        settings; ``None`` if no search did
    """

    system: str
    settings: Mapping[str, object]
    changed_settings: Mapping[str, object]
    data: str
    fingerprint: str
    seed: int
    complete: bool
    records: Mapping[str, ResultRecord]
    keys: Mapping[str, str]
    scores: Mapping[str, pl.DataFrame]
    curves: Mapping[str, Curve]
    subset: str = "dev"
    tuned: Mapping[str, Any] | None = None

    @property
    def experiment(self) -> str:
        """The name of its experiment, without ``asdbench/``."""
        return self.data if self.subset == "dev" else f"{self.data}/{self.subset}"

    @property
    def key(self) -> str:
        """The identity of the run; a later run with the same key and other results replaces it."""
        identity = [self.system, assignments(self.settings), self.data, self.fingerprint, str(self.seed)]
        if self.tuned is not None:
            identity.append(json.dumps(dict(self.tuned), sort_keys=True))
        return _hash(identity)

    @property
    def results(self) -> str:
        """A hash of the keys of the results."""
        return _hash(sorted(self.keys.values()))

    def entry(self, source: Mapping[str, str]) -> OutboxEntry:
        """Return the entry to deliver; ``source`` are tags that identify the code."""
        params = {**self.settings, "system": self.system, "data": self.data, "seed": self.seed}
        suffix = ""
        if self.tuned is not None:
            params["trials"] = self.tuned["trials"]
            suffix = f", dev-tuned, {_trials(self.tuned['trials'])}"
        name = f"{self.system} seed {self.seed}"
        times = [_times_ms(record) for record in self.records.values()]
        record = RunRecord(
            name=_name(name, self.changed_settings, suffix),
            tags={
                KEY: self.key,
                RESULTS: self.results,
                "asdbench.version": asdbench.__version__,
                "asdbench.data_fingerprint": self.fingerprint,
                "asdbench.subset": self.subset,
                "asdbench.machine_types": ", ".join(self.records),
                "asdbench.tuned": "no" if self.tuned is None else "dev-tuned",
                **source,
            },
            params=_texts(params),
            metrics=_at_step_0(_run_metrics(self)),
            began_ms=min(began for began, _ in times),
            ended_ms=max(ended for _, ended in times),
            files={
                f"scores/{machine_type}.csv": scores.select("clip_id", "use", "score").write_csv()
                for machine_type, scores in self.scores.items()
            },
            data=(self.data, self.fingerprint),
            nested=[
                RunRecord(
                    name=_name(f"{machine_type}, {name}", self.changed_settings, suffix),
                    tags={
                        KEY: self.key,
                        "asdbench.result": self.keys[machine_type],
                        "asdbench.system_code": result.code,
                        **source,
                    },
                    params=_texts({**params, "machine_type": machine_type}),
                    metrics=[
                        *_at_step_0(_machine_type_metrics(result)),
                        *_losses(self.curves.get(machine_type, ())),
                    ],
                    began_ms=began,
                    ended_ms=ended,
                )
                for (machine_type, result), (began, ended) in zip(self.records.items(), times, strict=True)
            ],
        )
        return OutboxEntry(self.experiment, record)


@dataclass(frozen=True, eq=False)
class SearchRecord:
    """A search for settings: what its trials have in common.

    Attributes
    ----------
    key : identity of the search, which is the same after it is interrupted and resumed
    system : system whose settings are searched
    data : name of the data set
    subset : subset whose labels the search uses
    protocol : ``"dev"`` or ``"leave-one-type-out"``
    held_out : machine type that the search does not use, ``None`` if it uses all
    settings : settings that all trials share
    seeds : seeds over which the score of a trial is averaged
    trials : requested number of trials; may grow when the search is resumed
    """

    key: str
    system: str
    data: str
    subset: str
    protocol: str
    held_out: str | None
    settings: Mapping[str, object]
    seeds: Sequence[int]
    trials: int


@dataclass(frozen=True, eq=False)
class TrialRecord:
    """One trial of a search.

    Attributes
    ----------
    number : number in the search
    settings : settings that it changes in addition to those of the search; empty for the untuned trial
    state : ``"complete"``, ``"pruned"`` or ``"failed"``
    rungs : numbers of finished machine types with the score over them, in order
    metrics : metrics by machine type and name
    curves : training curve by machine type
    began, ended : start and end in seconds since 1970
    """

    number: int
    settings: Mapping[str, object]
    state: TrialState
    rungs: Sequence[tuple[int, float]]
    metrics: Mapping[str, Mapping[str, float]]
    curves: Mapping[str, Curve]
    began: float
    ended: float


def trial_entry(search: SearchRecord, trial: TrialRecord, source: Mapping[str, str]) -> OutboxEntry:
    """Return the entry to deliver for a trial; ``source`` are tags that identify the code."""
    began_ms, ended_ms = round(1000 * trial.began), round(1000 * trial.ended)
    tags = {
        KEY: search.key,
        "asdbench.version": asdbench.__version__,
        "asdbench.subset": search.subset,
        "asdbench.protocol": search.protocol,
        "asdbench.tuned": "dev-tuned",
        **source,
    }
    params = {**search.settings, "system": search.system, "data": search.data}
    held_out = "" if search.held_out is None else f", without {search.held_out}"
    search_record = RunRecord(
        name=_name(search.system, search.settings, f": {_trials(search.trials)}{held_out}"),
        tags={**tags, TRIALS: str(search.trials)},
        params=_texts(
            {
                **params,
                "subset": search.subset,
                "protocol": search.protocol,
                "held_out": search.held_out,
                "seeds": " ".join(map(str, search.seeds)),
            }
        ),
        metrics=[],
        began_ms=began_ms,
        ended_ms=ended_ms,
    )
    trial_record = RunRecord(
        name=_name(f"trial {trial.number}", trial.settings, ""),
        tags={**tags, TRIAL: str(trial.number), IS_DEFAULT: str(not trial.settings).lower()},
        params=_texts({**params, **trial.settings, "trial": trial.number}),
        metrics=[
            *(("score", float(score), finished) for finished, score in trial.rungs),
            *_at_step_0(
                {
                    f"{machine_type}/{name}": value
                    for machine_type, metrics in trial.metrics.items()
                    for name, value in metrics.items()
                }
            ),
            *(
                point
                for machine_type, curve in trial.curves.items()
                for point in _losses(curve, f"{machine_type}/")
            ),
        ],
        began_ms=began_ms,
        ended_ms=ended_ms,
        status=_STATUS[trial.state],
    )
    return OutboxEntry(f"{search.data}/searches", search_record, trial_record)


def _run_metrics(run: Run) -> dict[str, float]:
    """Return the metrics of the outer run."""
    records = list(run.records.values())
    sections = [section.official for record in records for section in record.sections.values()]
    means = summary(sections, rule=records[0].rule)
    score = means.pop("score")
    return {
        **({"official_score": score, **means} if run.complete else {}),
        **_timings(records),
        **{
            f"{machine_type}/{name}": value
            for machine_type, record in run.records.items()
            for name, value in _renamed(record).items()
        },
    }


def _machine_type_metrics(record: ResultRecord) -> dict[str, float]:
    """Return the metrics of a nested run: of its machine type, and of the sections if there are several."""
    metrics = {**_renamed(record), **_timings([record])}
    for section, judged in record.sections.items():
        prefix = f"section_{section}/" if len(record.sections) > 1 else ""
        if prefix:
            metrics |= {f"{prefix}{name}": value for name, value in judged.official.items()}
        metrics |= {f"{prefix}in_domain/{name}": value for name, value in judged.in_domain.items()}
    return metrics


def _renamed(record: ResultRecord) -> dict[str, float]:
    """Return the metrics of one machine type, its score renamed so that it is not ranked with runs."""
    new_names = {"official_score": f"{record.rule.mean}_mean"}
    return {new_names.get(name, name): value for name, value in machine_type_metrics(record).items()}


def _timings(records: Sequence[ResultRecord]) -> dict[str, float]:
    return {
        "parameters": max(record.parameters for record in records),
        "training_steps": sum(record.training_steps for record in records),
        "training_seconds": sum(record.training_seconds for record in records),
        "scoring_seconds": sum(record.scoring_seconds for record in records),
        "clips_per_second": statistics.fmean(
            [record.clips_per_second for record in records],
            weights=[max(record.scoring_seconds, 1e-9) for record in records],
        ),
    }


def _at_step_0(metrics: Mapping[str, float]) -> list[tuple[str, float, int]]:
    return [(_metric_name(name), float(value), 0) for name, value in metrics.items()]


def _losses(curve: Curve, prefix: str = "") -> Iterator[tuple[str, float, int]]:
    for point in curve:
        for name, value in point.losses.items():
            yield _metric_name(f"loss/{prefix}{point.stage}/{name}"), float(value), point.epoch


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    """Return values in the notation of ``--set``."""
    return {name: assignments({name: value}).partition("=")[2] for name, value in values.items()}


def _metric_name(name: str) -> str:
    """Return a name without the characters that MLflow does not allow in names of metrics."""
    return re.sub(r"[^/\w.\- ]", "_", name)


def _name(prefix: str, settings: Mapping[str, object], suffix: str) -> str:
    """Return the name of a run; settings that are too long are cut and end in ``…``."""
    shown = f" {assignments(settings)}" if settings else ""
    n_characters = _NAME_CHARACTERS - len(prefix) - len(suffix)
    return prefix + (shown if len(shown) <= n_characters else f"{shown[: n_characters - 1]}…") + suffix


def _trials(n_trials: int) -> str:
    return "1 trial" if n_trials == 1 else f"{n_trials} trials"


def _times_ms(record: ResultRecord) -> tuple[int, int]:
    ended = datetime.fromisoformat(record.finished).timestamp()
    began = ended - record.training_seconds - record.scoring_seconds
    return round(1000 * began), round(1000 * ended)


def _hash(texts: Sequence[str]) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=12).hexdigest()
