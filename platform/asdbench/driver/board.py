"""From stored results to MLflow's leaderboard: the rows that have changed, and what surrounds them."""

import itertools
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from asdbench import registry
from asdbench.config import assignments
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.driver.board_files import SCORES_TABLE, row_files
from asdbench.driver.board_models import model_entries, outdated_models
from asdbench.driver.judging import Judged
from asdbench.driver.study_results import curve_of
from asdbench.engine.evaluation import labeled_types, training_records
from asdbench.engine.job_store import DamagedFileError, JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.result_record import ResultRecord
from asdbench.engine.stored_results import current_results
from asdbench.io.workspace import Workspace
from asdbench.report.formatting import format_search
from asdbench.report.leaderboard import (
    Part,
    RowKey,
    display_metrics,
    row_key,
    row_parts,
    rows,
    section_score,
    settings_text,
)
from asdbench.report.leaderboard_note import leaderboard_note
from asdbench.report.rendering import Row
from asdbench.report.row_weights import COLUMNS as WEIGHTS_COLUMNS
from asdbench.report.score_intervals import with_intervals

if TYPE_CHECKING:
    from asdbench.tracking.mlflow_runs import Store
    from asdbench.tracking.recorder import Recorder
    from asdbench.tracking.records import DatasetRecord, Entry
    from asdbench.tracking.rows import BoardRow, SeedResults

_REVISION = 2  # changes whenever the same results would be recorded differently
_STORE_ID = "store_id"  # a file of the job store
_NAME_CHARACTERS = 250  # MLflow's column
_COLUMN_TYPES = {pl.Int64: "long", pl.Float64: "double", pl.Utf8: "string"}


