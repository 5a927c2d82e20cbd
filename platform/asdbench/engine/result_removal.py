"""Removal of stored results, with the scores and trainings that no other result needs, and of searches.

Idea
----
A result names the trainings and the scores that it is computed from. Those of the removed results go unless
a remaining result names them, too. If a result cannot be read, what it names is unknown, and nothing goes. An
ensemble names no scores of its members; as long as one remains, all scores of its trainings stay.

The trainings of a search's trials have no results. They are found by their settings, which a training's
record holds, and which the search's record gives for each trial.

Conventions
-----------
Results and searches go last: after an interruption the same removal finds and deletes the rest. A training or
a score loses its record first, so that a part of one does not look finished.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

import polars as pl

from asdbench import registry
from asdbench.engine import search_record
from asdbench.engine.job_store import SCORINGS, TRAININGS, JobStore
from asdbench.engine.record_index import indexed_records
from asdbench.engine.result_index import Decoder
from asdbench.engine.result_selection import ResultSelection, SelectedResults
from asdbench.engine.search_record import SearchRecord, StudyRecord
from asdbench.engine.usage import check_unused
from asdbench.errors import InputError
from asdbench.io.records import RecordError

_AT_ONCE = 16


@dataclass(frozen=True)
class ResultRemoval:
    """What a removal deletes.

    Attributes
    ----------
    data : names of the data sets that it concerns
    results : names of the results' files
    scores, trainings, searches : keys in the job store
    n_bytes : size of all of it
    n_shared : number of trainings that other results need, so that they stay
    """

    data: frozenset[str]
    results: tuple[str, ...]
    scores: tuple[str, ...]
    trainings: tuple[str, ...]
    searches: tuple[str, ...]
    n_bytes: int
    n_shared: int


def matching_searches(store: JobStore, selection: ResultSelection) -> dict[str, SearchRecord]:
    """Return the searches that a selection means, by key: those that began with its settings."""
    matching = {}
    for key, record in _searches(store):
        if (
            selection.data in (None, record.data)
            and (not selection.systems or record.system in selection.systems)
            and (not selection.seeds or set(record.seeds) <= set(selection.seeds))
            and _starts_from(record, selection)
        ):
            matching[key] = record
    return matching


def plan_removal(
    store: JobStore,
    found: SelectedResults,
    searches: dict[str, SearchRecord],
) -> ResultRemoval:
    """Return what the removal of results and searches would delete; nothing is deleted yet.

    Parameters
    ----------
    store : the job store
    found : the results to remove, and all others
    searches : the searches to remove, by key

    Raises
    ------
    InputError
        A result cannot be read, so that what it needs is unknown.
    """
    if found.unreadable:
        error = found.unreadable[0]
        cure = "; or remove results with the asdbench that wrote it" if error.is_other_version else ""
        raise InputError(
            f"nothing can be removed, because the scores and trainings that an unreadable result needs are "
            f"unknown: {error}{cure}"
        )
    selected, others = found.selected, found.others
    trainings = indexed_records(store.root, TRAININGS).rows.with_columns(key=_key("name"))
    scorings = indexed_records(store.root, SCORINGS).rows.with_columns(key=_key("name"))
    removed, kept = _Keys.from_results(selected), _Keys.from_results(others)
    candidates = removed.trainings | set(_trial_trainings(trainings, searches.values()))
    is_candidate = pl.col("training").is_in(list(candidates)) | pl.col("key").is_in(list(removed.scores))
    of_ensembles = kept.trainings_of_ensembles(set(scorings["key"]))
    is_kept = pl.col("key").is_in(list(kept.scores)) | pl.col("training").is_in(list(of_ensembles))
    scores = scorings.filter(is_candidate & ~is_kept)["key"].to_list()
    gone = candidates - kept.trainings
    data = set(selected["data"]) | {record.data for record in searches.values()}
    folders = [*map(store.scores, scores), *map(store.training, gone)]
    files = [*selected["name"], *map(search_record.name_of, searches)]
    return ResultRemoval(
        data=frozenset(data),
        results=tuple(selected["name"]),
        scores=tuple(sorted(scores)),
        trainings=tuple(sorted(gone)),
        searches=tuple(sorted(searches)),
        n_bytes=_size_bytes(store, folders, files),
        n_shared=len(candidates & kept.trainings),
    )


def check(store: JobStore, removal: ResultRemoval) -> None:
    """Check that no run under way may use what a removal deletes; raises :class:`InputError` if one may."""
    claims = {*removal.trainings, *(f"searches/{key}" for key in removal.searches)}
    check_unused(store.root, removal.data, claims)


def remove(store: JobStore, removal: ResultRemoval) -> None:
    """Delete what a removal says, once it is sure that no run under way uses it.

    Raises
    ------
    InputError
        A run under way may use it. Nothing is deleted then.
    StorageError
        The storage cannot be reached. The same removal deletes the rest.
    """
    check(store, removal)

    def delete_folder(folder: str, record: str) -> None:
        store.root.delete(f"{folder}/{record}")
        store.root.delete_folder(folder)

    _each(lambda key: delete_folder(store.scores(key), "scoring.json"), removal.scores)
    _each(lambda key: delete_folder(store.training(key), "training.json"), removal.trainings)
    _each(store.root.delete, [*removal.results, *map(search_record.name_of, removal.searches)])


def _each(delete: Callable[[str], None], names: Sequence[str]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(delete, names):
            pass


@dataclass(frozen=True)
class _Keys:
    """What results are computed from: the keys of their trainings, by the key of their scores."""

    by_scores: dict[str, set[str]]

    @classmethod
    def from_results(cls, results: pl.DataFrame) -> "_Keys":
        by_scores: dict[str, set[str]] = {}
        for keys in Decoder().decode_all("keys", results["keys"].to_list()):
            by_scores.setdefault(keys.scoring, set()).update(keys.trainings)
        return cls(by_scores)

    @property
    def scores(self) -> set[str]:
        return set(self.by_scores)

    @property
    def trainings(self) -> set[str]:
        return set().union(*self.by_scores.values())

    def trainings_of_ensembles(self, stored: Collection[str]) -> set[str]:
        """Return the trainings of results whose own scores are not stored, since they join others'."""
        return set().union(*(keys for scores, keys in self.by_scores.items() if scores not in stored))


