"""The MLflow runs of a leaderboard: one run for each row, and one nested run for each of its seeds.

Conventions: a row's metrics are what people read, in percent with two decimals; see
`asdbench.report.leaderboard.display_metrics`. A seed has no ``official_score``, so that nothing ranks a
single lucky seed above a mean: its own is ``seed_score``. A seed's metrics are grouped by machine type,
``metrics/<machine type>/auc_source`` and so on, and its training curves are
``curves/<machine type>/<stage> <name>`` with the epoch as step.

A seed starts and ends with its results: the end is when the last one was finished, the start is earlier by
the time of training and scoring.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import asdbench
from asdbench.engine.result_metrics import machine_type_metrics
from asdbench.engine.result_record import ResultRecord
from asdbench.metrics.threshold import binomial_interval
from asdbench.tracking.records import (
    AS_OF,
    KEY,
    KIND,
    RESULTS,
    SEED,
    STORE,
    BoardEntry,
    Curve,
    DatasetRecord,
    RowEntry,
    RunRecord,
    at_step_0,
    hash_of,
    losses,
    percent,
    texts,
)
from asdbench.tracking.views import NOTE, leaderboard_views

_TABLES = "mlflow.loggedArtifacts"
_COUNTS = ("threshold", "false_alarms", "normals", "test_")


@dataclass(frozen=True, eq=False)
class SeedResults:
    """The results of a row with one seed.

    Attributes
    ----------
    seed : the seed
    score : the official score of the seed as a fraction, ``None`` if a machine type is missing
    records : result record by machine type
    curves : training curve by machine type
    """

    seed: int
    score: float | None
    records: Mapping[str, ResultRecord]
    curves: Mapping[str, Curve]

    @property
    def results(self) -> str:
        """A hash of the results."""
        return hash_of(
            sorted(f"{kind} {record.keys.scoring} {record.finished}" for kind, record in self.records.items())
        )


@dataclass(frozen=True, eq=False)
class BoardRow:
    """A row of the leaderboard, as it is recorded.

    Attributes
    ----------
    store : id of the job store
    experiment : name of the experiment, without ``asdbench/``
    key : identity of the row, also among the rows of other job stores
    results : hash of its results
    name : name of the row, for people
    system : name of the system
    settings : its changed settings
    metrics : what people read, by name
    tags : more tags
    seeds : the results of its seeds
    dataset : the data set
    as_of_ns : when the stored results were read, in nanoseconds since 1970
    files : artifacts by path
    tables : the paths of those that MLflow shows as tables
    """

    store: str
    experiment: str
    key: str
    results: str
    name: str
    system: str
    settings: Mapping[str, object]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    seeds: Sequence[SeedResults]
    dataset: DatasetRecord
    as_of_ns: int
    files: Mapping[str, bytes] = field(default_factory=dict)
    tables: Sequence[str] = ()

    def entry(self, source: Mapping[str, str]) -> RowEntry:
        """Return the entry to deliver; ``source`` are tags that identify the code."""
        shared = {
            KEY: self.key,
            STORE: self.store,
            "asdbench.version": asdbench.__version__,
            "asdbench.system": self.system,
            **self.tags,
            **source,
        }
        seeds = [_seed_record(seed, self, shared) for seed in self.seeds]
        row = RunRecord(
            name=self.name,
            tags={
                **shared,
                KIND: "row",
                RESULTS: self.results,
                AS_OF: str(self.as_of_ns),
                _TABLES: json.dumps([{"path": name, "type": "table"} for name in self.tables]),
            },
            params=texts({**self.settings, "system": self.system, "data": self.dataset.name}),
            metrics=at_step_0(self.metrics),
            began_ms=min(seed.began_ms for seed in seeds),
            ended_ms=max(seed.ended_ms for seed in seeds),
            files=dict(self.files),
            dataset=self.dataset,
        )
        return RowEntry(self.experiment, row, seeds)


def board_entry(
    store: str,
    experiment: str,
    keys: Sequence[str],
    *,
    as_of_ns: int,
    metrics: Sequence[str],
    note: str,
) -> BoardEntry:
    """Return the entry that arranges a leaderboard.

    Parameters
    ----------
    store, experiment : as in `BoardRow`
    keys : of all rows that are on the leaderboard
    as_of_ns : when the stored results were read
    metrics : names of the metrics of the data set's rule
    note : what the page says above the table, in Markdown
    """
    return BoardEntry(experiment, store, as_of_ns, list(keys), {NOTE: note, **leaderboard_views(metrics)})


def _seed_record(seed: SeedResults, row: BoardRow, shared: Mapping[str, str]) -> RunRecord:
    times = [_times_ms(record) for record in seed.records.values()]
    metrics = {} if seed.score is None else {"seed_score": percent(seed.score)}
    for machine_type, record in seed.records.items():
        metrics |= {f"metrics/{machine_type}/{name}": value for name, value in _type_metrics(record).items()}
    return RunRecord(
        name=f"seed {seed.seed}",
        tags={
            **shared,
            KIND: "seed",
            SEED: str(seed.seed),
            RESULTS: seed.results,
            "asdbench.machine_types": ", ".join(seed.records),
        },
        params=texts({**row.settings, "system": row.system, "data": row.dataset.name, "seed": seed.seed}),
        metrics=[
            *at_step_0(metrics),
            *(
                point
                for machine_type, curve in seed.curves.items()
                for point in losses(curve, f"curves/{machine_type}")
            ),
        ],
        began_ms=min(began for began, _ in times),
        ended_ms=max(ended for _, ended in times),
    )


def _type_metrics(record: ResultRecord) -> dict[str, float]:
    """Return the metrics of one machine type in percent, and of its sections if there are several."""
    of_type = machine_type_metrics(record)
    metrics = {
        name: value if name.startswith(_COUNTS) else percent(value)
        for name, value in of_type.items()
        if not name.endswith("_half_width")
    }
    metrics["score"] = metrics.pop("official_score")
    for suffix in ("_source", "_target", ""):
        metrics |= _alarm_rate(suffix, of_type)
    if len(record.sections) > 1:
        metrics |= {
            f"section_{section}/{name}": percent(value)
            for section, judged in record.sections.items()
            for name, value in judged.official.items()
        }
    return metrics


def _alarm_rate(suffix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the false alarm rate of the normal test clips of a domain in percent, with its 95 % interval."""
    n_normals = int(metrics.get(f"test_normals{suffix}", 0))
    if not n_normals:
        return {}
    n_alarms = int(metrics[f"test_false_alarms{suffix}"])
    low, high = binomial_interval(n_alarms, n_normals)
    name = f"false_alarm_rate{suffix}"
    return {
        name: percent(n_alarms / n_normals),
        f"{name}_low": percent(low),
        f"{name}_high": percent(high),
    }


def _times_ms(record: ResultRecord) -> tuple[int, int]:
    ended = datetime.fromisoformat(record.finished).timestamp()
    began = ended - record.training_seconds - record.scoring_seconds
    return round(1000 * began), round(1000 * ended)
