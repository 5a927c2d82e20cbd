"""The stored results of a data set that match its recordings, its labels and the code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import msgspec
import polars as pl

from asdbench import registry
from asdbench.data.sets.catalog import DataSet
from asdbench.engine import result_record, search_record
from asdbench.engine.evaluation import first_subset, labeled_clips, result_key, truth_of_type
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.result_record import ResultRecord, SearchProvenance
from asdbench.engine.search_record import SearchRecord, Settings, StoredTrial, StudyRecord
from asdbench.errors import InputError
from asdbench.io.records import RecordError


@dataclass(frozen=True)
class StoredResults:
    """What a job store holds on one subset of a data set.

    Attributes
    ----------
    records : the results that match the current recordings, labels and code
    n_outdated : number of results that do not match
    unreadable : why a stored result or search cannot be read, for each one; each error names the file
    """

    records: tuple[ResultRecord, ...]
    n_outdated: int
    unreadable: tuple[RecordError, ...]

    def notes(self) -> list[str]:
        """Return what a reader of the records should know about the results that are not among them."""
        notes = []
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
    truths = {
        machine_type: truth_of_type(labeled, machine_type)
        for machine_type in labeled["machine_type"].unique()
    }
    current: list[tuple[ResolvedJob, ResultRecord]] = []
    unreadable: list[RecordError] = []
    n_outdated = 0
    for name, content in store.root.read_each(store.root.names("results", ".json")):
        try:
            record = result_record.from_json(content, path=f"{store.root}/{name}")
        except RecordError as error:
            unreadable.append(error)
            continue
        if record.data != data.name or record.subset != subset:
            continue
        resolved = _current_job(record, data, truths)
        if resolved is not None and _key(resolved, record, truths) == PurePosixPath(name).stem:
            current.append((resolved, record))
        else:
            n_outdated += 1
    searched, damaged = searched_settings(store, data)
    return StoredResults(tuple(_with_searches(current, searched)), n_outdated, (*unreadable, *damaged))


def _current_job(record: ResultRecord, data: DataSet, truths: dict[str, pl.DataFrame]) -> ResolvedJob | None:
    """Return the job of a result, ``None`` if its system, settings, data or machine type no longer exist."""
    if record.machine_type not in truths:
        return None
    job = Job(
        record.system,
        record.changed_settings,
        data.name,
        record.machine_type,
        record.seed,
        record.pseudo_anomaly_data,
    )
    try:
        resolved = ResolvedJob.from_job(job, data)
        resolved.scoring_key  # noqa: B018 - looks up the data set of the pseudo-anomalies
    except InputError:
        return None
    return resolved


def _key(resolved: ResolvedJob, record: ResultRecord, truths: dict[str, pl.DataFrame]) -> str:
    truth = truths[record.machine_type]
    return result_key(resolved, truth, subset=record.subset, tuned=record.tuned)


def _with_searches(
    current: Sequence[tuple[ResolvedJob, ResultRecord]], searched: Sequence[SearchedSettings]
) -> Iterator[ResultRecord]:
    """Yield the records that no search superseded, with ``tuned`` in what a user ran."""
    last: dict[tuple[str, str], Settings] = {}
    tuned = [(record, record.tuned) for _, record in current if record.tuned]
    for record, provenance in sorted(tuned, key=lambda item: (item[0].finished, item[1].trials)):
        last[record.system, provenance.search] = record.changed_settings
    for resolved, record in current:
        if record.tuned is None:
            yield msgspec.structs.replace(record, tuned=_chosen_by(resolved, searched))
        elif last[record.system, record.tuned.search] == record.changed_settings:
            yield record


def _chosen_by(resolved: ResolvedJob, searched: Sequence[SearchedSettings]) -> SearchProvenance | None:
    """Return the search that chose the settings of a job, if any did."""
    settings = (resolved.configured, resolved.job.pseudo_anomaly_data)
    chosen = (s.tuned for s in searched if (s.configured, s.pseudo_anomaly_data) == settings)
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
    choices = [(record.best.settings, record.trials_done)]
    if isinstance(record, StudyRecord):
        choices += [({**record.start, **t.parameters}, n_trials) for t, n_trials in _former_best(record)]
    for settings, n_trials in choices:
        configured = registry.configure(record.system, dict(settings))
        if configured != untuned:
            pseudo_anomaly_data = record.pseudo_anomaly_data if configured.takes_pseudo_anomalies() else None
            provenance = SearchProvenance(key, n_trials, record.protocol)
            yield SearchedSettings(configured, pseudo_anomaly_data, provenance)


def _former_best(record: StudyRecord) -> Iterator[tuple[StoredTrial, int]]:
    """Yield each trial that was the best until a later one was better, with the number of trials by then."""
    leader: StoredTrial | None = None
    for trial in record.trials:
        if trial.state == "complete" and (leader is None or trial.rungs[-1] > leader.rungs[-1]):
            if leader is not None:
                yield leader, trial.number
            leader = trial
