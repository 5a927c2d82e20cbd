"""What is recorded: finished runs, and searches with their trials, each as the MLflow runs that it becomes.

Idea: a `RunRecord` says in plain values all that one MLflow run is to hold, an `OutboxEntry` what is delivered
together. So an entry that waits in a file needs nothing but itself: not the job store nor the same version of
the platform, and it tells the commit whose code made the result.

Conventions: metrics are fractions between 0 and 1, times are in seconds. A run's start and end are those of
its results: when the last one was finished, less the time that training and scoring took. Metrics of a
machine type are named ``<machine type>/auc_source`` in the outer run and ``auc_source`` in the nested one,
losses ``loss/<stage>/<name>``, with the epoch as step. ``official_score`` is over all machine types of a run;
the same mean over one type is ``harmonic_mean``, or ``arithmetic_mean`` where that is the rule.

A trial's metric is ``score``, over the machine types that were finished when it was taken, whose number is
its step; its losses are ``loss/<machine type>/<stage>/<name>``.

Scores of development and of evaluation clips are not to be ranked together: runs on the eval subset are in an
experiment of their own, ``asdbench/<data set>/eval``; searches are in ``asdbench/<data set>/searches``.
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
from asdbench.metrics import Rule, summary

Status = Literal["FINISHED", "FAILED", "KILLED"]
TrialState = Literal["complete", "pruned", "failed"]

KEY, RESULTS = "asdbench.key", "asdbench.results"
TRIALS, TRIAL, IS_DEFAULT = "asdbench.trials", "asdbench.trial", "asdbench.default"
_STATUS: dict[TrialState, Status] = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
_NAME_CHARACTERS = 250  # MLflow's column


@dataclass(frozen=True)
class RunRecord:
    """All that one MLflow run is to hold.

    Attributes
    ----------
    name : of the run
    tags, params : texts by name
    metrics : name, value and step of each
    began_ms, ended_ms : since 1970
    status : the status it ends with
    files : text by path among its artifacts
    data : name and fingerprint of the data set, for the column "Dataset"; ``None`` leaves it empty
    nested : sheets of its nested runs
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
        """Return the sheet of what ``dataclasses.asdict`` made of one."""
        return cls(**{**values, "nested": [cls.from_dict(sheet) for sheet in values["nested"]]})

    def last(self, metric: str) -> float | None:
        """Return the value of a metric at its last step."""
        return max(
            ((step, value) for name, value, step in self.metrics if name == metric), default=(0, None)
        )[1]