@dataclass(frozen=True)
class Board:
    """The leaderboard of a data set, as it is recorded.

    Attributes
    ----------
    data, subset : the data set, and the subset of its test clips
    store : the job store with the results
    rows : rows of `asdbench.report.leaderboard.rows`, the best first
    records : the results that they are made of
    as_of_ns : when these were read, in nanoseconds since 1970
    """

    data: DataSet
    subset: str
    store: JobStore
    rows: Sequence[Row]
    records: Sequence[ResultRecord]
    as_of_ns: int

    @classmethod
    def from_store(cls, data: DataSet, store: JobStore, *, subset: str) -> "Board":
        """Read the current leaderboard."""
        as_of_ns = time.time_ns()
        records = current_results(data, store, subset=subset).records
        table = rows(records, machine_types=labeled_types(data, subset=subset))
        return cls(data, subset, store, table, records, as_of_ns)

    def rows_of(self, judged: Collection[Judged]) -> list[Row]:
        """Return the rows that results belong to."""
        keys = {(item.system, settings_text(item.settings)) for item in judged if item.subset == self.subset}
        return [row for row in self.rows if (row["system"], settings_text(row["settings"])) in keys]

    def outdated(self, recorded: Mapping[str, str]) -> list[Row]:
        """Return the rows that are not recorded as they are; ``recorded`` has the hash of each, by key."""
        return [row for row in self.rows if recorded.get(self.key(row)) != self.results(row)]

    def entries(self, changed: Sequence[Row], source: Mapping[str, str]) -> "Iterator[Entry]":
        """Yield what is to be recorded of some rows, with their intervals, and of the whole leaderboard.

        ``source`` are tags that identify the code.
        """
        from asdbench.tracking.rows import board_entry

        dataset = _dataset(self.data, self.subset)
        for row in changed:
            (complete,) = with_intervals([row], self.data, self.store, subset=self.subset)
            yield self._row(complete, dataset).entry(source)
        yield board_entry(
            self.store_id,
            self.experiment,
            [self.key(row) for row in self.rows],
            as_of_ns=self.as_of_ns,
            metrics=self.data.rule.metrics,
            note=leaderboard_note(self.rows, self.data, subset=self.subset),
        )

    @property
    def experiment(self) -> str:
        """The name of its experiment, without ``asdbench/``.

        Scores on development clips and on evaluation clips must not be ranked together.
        """
        return self.data.name if self.subset == "dev" else f"{self.data.name}/{self.subset}"

    @cached_property
    def _parts(self) -> "dict[RowKey, dict[tuple[int, str], Part]]":
        return row_parts(self.rows, self.records)

    def key(self, row: Row) -> str:
        """Return the identity of a row, also among the rows of other job stores."""
        from asdbench.tracking.records import hash_of

        return hash_of([self.store_id, self.experiment, *row_key(row)])

    def results(self, row: Row) -> str:
        """Return a hash of the results of a row, from which all the rest of it follows."""
        from asdbench.tracking.records import hash_of

        parts = sorted(
            (seed, kind, part.finished) for (seed, kind), part in self._parts[row_key(row)].items()
        )
        shown = row["official_score"], row["tuned"], parts, row["other_versions"]
        return hash_of([str(_REVISION), *map(repr, shown)])

    def _row(self, row: Row, dataset: "DatasetRecord") -> "BoardRow":
        from asdbench.tracking.rows import BoardRow

        preset = preset_of(row)
        seeds = sorted({seed for seed, _ in self._parts[row_key(row)]})
        return BoardRow(
            store=self.store_id,
            experiment=self.experiment,
            key=self.key(row),
            results=self.results(row),
            name=row_name(row, preset),
            system=row["system"],
            settings=row["settings"],
            metrics=display_metrics(row),
            tags=self._tags(row, preset),
            seeds=[self._seed(seed, self.records_of(row, seed), row) for seed in seeds],
            dataset=dataset,
            as_of_ns=self.as_of_ns,
            files=row_files(row, self.data, self.store, subset=self.subset),
            tables=[SCORES_TABLE],
        )

    def records_of(self, row: Row, seed: int) -> dict[str, ResultRecord]:
        """Return the results of a row with one seed, by machine type."""
        parts = sorted(self._parts[row_key(row)].items())
        return {of: self.records[part.place] for (of_seed, of), part in parts if of_seed == seed}

    def _tags(self, row: Row, preset: str | None) -> dict[str, str]:
        tags = {
            "asdbench.preset": preset or "none",
            "asdbench.tuned": tuned_label(row),
            "asdbench.chosen_on_labels": "yes" if row["chosen_on_labels"] else "no",
            "asdbench.transductive": "yes" if row["transductive"] else "no",
            "asdbench.subset": self.subset,
            "asdbench.machine_types": ", ".join(row["machine_types_done"]),
            "asdbench.data_fingerprint": self.data.fingerprint(),
            "asdbench.versions": ", ".join(row["versions"]),
            "asdbench.other_major_versions": ", ".join(row["other_versions"]) or "none",
        }
        weights = {f"asdbench.{name}": "; ".join(row.get(name, ())) for name in WEIGHTS_COLUMNS}
        if self.data.version is not None:
            tags["asdbench.data_version"] = self.data.version
        tags |= {name: text for name, text in weights.items() if text}
        return tags | _search_tags(row["tuned"])

    def _seed(self, seed: int, records: Mapping[str, ResultRecord], row: Row) -> "SeedResults":
        from asdbench.tracking.rows import SeedResults

        score = section_score(records.values()) if seed in row["seeds"] else None
        curves = {machine_type: self._curve(record) for machine_type, record in records.items()}
        return SeedResults(seed, score, records, curves)

    def _curve(self, record: ResultRecord) -> Any:
        """Return the training curve of a result; nothing where the training can no longer be read."""
        job = Job(
            record.system,
            record.changed_settings,
            record.data,
            record.machine_type,
            record.seed,
            record.pseudo_anomaly_data,
        )
        try:
            return curve_of(training_records(ResolvedJob.from_job(job, self.data), self.store))
        except (DamagedFileError, FileNotFoundError):
            return ()

    @cached_property
    def store_id(self) -> str:
        """The id of the job store, which tells its rows from those of other users of a server."""
        self.store.root.write_new(_STORE_ID, uuid.uuid4().hex.encode())
        return self.store.root.read(_STORE_ID).decode()