def _key(column: str) -> pl.Expr:
    """Return the key in the name of a record: of ``trainings/<key>/training.json``."""
    return pl.col(column).str.split("/").list.get(1)


def _size_bytes(store: JobStore, folders: Iterable[str], files: Iterable[str]) -> int:
    removed_folders, removed_files = set(folders), set(files)
    return sum(
        n_bytes
        for kind in ("trainings", "scores", "results", "searches")
        for name, n_bytes in store.root.sizes_bytes(kind).items()
        if name in removed_files or name.rpartition("/")[0] in removed_folders
    )


def _searches(store: JobStore) -> Iterator[tuple[str, SearchRecord]]:
    for name, content in store.root.read_each(store.root.names("searches", ".json")):
        try:
            yield PurePosixPath(name).stem, search_record.from_json(content, path=f"{store.root}/{name}")
        except RecordError:  # the leaderboard says what is wrong with it
            continue


def _starts_from(record: SearchRecord, selection: ResultSelection) -> bool:
    """Whether a search began with the settings of a selection."""
    wanted = selection.changed_settings([record.system])
    if wanted is None:
        return True
    try:
        start = registry.configure(record.system, record.start)
    except InputError:  # the system or a setting no longer exists
        return False
    return start.changed() == wanted.get(record.system)


def _trial_trainings(trainings: pl.DataFrame, searches: Iterable[SearchRecord]) -> Iterator[str]:
    """Yield the keys of the trainings of searches' trials."""
    for record in searches:
        if not isinstance(record, StudyRecord):
            continue
        trials = [{**record.start, **trial.parameters} for trial in record.trials]
        rows = trainings.filter(
            (pl.col("data") == record.data)
            & (pl.col("system") == _trainer(record.system))
            & pl.col("seed").is_in(list(record.seeds))
        )
        wanted: dict[tuple[str, ...], set[str]] = {}
        for key, text in rows.select("key", "settings").iter_rows():
            settings = json.loads(text)
            names = tuple(sorted(settings))
            if names not in wanted:
                wanted[names] = {_text({name: trial.get(name) for name in names}) for trial in trials}
            if _text(settings) in wanted[names]:
                yield key


def _trainer(system: str) -> str:
    """Return the name of the system whose training a system scores."""
    try:
        return registry.configure(system).trainer.name
    except InputError:  # it no longer exists
        return system


def _text(settings: object) -> str:
    return json.dumps(settings, sort_keys=True)