@dataclass(frozen=True)
class OutboxEntry:
    """What is delivered together: a run with its nested ones, or one trial and the search that it is of.

    Attributes
    ----------
    experiment : name of its experiment, without ``asdbench/``
    run : the run, or the search
    trial : the trial, ``None`` where it is a run
    """

    experiment: str
    run: RunRecord
    trial: RunRecord | None = None

    @property
    def group(self) -> str:
        """Names what must not be written by two at once: the run, or the search of all its trials."""
        return _hash([self.experiment, self.run.tags[KEY]])

    def to_json(self) -> str:
        """Return the entry as JSON; losses that are not finite stay so."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "OutboxEntry":
        """Return the entry that `to_json` wrote; `ValueError`, `TypeError` or `KeyError` if it is none."""
        values = json.loads(text)
        trial = values["trial"] and RunRecord.from_dict(values["trial"])
        return cls(values["experiment"], RunRecord.from_dict(values["run"]), trial)


@dataclass(frozen=True, eq=False)
class Run:
    """One system with settings and a seed, on the machine types of a data set.

    Attributes
    ----------
    system : its name
    settings : all its settings
    changed_settings : those that differ from the defaults
    data : name of the data set
    fingerprint : hash of the data set's content
    seed : of the training
    complete : whether every machine type that can be judged is there; only then is there an official score
    records : machine type to result record, as ``evaluate`` stores it
    keys : machine type to the result's key in the job store
    scores : machine type to a table of ``clip_id``, ``use`` and ``score``
    curves : machine type to the training curve: dicts of ``stage``, ``epoch`` and losses by name
    subset : the subset that was judged
    tuned : ``search`` (its key), ``trials`` (their number) and ``protocol`` of the search that chose the
        settings; ``None`` if none did
    """

    system: str
    settings: Mapping[str, Any]
    changed_settings: Mapping[str, Any]
    data: str
    fingerprint: str
    seed: int
    complete: bool
    records: Mapping[str, Mapping[str, Any]]
    keys: Mapping[str, str]
    scores: Mapping[str, pl.DataFrame]
    curves: Mapping[str, Sequence[Mapping[str, Any]]]
    subset: str = "dev"
    tuned: Mapping[str, Any] | None = None

    @property
    def experiment(self) -> str:
        """The name of its experiment, without ``asdbench/``."""
        return self.data if self.subset == "dev" else f"{self.data}/{self.subset}"

    @property
    def key(self) -> str:
        """What makes it the same run: a later one with other results takes its place."""
        identity = [self.system, assignments(self.settings), self.data, self.fingerprint, str(self.seed)]
        if self.tuned is not None:
            identity.append(json.dumps(dict(self.tuned), sort_keys=True))
        return _hash(identity)

    @property
    def results(self) -> str:
        """A hash of the results' keys."""
        return _hash(sorted(self.keys.values()))

    def entry(self, source: Mapping[str, str]) -> OutboxEntry:
        """Return what is to be delivered; ``source`` are tags of the code that made it."""
        params = {**self.settings, "system": self.system, "data": self.data, "seed": self.seed}
        end = ""
        if self.tuned is not None:
            params["trials"] = self.tuned["trials"]
            end = f", dev-tuned, {_trials(self.tuned['trials'])}"
        begin = f"{self.system} seed {self.seed}"
        times = [_times_ms(record) for record in self.records.values()]
        sheet = RunRecord(
            name=_name(begin, self.changed_settings, end),
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
            metrics=_at_0(_run_metrics(self)),
            began_ms=min(began for began, _ in times),
            ended_ms=max(ended for _, ended in times),
            files={
                f"scores/{machine_type}.csv": scores.select("clip_id", "use", "score").write_csv()
                for machine_type, scores in self.scores.items()
            },
            data=(self.data, self.fingerprint),
            nested=[
                RunRecord(
                    name=_name(f"{machine_type}, {begin}", self.changed_settings, end),
                    tags={
                        KEY: self.key,
                        "asdbench.result": self.keys[machine_type],
                        "asdbench.system_code": record["code"],
                        **source,
                    },
                    params=_texts({**params, "machine_type": machine_type}),
                    metrics=[
                        *_at_0(_machine_type_metrics(record)),
                        *_losses(self.curves.get(machine_type, ())),
                    ],
                    began_ms=began,
                    ended_ms=ended,
                )
                for (machine_type, record), (began, ended) in zip(self.records.items(), times, strict=True)
            ],
        )
        return OutboxEntry(self.experiment, sheet)


@dataclass(frozen=True, eq=False)
class SearchRecord:
    """A search for settings, as far as its trials have it in common.

    Attributes
    ----------
    key : what makes it the same search, however often it is interrupted and goes on
    system : whose settings are searched
    data : name of the data set
    subset : the subset whose labels steer it
    protocol : ``"dev"`` or ``"leave-one-type-out"``
    held_out : the machine type that has no part in it, ``None`` if all have
    settings : settings that all its trials have
    seeds : over which a trial's score is averaged
    trials : how many are asked for; may grow when it goes on
    """

    key: str
    system: str
    data: str
    subset: str
    protocol: str
    held_out: str | None
    settings: Mapping[str, Any]
    seeds: Sequence[int]
    trials: int


@dataclass(frozen=True, eq=False)
class TrialRecord:
    """One try of a search.

    Attributes
    ----------
    number : in the search
    settings : those that it changes, beside the search's own; none of them makes it the default's trial
    state : ``"complete"``, ``"pruned"`` or ``"failed"``
    rungs : number of machine types finished, and the score over these, in order
    metrics : machine type to its metrics by name
    curves : machine type to the training curve: dicts of ``stage``, ``epoch`` and losses by name
    began, ended : seconds since 1970
    """

    number: int
    settings: Mapping[str, Any]
    state: TrialState
    rungs: Sequence[tuple[int, float]]
    metrics: Mapping[str, Mapping[str, float]]
    curves: Mapping[str, Sequence[Mapping[str, Any]]]
    began: float
    ended: float


