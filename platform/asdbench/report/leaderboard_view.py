"""The leaderboard of a data set, with notes about results that it leaves out."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import first_subset, labeled_clips, labeled_types
from asdbench.engine.job_store import TRAININGS, JobStore
from asdbench.engine.record_index import indexed_records
from asdbench.engine.stored_results import current_results
from asdbench.io.workspace import Workspace
from asdbench.metrics import DEFAULT_THRESHOLD, Rule
from asdbench.report.chance_notes import low_auc_notes, low_aucs
from asdbench.report.formatting import format_amount
from asdbench.report.imported_results import imported_results, imported_rows
from asdbench.report.interval_notes import kinds_of_types
from asdbench.report.leaderboard import default_columns, rows, with_imported, with_references
from asdbench.report.leaderboard_selection import Selection
from asdbench.report.leaderboard_table import markdown_table, terminal_table
from asdbench.report.published_notes import published_results, standing_notes
from asdbench.report.rendering import DisplayTable, Report, Row
from asdbench.report.row_selectors import numbered
from asdbench.report.score_intervals import with_intervals

ALL_ROWS = Selection()


@dataclass(frozen=True)
class Leaderboard(Report):
    """The systems on a data set, the best first.

    Printed, it is a table with scores in percent; ``rows`` and ``frame`` hold fractions between 0 and 1.

    Attributes
    ----------
    data, subset : name of the data set, and the subset of its test clips: ``"dev"`` or ``"eval"``
    rows : one dict for each row, with the keys that :func:`asdbench.report.leaderboard.rows` describes; those
        for all machine types begin with ``number``, by which :func:`asdbench.compare` takes them
    columns : names of the columns, also of a leaderboard without rows
    rule : how the data set computes the official score
    notes : what a reader should know about results that are not among the rows
    title : heading of the table
    hint : what to do if there are no rows, else empty
    """

    data: str
    subset: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    rule: Rule
    notes: tuple[str, ...]
    title: str
    hint: str

    @property
    def frame(self) -> pl.DataFrame:
        """The rows as a polars data frame; a mapping such as the settings becomes ``key=value`` pairs."""
        import polars as pl

        return super().frame if self.rows else pl.DataFrame(schema=self.columns)

    def tables(self) -> list[DisplayTable]:
        """Return the table that a terminal shows; a narrow one leaves out costs and says so."""
        return [terminal_table(self.rows, self.title, self.rule)]

    def markdown_tables(self) -> list[DisplayTable]:
        """Return the table with all rows and columns."""
        return [markdown_table(self.rows, self.title, self.rule)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.rows:
            yield from self.tables()
        else:
            yield Text(self.hint, no_wrap=True, overflow="ignore")


def load_leaderboard(
    name: str,
    workspace: Workspace,
    *,
    by_type: bool = False,
    reference: bool = False,
    intervals: bool = False,
    subset: str | None = None,
    threshold: str = DEFAULT_THRESHOLD,
    selection: Selection = ALL_ROWS,
) -> Leaderboard:
    """Return the leaderboard of a data set from its stored results.

    Parameters
    ----------
    name
        The name of a registered data set.
    workspace
        The data sets and stored results.
    by_type
        Whether to return a row for each machine type.
    reference
        Whether to add published results.
    intervals
        Whether to add a bootstrap interval of each score.
    subset
        ``"dev"`` or ``"eval"``; by default dev if any of its test clips has a known label, else eval.
    threshold
        Method of the decision threshold used for precision, recall and F1.
    selection
        Which rows to return.

    Raises
    ------
    InputError
        The data set or a selected system does not exist.
    """
    data, store = catalog.load(workspace, name), JobStore.from_workspace(workspace)
    subset, notes = (subset, []) if subset else _default_subset(data)
    stored = current_results(data, store, subset=subset)
    notes += stored.notes()
    labeled = labeled_types(data, subset=subset)
    table: Sequence[Row] = rows(stored.records, machine_types=labeled, by_type=by_type, threshold=threshold)
    if by_type:
        results = ((row["machine_type"], row["system"], row) for row in table)
        clips = labeled_clips(data, subset=subset)
        notes += low_auc_notes(low_aucs(results, clips, rule=data.rule))
        kinds = kinds_of_types(clips)
        table = [row | {"half_width_over": kinds[row["machine_type"]]} for row in table]
    imported, of_imported = imported_results(workspace, name)
    notes += of_imported
    others, unfit = imported_rows(imported, data, subset=subset, by_type=by_type)
    notes += unfit
    table = with_imported(table, others, machine_types=labeled, by_type=by_type, rule=data.rule)
    if reference:
        published, of_published = published_results(data, labeled, subset)
        notes += of_published
        table = with_references(table, published, machine_types=labeled, by_type=by_type, rule=data.rule)
        notes += [] if by_type else standing_notes(table)
    if table:
        notes += _unlabeled(data, labeled, subset)
    if not by_type:
        table = numbered(table)
    columns = tuple(table[0]) if table else _columns(data.rule, by_type=by_type)
    table, selected, no_match = _selected(table, selection, data)
    if intervals:
        table = with_intervals(table, data, store, subset=subset)
    return Leaderboard(
        name,
        subset,
        tuple(table),
        columns,
        data.rule,
        tuple(notes + selected),
        title=f"Leaderboard of {name}{data.suffix(subset)}",
        hint="" if table else no_match or _hint(data, subset, store),
    )


def _columns(rule: Rule, *, by_type: bool) -> tuple[str, ...]:
    return (*([] if by_type else ["number"]), *default_columns(rule, by_type=by_type))


def _default_subset(data: DataSet) -> tuple[str, list[str]]:
    """Return the subset to show where none is named, with a note if there is another."""
    clips = labeled_clips(data)
    subset = first_subset(clips)
    has_other = clips["subset"].n_unique() > 1
    return subset, [f"this is the {subset} subset; --subset eval shows the other"] if has_other else []


def _unlabeled(data: DataSet, labeled: Sequence[str], subset: str) -> list[str]:
    """Return a note for each machine type that has no place on the leaderboard."""
    return [
        f"no test clip of {machine_type} has a known label; it is not on the leaderboard"
        for machine_type in sorted(set(data.machine_types) - set(labeled))
        if subset in data.subsets(machine_type)
    ]


def _selected(
    table: Sequence[Row], selection: Selection, data: DataSet
) -> tuple[Sequence[Row], list[str], str | None]:
    """Return the selected rows, with a note about how many these are, and what to do if there are none."""
    selected = selection.select(table)
    if len(selected) == len(table):
        return selected, [], None
    if not selected:
        hint = (
            f"no row matches {selection.options()}; 'asdbench leaderboard --data {shlex.quote(data.name)}' "
            f"shows all {len(table)} rows"
        )
        return selected, [], hint
    return selected, [f"these are {len(selected)} of {len(table)} rows ({selection.options()})"], None


def _hint(data: DataSet, subset: str, store: JobStore) -> str:
    """Return what gives results in a subset, or why nothing does."""
    none_yet = f"no results on data set {data.name!r}{data.suffix(subset)} yet"
    if subset not in data.subsets():
        return f"{none_yet}; it has test clips of the subset {' and '.join(data.subsets())} only"
    command = f"'asdbench run SYSTEM --data {data.name}'"
    n_trainings = indexed_records(store.root, TRAININGS).rows.filter(pl.col("data") == data.name).height
    if n_trainings:
        return (
            f"{none_yet}, but {format_amount(n_trainings, 'finished training')}; repeat their command, "
            f"such as {command}, to evaluate what is stored"
        )
    return f"{none_yet}; run {command} to get some"
