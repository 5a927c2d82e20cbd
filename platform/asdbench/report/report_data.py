"""What a report shows, collected from the data set and the job store as plain records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asdbench import registry
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.commands import run_command
from asdbench.engine.evaluation import first_subset, labeled_clips, labeled_types
from asdbench.engine.job_store import DamagedFileError, JobStore
from asdbench.engine.search_record import SearchRecord, StudyRecord, from_json
from asdbench.engine.stored_results import current_results
from asdbench.engine.task_records import TrainingRecord
from asdbench.errors import InputError
from asdbench.io.records import RecordError
from asdbench.metrics import DEFAULT_THRESHOLD
from asdbench.metrics.bootstrap import SectionScores, bootstrap
from asdbench.metrics.resampled import Resampled
from asdbench.report.clip_errors import ClipError, ClipSound, clip_sound, worst_errors
from asdbench.report.figures.embeddings import EmbeddedType, project
from asdbench.report.figures.overview import Differences
from asdbench.report.figures.style import N_SERIES, shortened
from asdbench.report.formatting import format_settings
from asdbench.report.imported_results import imported_results, imported_rows
from asdbench.report.leaderboard import rows, with_imported, with_references
from asdbench.report.published_notes import published_results
from asdbench.report.rendering import Row
from asdbench.report.row_scores import SeedJobs, TypeScores, row_jobs, row_trainings, type_scores
from asdbench.report.score_intervals import BOOTSTRAP_SEED, ScoreIntervals, with_intervals

_MOST_ROWS = 20  # of the leaderboard
_RESAMPLES = 2000
_LABEL_LENGTH = 44  # of a row, in characters
_FEW_CLIPS = 30  # of a domain of a machine type


@dataclass(frozen=True, eq=False)
class SystemDetails:
    """What a report shows of one row of the leaderboard.

    Attributes
    ----------
    label : a name that no other row of the report has
    row : the row; one that lacks machine types has the seeds of those that it has
    types : its scores by machine type
    trainings : as `asdbench.report.row_scores.row_trainings` returns them
    embeddings : maps of the test clips of the first seed, by machine type; empty without embeddings
    """

    label: str
    row: Row
    types: Sequence[TypeScores]
    trainings: Mapping[tuple[str, int, str], TrainingRecord]
    embeddings: Sequence[EmbeddedType]


@dataclass(frozen=True)
class SearchSummary:
    """A search of settings: its record, and the importance of its parameters if that can be said."""

    record: StudyRecord
    importances: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class ReportData:
    """All that a report shows.

    Attributes
    ----------
    data, subset : the data set and the judged subset
    machine_types : the machine types with labels
    rows : of the leaderboard, with intervals, and imported and published results
    type_rows : the rows by machine type
    labels : a name for each measured row of ``rows``, in their order
    systems : the rows that have figures of their own, the best first, those that lack machine types last
    differences : between those that lack none, if two or more have a seed in common
    difference_seeds : the seeds that they have in common
    searches : the searches of settings on the data set
    errors : the worst errors of the best row, each with its sound if the recording can be read
    notes : what a reader should know about what is missing
    """

    data: DataSet
    subset: str
    machine_types: Sequence[str]
    rows: Sequence[Row]
    type_rows: Sequence[Row]
    labels: Sequence[str]
    systems: Sequence[SystemDetails]
    differences: Differences | None
    difference_seeds: Sequence[int]
    searches: Sequence[SearchSummary]
    errors: Sequence[tuple[ClipError, ClipSound | None]]
    notes: Sequence[str]


def collect(
    data: DataSet,
    store: JobStore,
    *,
    systems: Sequence[str] = (),
    only: Row | None = None,
    subset: str | None = None,
    threshold: str = DEFAULT_THRESHOLD,
    searches: Sequence[SearchSummary] = (),
) -> ReportData:
    """Collect what a report on a data set shows.

    Parameters
    ----------
    data, store
        The data set, and the store with the results on it.
    systems
        The systems to show, all if empty.
    only
        The only row of the leaderboard to show, instead of all rows of ``systems``.
    subset
        ``"dev"`` or ``"eval"``; by default dev if any of its test clips has a known label, else eval.
    threshold
        Method of the decision threshold.
    searches
        What to show of searches; see `stored_searches`.

    Raises
    ------
    InputError
        A system does not exist, or has no results on the data set.
    """
    for name in systems:
        registry.get(name)
    subset = subset or first_subset(labeled_clips(data))
    machine_types = labeled_types(data, subset=subset)
    stored = current_results(data, store, subset=subset)
    notes = list(stored.notes())
    every = rows(stored.records, machine_types=machine_types)
    table = [row for row in every if _is_shown(row, systems, only)]
    missing = [name for name in systems if name not in {row["system"] for row in table}]
    if missing:
        command = run_command(missing, data.name, seeds=(0,))
        raise InputError(
            f"there are no results of {missing[0]} on data set {data.name!r}{data.suffix(subset)}; "
            f"run {command!r}"
        )
    if len(table) > _MOST_ROWS:
        notes.append(
            f"the report shows the best {_MOST_ROWS} of {len(table)} rows; --systems chooses systems, and "
            f"'asdbench leaderboard --data {data.name} --format csv' has all rows"
        )
        table = table[:_MOST_ROWS]
    type_rows = rows(stored.records, machine_types=machine_types, by_type=True)
    judged = [_with_judged_seeds(row, type_rows) for row in table]
    notes += [_missing_note(row, data) for row in judged if not row["complete"]]
    notes += _few_clips_notes(data, subset)
    details = _details(judged, data, store, subset, threshold, notes)
    complete = [of for of in details if of.row["complete"]]
    resampled, seeds, sections = _resampled(complete, data)
    intervals = {
        _key(of.row): ScoreIntervals.of_system(place, resampled, sections)
        for place, of in enumerate(complete)
        if resampled is not None and of.row["seeds"] == seeds
    }
    kept = set(map(_key, table))
    published, _ = published_results(data, machine_types, subset)
    shown = _with_intervals(table, intervals, data, store, subset)
    if only is None and not systems:
        shown = _with_imported(shown, data, store, subset, machine_types, notes)
    return ReportData(
        data,
        subset,
        machine_types,
        with_references(shown, published, machine_types=machine_types, rule=data.rule),
        [row for row in type_rows if _key(row) in kept],
        row_labels(table),
        details,
        _differences(complete, resampled),
        seeds,
        [search for search in searches if not systems or search.record.system in systems],
        _errors(details, data, notes),
        notes,
    )


def _is_shown(row: Row, systems: Sequence[str], only: Row | None) -> bool:
    if only is not None:
        return _key(row) == _key(only)
    return not systems or row["system"] in systems


def _with_judged_seeds(row: Row, type_rows: Sequence[Row]) -> Row:
    """Return a row; one that lacks machine types gets the seeds that have all those that it does not lack."""
    if row["complete"]:
        return row
    seeds = [
        set(of_type["seeds"])
        for of_type in type_rows
        if _key(of_type) == _key(row) and of_type["machine_type"] in row["machine_types_done"]
    ]
    return row | {"seeds": sorted(set.intersection(*seeds)) if seeds else []}


def _missing_note(row: Row, data: DataSet) -> str:
    """Return what a row lacks; ``row`` is one of `_with_judged_seeds`."""
    settings = dict(row["settings"])
    command = run_command(
        [row["system"]],
        data.name,
        seeds=row["seeds"],
        machines=row["machine_types_missing"],
        subset=row["subset"],
        pseudo_anomaly_data=settings.pop("pseudo_anomaly_data", None),
        settings=settings,
    )
    cure = "" if row["tuned"] else f"; run {command!r}"
    return (
        f"{' '.join([row['system'], *format_settings(row['settings'])])} has no results on "
        f"{', '.join(row['machine_types_missing'])}, so it has no official score; its plots show "
        f"{', '.join(row['machine_types_done'])} only{cure}"
    )


def _few_clips_notes(data: DataSet, subset: str) -> list[str]:
    clips = labeled_clips(data, subset=subset)
    counts = clips.group_by("machine_type", "section", "domain").len()["len"]
    fewest = min(counts, default=_FEW_CLIPS)
    if fewest >= _FEW_CLIPS:
        return []
    return [f"there are as few as {fewest} test clips of a domain of a machine type, so intervals are wide"]


def row_labels(table: Sequence[Row]) -> list[str]:
    """Return a name for each row: its system, and what distinguishes it from other rows of that system.

    >>> row_labels([{"system": "a", "settings": {"epochs": 3}, "tuned": None}])
    ['a']
    >>> row_labels([{"system": "a", "settings": {}, "tuned": None, "chosen_on_labels": True}])
    ['a (chosen on labels)']
    """
    systems = [row["system"] for row in table]
    labels = []
    for row in table:
        parts = [row["system"]]
        if row["tuned"]:
            parts.append("(dev-tuned)")
        if row.get("chosen_on_labels"):
            parts.append("(chosen on labels)")
        if row.get("transductive"):
            parts.append("(transductive)")
        if systems.count(row["system"]) > 1 and row["settings"]:
            parts.append(" ".join(format_settings(row["settings"])))
        labels.append(shortened(" ".join(parts), _LABEL_LENGTH))
    return [f"{label} #{labels[:place].count(label) + 1}" if labels.count(label) > 1 else label
            for place, label in enumerate(labels)]  # fmt: skip


def stored_searches(store: JobStore, data: DataSet) -> list[StudyRecord]:
    """Return the records of searches of settings on a data set, those with most trials first."""
    records: list[SearchRecord] = []
    for name, content in store.root.read_each(store.root.names("searches", ".json")):
        try:
            records.append(from_json(content, path=f"{store.root}/{name}"))
        except RecordError:  # `current_results` has a note about it
            continue
    studies = [r for r in records if isinstance(r, StudyRecord) and r.data == data.name and r.trials]
    return sorted(studies, key=lambda study: (-study.trials_done, study.system, study.held_out or ""))


def _details(
    table: Sequence[Row],
    data: DataSet,
    store: JobStore,
    subset: str,
    threshold: str,
    notes: list[str],
) -> list[SystemDetails]:
    details: list[SystemDetails] = []
    for label, row in zip(row_labels(table), table, strict=True):
        if not row["seeds"] or len(details) == N_SERIES:
            continue
        jobs = row_jobs(row, data)
        try:
            types = type_scores(jobs, data, store, subset=subset, threshold=threshold)
            trainings = row_trainings(jobs, store)
            embeddings = _embeddings(jobs, types, store)
        except (DamagedFileError, FileNotFoundError) as error:
            notes.append(f"plots of {label} are left out: {error}")
            continue
        details.append(SystemDetails(label, row, types, trainings, embeddings))
    n_judged = sum(bool(row["seeds"]) for row in table)
    if n_judged > N_SERIES:
        notes.append(f"plots show the best {N_SERIES} of {n_judged} rows; --systems chooses systems")
    return details


def _embeddings(jobs: SeedJobs, types: Sequence[TypeScores], store: JobStore) -> list[EmbeddedType]:
    of_seed = next(iter(jobs.values()))
    maps = []
    for of_type in types:
        resolved = of_seed[of_type.machine_type]
        embeddings = None if resolved.members else store.embeddings(resolved.scoring_key)
        if embeddings is None:
            return []
        table = store.components(resolved.scoring_key)
        place_of = {
            clip_id: place
            for place, (clip_id, use) in enumerate(table.select("clip_id", "use").iter_rows())
            if use == "test"
        }
        places = [place_of[clip_id] for clip_id in of_type.clips["clip_id"]]
        points, explained = project(embeddings[places])
        maps.append(
            EmbeddedType(of_type.machine_type, points, explained, of_type.anomalous, of_type.domain("target"))
        )
    return maps


def _resampled(
    details: Sequence[SystemDetails], data: DataSet
) -> tuple[Resampled | None, list[int], list[SectionScores]]:
    """Return resampled scores of all systems over their common seeds, these seeds, and what was resampled."""
    seeds = sorted(set.intersection(*(set(of.row["seeds"]) for of in details))) if details else []
    if not seeds:
        return None, [], []
    sections = _sections(details, seeds)
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    overall, _ = bootstrap(sections, generator, rule=data.rule, resamples=_RESAMPLES)
    return overall, seeds, sections


def _with_intervals(
    table: Sequence[Row],
    intervals: Mapping[tuple[str, str, str], ScoreIntervals],
    data: DataSet,
    store: JobStore,
    subset: str,
) -> list[Row]:
    """Return the rows as `with_intervals` does; ``intervals`` are those that are known already.

    A system's interval does not depend on the systems that are resampled with it.
    """
    return [
        row | intervals[_key(row)].columns()
        if _key(row) in intervals
        else with_intervals([row], data, store, subset=subset)[0]
        for row in table
    ]


def _with_imported(
    table: Sequence[Row],
    data: DataSet,
    store: JobStore,
    subset: str,
    machine_types: Sequence[str],
    notes: list[str],
) -> list[Row]:
    """Return the rows with those of imported results, with their intervals; add notes on what is left out."""
    results, damaged = imported_results(data.workspace, data.name)
    imported, unfit = imported_rows(results, data, subset=subset, by_type=False)
    notes += [*damaged, *unfit]
    return with_imported(
        table,
        with_intervals(imported, data, store, subset=subset),
        machine_types=machine_types,
        rule=data.rule,
    )


def is_ours(row: Row) -> bool:
    """Return whether the results of a row were made here.

    >>> is_ours({"reference": None, "imported": {"source": "a letter"}})
    False
    """
    return not (row["reference"] or row.get("imported"))


def _key(row: Row) -> tuple[str, str, str]:
    return row["system"], str(row["settings"]), str(row["tuned"])


def _differences(details: Sequence[SystemDetails], resampled: Resampled | None) -> Differences | None:
    count = len(details)
    if resampled is None or count < 2:
        return None
    differences, low, high = np.zeros((3, count, count))
    is_sure = np.zeros((count, count), dtype=bool)
    for row in range(count):
        for column in range(count):
            differences[row, column] = resampled.difference(column, row)
            low[row, column], high[row, column] = resampled.difference_interval(column, row)
            is_sure[row, column] = resampled.is_sure(column, row)
    return Differences([of.label for of in details], differences, low, high, is_sure)


def _sections(details: Sequence[SystemDetails], seeds: Sequence[int]) -> list[SectionScores]:
    """Return the scores of all systems with the given seeds, section by section."""
    sections = []
    for of_type in zip(*(of.types for of in details), strict=True):
        scores = np.array([[each.scores[each.seeds.index(seed)] for seed in seeds] for each in of_type])
        clips = of_type[0]
        names = clips.clips["section"].to_numpy()
        for section in np.unique(names):
            mask = names == section
            sections.append(
                SectionScores(
                    clips.machine_type,
                    scores[:, :, mask],
                    clips.anomalous[mask],
                    clips.domain("target")[mask],
                    clips.clips["recording"].to_numpy()[mask],
                )
            )
    return sections


def _errors(
    details: Sequence[SystemDetails], data: DataSet, notes: list[str]
) -> list[tuple[ClipError, ClipSound | None]]:
    errors: list[tuple[ClipError, ClipSound | None]] = []
    unreadable: list[str] = []
    for error in worst_errors(details[0].types) if details else []:
        try:
            errors.append((error, clip_sound(error, data)))
        except InputError as reason:
            errors.append((error, None))
            unreadable.append(str(reason))
    if unreadable:
        notes.append(f"{len(unreadable)} recordings cannot be read, such as: {unreadable[0]}")
    return errors
