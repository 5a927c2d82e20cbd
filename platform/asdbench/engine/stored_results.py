"""The stored results of a data set that match its recordings, its labels and the code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import polars as pl

from asdbench import registry
from asdbench.config import SettingValue
from asdbench.data.sets.catalog import DataSet
from asdbench.engine import search_record
from asdbench.engine.evaluation import JudgedTypes, first_subset, labeled_clips
from asdbench.engine.job_store import JobStore
from asdbench.engine.record_index import indexed_records
from asdbench.engine.result_checks import with_checks
from asdbench.engine.result_index import RESULTS, Decoder, IndexedResults, to_text
from asdbench.engine.result_record import ResultRecord, SearchProvenance
from asdbench.engine.search_record import SearchRecord, StoredTrial, StudyRecord
from asdbench.errors import InputError
from asdbench.io.records import RecordError


@dataclass(frozen=True)
class StoredResults:
    """What a job store holds on one subset of a data set.

    Attributes
    ----------
    records : the results that match the current recordings, labels and code, each decoded when it is read
    n_outdated : number of results that do not match
    shared_recordings : sentences on recordings that training and test clips of the data set share
    unreadable : why a stored result or search cannot be read, for each one; each error names the file
    """

    records: Sequence[ResultRecord]
    n_outdated: int
    unreadable: tuple[RecordError, ...]
    shared_recordings: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """Return what a reader should know about the records, and about results that are not among them."""
        notes = [*self.shared_recordings]
        if self.n_outdated:
            results = (
                "1 stored result is" if self.n_outdated == 1 else f"{self.n_outdated} stored results are"
            )
            notes.append(f"{results} out of date (recordings, labels or code have changed) and hidden")
        return [*notes, *map(str, self.unreadable)]


@dataclass(frozen=True)
class SearchedSettings:
    """What a search chose: a system with settings, and the data set of its pseudo-anomalies if another."""

    configured: registry.Configured
    pseudo_anomaly_data: str | None
    tuned: SearchProvenance


def current_results(data: DataSet, store: JobStore, *, subset: str | None = None) -> StoredResults:
    """Return the results that match the current data, labels and code, and what is wrong with the others.

    The results are those of one subset; the default is dev, or eval where no dev test clip has a known label.
    Of a search that was resumed, the results with its last choice of settings count. A result with settings
    that a user gave and a search has chosen by labels of this data set gets that search's ``tuned``.
    """
    labeled = labeled_clips(data)
    subset = subset or first_subset(labeled)
    stored = indexed_records(store.root, RESULTS)
    results = stored.rows.filter((pl.col("data") == data.name) & (pl.col("subset") == subset))
    results = with_checks(results, data, JudgedTypes(labeled), store.root)
    current = results.filter("is_current")
    searched, damaged = searched_settings(store, data)
    shown = _without_superseded(current)
    shown = shown.with_columns(tuned=pl.Series(list(_provenances(shown, searched)), dtype=pl.String()))
    return StoredResults(
        IndexedResults(shown),
        results.height - current.height,
        (*stored.unreadable, *damaged),
        data.shared_recordings,
    )


def _provenances(current: pl.DataFrame, searched: Sequence[SearchedSettings]) -> Iterator[str | None]:
    """Yield how the settings of each result were chosen; a search may have chosen what a user ran."""
    decoder = Decoder()
    systems = {item.configured.name for item in searched}
    known: dict[tuple[str, str, str | None], str | None] = {}
    columns = ("system", "changed_settings", "pseudo_anomaly_data", "tuned")
    for system, settings, pseudo_anomaly_data, tuned in current.select(columns).iter_rows():
        if tuned is not None or system not in systems:
            yield tuned
            continue
        choice = (system, settings, pseudo_anomaly_data)
        if choice not in known:
            configured = registry.configure(system, decoder.decode("changed_settings", settings))
            known[choice] = to_text(_chosen_by(configured, pseudo_anomaly_data, searched))
        yield known[choice]


def _without_superseded(current: pl.DataFrame) -> pl.DataFrame:
    """Leave out results of earlier choices of a search that was resumed."""
    decoder = Decoder()
    tuned = [
        (finished, decoder.decode("tuned", tuned), system, decoder.decode("changed_settings", settings), name)
        for finished, tuned, system, settings, name in current.filter(pl.col("tuned").is_not_null())
        .select("finished", "tuned", "system", "changed_settings", "name")
        .iter_rows()
    ]
    tuned.sort(key=lambda item: (item[0], item[1].trials))
    last = {(system, provenance.search): settings for _, provenance, system, settings, _ in tuned}
    superseded = [
        name for _, provenance, system, settings, name in tuned if last[system, provenance.search] != settings
    ]
    return current.filter(~pl.col("name").is_in(superseded))


def _chosen_by(
    configured: registry.Configured, pseudo_anomaly_data: str | None, searched: Sequence[SearchedSettings]
) -> SearchProvenance | None:
    """Return the search that chose settings, if any did."""
    chosen = (
        s.tuned
        for s in searched
        if (s.configured, s.pseudo_anomaly_data) == (configured, pseudo_anomaly_data)
    )
    return next(chosen, None)


def searched_settings(store: JobStore, data: DataSet) -> tuple[list[SearchedSettings], list[RecordError]]:
    """Return the settings that searches by labels of a data set have chosen, and the unreadable searches.

    The settings of the search with the most trials come first. Unchanged settings do not count as chosen.
    Reads ``searches/<key>.json``; a search of a system or setting that no longer exists is left out.
    """
    settings: list[SearchedSettings] = []
    unreadable: list[RecordError] = []
    for name, content in store.root.read_each(store.root.names("searches", ".json")):
        try:
            record = search_record.from_json(content, path=f"{store.root}/{name}")
        except RecordError as error:
            unreadable.append(error)
            continue
        if record.data == data.name:
            try:
                settings += list(_chosen(record, PurePosixPath(name).stem))
            except InputError:  # the system or a setting no longer exists
                continue
    return sorted(settings, key=lambda item: -item.tuned.trials), unreadable


def _chosen(record: SearchRecord, key: str) -> Iterator[SearchedSettings]:
    """Yield the best of a search's trials, and each that was the best before the search was resumed."""
    if record.best is None:
        return
    untuned = registry.configure(record.system, dict(record.start))
    for settings, tuned in _choices(record, key):
        configured = registry.configure(record.system, dict(settings))
        if configured != untuned:
            pseudo_anomaly_data = record.pseudo_anomaly_data if configured.takes_pseudo_anomalies() else None
            yield SearchedSettings(configured, pseudo_anomaly_data, tuned)


def _choices(record: SearchRecord, key: str) -> Iterator[tuple[Mapping[str, SettingValue], SearchProvenance]]:
    """Yield the settings that a search has chosen, the last ones first, and how they were chosen."""
    assert record.best is not None
    settings, score = record.best.settings, record.best.score
    if not isinstance(record, StudyRecord):
        report = record.report
        yield (
            settings,
            SearchProvenance(
                key, report.member_trials, record.protocol, record.seeds, score, report.weight_vectors
            ),
        )
        return
    yield settings, SearchProvenance(key, record.trials_done, record.protocol, record.seeds, score)
    for trial, n_trials in _former_best(record):
        tuned = SearchProvenance(key, n_trials, record.protocol, record.seeds, trial.rungs[-1])
        yield {**record.start, **trial.parameters}, tuned


def _former_best(record: StudyRecord) -> Iterator[tuple[StoredTrial, int]]:
    """Yield each trial that was the best until a later one was better, with the number of trials by then."""
    leader: StoredTrial | None = None
    for trial in record.trials:
        if trial.state == "complete" and (leader is None or trial.rungs[-1] > leader.rungs[-1]):
            if leader is not None:
                yield leader, trial.number
            leader = trial