def trial_entry(search: SearchRecord, trial: TrialRecord, source: Mapping[str, str]) -> OutboxEntry:
    """Return what is to be delivered of a trial; ``source`` are tags of the code that made it."""
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
    of_search = RunRecord(
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
    of_trial = RunRecord(
        name=_name(f"trial {trial.number}", trial.settings, ""),
        tags={**tags, TRIAL: str(trial.number), IS_DEFAULT: str(not trial.settings).lower()},
        params=_texts({**params, **trial.settings, "trial": trial.number}),
        metrics=[
            *(("score", float(score), finished) for finished, score in trial.rungs),
            *_at_0(
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
    return OutboxEntry(f"{search.data}/searches", of_search, of_trial)


def _run_metrics(run: Run) -> dict[str, float]:
    """Return the metrics of the outer run."""
    records = list(run.records.values())
    sections = [section["official"] for record in records for section in record["sections"].values()]
    means = summary(sections, rule=Rule.from_record(records[0]["rule"]))
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


def _machine_type_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a nested run: of the machine type, and of its sections if there are several."""
    metrics = {**_renamed(record), **_timings([record])}
    for section, judged in record["sections"].items():
        place = f"section_{section}/" if len(record["sections"]) > 1 else ""
        if place:
            metrics |= {f"{place}{name}": value for name, value in judged["official"].items()}
        metrics |= {f"{place}in_domain/{name}": value for name, value in judged["in_domain"].items()}
    return metrics


def _renamed(record: Mapping[str, Any]) -> dict[str, float]:
    """Call the score of one machine type by another name: else it is sorted among those of all types."""
    name_of = {"official_score": f"{record['rule']['mean']}_mean"}
    return {name_of.get(name, name): value for name, value in machine_type_metrics(record).items()}


def _timings(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {
        "parameters": max(record["parameters"] for record in records),
        "training_steps": sum(record["training_steps"] for record in records),
        "training_seconds": sum(record["training_seconds"] for record in records),
        "scoring_seconds": sum(record["scoring_seconds"] for record in records),
        "clips_per_second": statistics.fmean(
            [record["clips_per_second"] for record in records],
            weights=[max(record["scoring_seconds"], 1e-9) for record in records],
        ),
    }


def _at_0(metrics: Mapping[str, float]) -> list[tuple[str, float, int]]:
    return [(_metric_name(name), float(value), 0) for name, value in metrics.items()]


def _losses(curve: Sequence[Mapping[str, Any]], place: str = "") -> Iterator[tuple[str, float, int]]:
    for row in curve:
        for name, value in row.items():
            if name not in ("stage", "epoch"):
                yield _metric_name(f"loss/{place}{row['stage']}/{name}"), float(value), row["epoch"]


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as ``--set`` would take them."""
    return {name: assignments({name: value}).partition("=")[2] for name, value in values.items()}


def _metric_name(name: str) -> str:
    """Replace what MLflow does not allow in a metric's name."""
    return re.sub(r"[^/\w.\- ]", "_", name)


def _name(begin: str, settings: Mapping[str, Any], end: str) -> str:
    """Return the name of a run; settings that make it too long end in ``…``."""
    middle = f" {assignments(settings)}" if settings else ""
    room = _NAME_CHARACTERS - len(begin) - len(end)
    return begin + (middle if len(middle) <= room else f"{middle[: room - 1]}…") + end


def _trials(number: int) -> str:
    return "1 trial" if number == 1 else f"{number} trials"


def _times_ms(record: Mapping[str, Any]) -> tuple[int, int]:
    ended = datetime.fromisoformat(record["finished"]).timestamp()
    begun = ended - record["training_seconds"] - record["scoring_seconds"]
    return round(1000 * begun), round(1000 * ended)


def _hash(texts: Sequence[str]) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=12).hexdigest()