def record_judged(judged: Collection[Judged], data: DataSet, store: JobStore, recorder: "Recorder") -> None:
    """Record the rows of the leaderboard that results belong to, and their models."""
    for subset in sorted({item.subset for item in judged}):
        board = Board.from_store(data, store, subset=subset)
        changed = board.rows_of(judged)
        for entry in board.entries(changed, recorder.source):
            recorder.put(entry)
        for model in model_entries(board, {row["system"] for row in changed}):
            recorder.put(model)


def outdated_entries(workspace: Workspace, mlflow: "Store", source: Mapping[str, str]) -> "Iterator[Entry]":
    """Yield what brings the leaderboards of all data sets in an MLflow store up to date.

    Data sets that have never had a result are left out.
    """
    store = JobStore.from_workspace(workspace)
    for name in catalog.names(workspace):
        data = catalog.load(workspace, name)
        for subset in data.subsets():
            board = Board.from_store(data, store, subset=subset)
            recorded = mlflow.recorded_rows(board.experiment, board.store_id)
            changed = board.outdated(recorded)
            if changed or len(recorded) != len(board.rows):
                yield from board.entries(changed, source)
            if board.rows and subset == "dev":
                yield from outdated_models(board, mlflow.recorded_models(board.experiment, board.store_id))


def preset_of(row: Row) -> str | None:
    """Return the preset, or two as ``fast,altered``, whose settings a row has; of several the most."""
    found = {
        preset: len(expected)
        for preset, expected in _changes_by_preset(row["system"]).items()
        if expected and expected.items() <= row["settings"].items()
    }
    return max(found, key=lambda preset: found[preset]) if found else None


@cache
def _changes_by_preset(system: str) -> dict[str, dict[str, Any]]:
    """Return the settings that each preset of a system and each pair of them changes."""
    configured = registry.configure(system)
    systems = [system, *(member.name for member in configured.members)]
    names = dict.fromkeys(preset for name in systems for preset in registry.presets_of(name))
    together = [*names, *map(",".join, itertools.combinations(names, 2))]
    return {preset: registry.configure(system, preset=preset).changed() for preset in together}


def row_name(row: Row, preset: str | None) -> str:
    """Return the name of a row for people: its system, the settings beyond the preset, and whether tuned."""
    expected = registry.configure(row["system"], preset=preset).changed() if preset else {}
    settings = {name: value for name, value in row["settings"].items() if name not in expected}
    suffix = f", {tuned_label(row)}" if row["tuned"] else ""
    shown = f"{row['system']} {assignments(settings)}" if settings else row["system"]
    n_characters = _NAME_CHARACTERS - len(suffix)
    return (shown if len(shown) <= n_characters else f"{shown[: n_characters - 1]}…") + suffix


def _search_tags(tuned: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the tags of the search that chose the settings of a row."""
    if tuned is None:
        return {}
    tags = {name: str(tuned[name]) for name in ("search", "trials", "protocol")}
    tags["search_seeds"] = " ".join(map(str, tuned["seeds"]))
    if tuned["weight_vectors"]:
        tags["weight_vectors"] = str(tuned["weight_vectors"])
    return {f"asdbench.{name}": text for name, text in tags.items()}


def tuned_label(row: Row) -> str:
    """Return how the settings of a row were chosen, as the leaderboard says it; ``no`` if by nobody."""
    return format_search(row["tuned"]) if row["tuned"] else "no"


def _dataset(data: DataSet, subset: str) -> "DatasetRecord":
    from asdbench.tracking.records import DatasetRecord

    clips = data.clips.filter(pl.col("subset") == subset)
    return DatasetRecord(
        name=data.name,
        digest=data.fingerprint()[:8],
        source=str(data.root),
        columns={name: _COLUMN_TYPES.get(type(kind), "string") for name, kind in data.clips.schema.items()},
        profile={
            "clips": clips.height,
            "hours": round(float(clips["duration_s"].sum()) / 3600, 2),
            "training clips": clips.filter(pl.col("split") == "train").height,
            "test clips": clips.filter(pl.col("split") == "test").height,
            "machine types": ", ".join(clips["machine_type"].unique().sort()),
            "domains": ", ".join(clips["domain"].drop_nulls().unique().sort()) or "none",
            "layout": data.layout or "none",
            "subset": subset,
            "fingerprint": data.fingerprint(),
        },
    )
