"""The leaderboard as ``asdbench leaderboard`` shows it, with notes about results that it leaves out."""

from rich.console import Console

from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import first_subset, labeled_clips, labeled_types
from asdbench.engine.job_store import JobStore
from asdbench.engine.stored_results import current_results
from asdbench.io.workspace import Workspace
from asdbench.metrics import DEFAULT_THRESHOLD
from asdbench.report.chance_notes import low_auc_notes, low_aucs
from asdbench.report.compare import with_intervals
from asdbench.report.formatting import print_message, print_note
from asdbench.report.leaderboard import rows, with_references
from asdbench.report.leaderboard_table import render
from asdbench.report.published import Reference, references, references_for
from asdbench.report.rendering import Format


def show_leaderboard(
    name: str,
    workspace: Workspace,
    *,
    console: Console,
    by_type: bool = False,
    format: Format = "table",
    reference: bool = False,
    intervals: bool = False,
    subset: str | None = None,
    threshold: str = DEFAULT_THRESHOLD,
) -> None:
    """Print the leaderboard of a data set.

    Parameters
    ----------
    name
        The name of a registered data set.
    workspace
        The data sets and stored results.
    console
        Where the table and notes are printed; other formats than ``"table"`` go to standard output.
    by_type
        Whether to show a row for each machine type.
    format
        ``"table"``, ``"csv"``, ``"json"`` or ``"markdown"``.
    reference
        Whether to show published results too.
    intervals
        Whether to show a bootstrap interval of each score.
    subset
        ``"dev"`` or ``"eval"``; by default dev if any of its test clips has a known label, else eval.
    threshold
        Method of the decision threshold used for precision, recall and F1.
    """
    data, store = catalog.load(workspace, name), JobStore.from_workspace(workspace)
    if subset is None:
        subset = _default_subset(data, console)
    stored = current_results(data, store, subset=subset)
    records = stored.records
    for note in stored.notes():
        print_note(console, note)
    labeled = labeled_types(data, subset=subset)
    published = _published_results(data, labeled, subset, console) if reference else []
    if not records and not published and format == "table":
        print_message(
            console, f"no results on data set {name!r}{data.suffix(subset)} yet; {_cure(data, subset)}"
        )
        return
    for machine_type in sorted(set(data.machine_types) - set(labeled)):
        if subset in data.subsets(machine_type):
            print_note(
                console, f"no test clip of {machine_type} has a known label; it is not on the leaderboard"
            )
    table = rows(records, machine_types=labeled, by_type=by_type, threshold=threshold)
    if by_type:
        results = ((row["machine_type"], row["system"], row) for row in table)
        for note in low_auc_notes(low_aucs(results, labeled_clips(data, subset=subset), rule=data.rule)):
            print_note(console, note)
    if intervals:
        table = with_intervals(table, data, store, subset=subset)
    if reference:
        table = with_references(table, published, machine_types=labeled, by_type=by_type)
    title = f"Leaderboard of {name}{data.suffix(subset)}"
    text = render(table, format=format, title=title, rule=data.rule, console=console)
    if text is not None:
        print(text, end="")


def _default_subset(data: DataSet, console: Console) -> str:
    clips = labeled_clips(data)
    subset = first_subset(clips)
    if clips["subset"].n_unique() > 1:
        print_note(console, f"this is the {subset} subset; --subset eval shows the other")
    return subset


def _published_results(
    data: DataSet, machine_types: list[str], subset: str, console: Console
) -> list[Reference]:
    published = references_for(data.name, machine_types, subset=subset)
    if not published:
        available = ", ".join(sorted({f"{result.data} ({result.subset})" for result in references()}))
        print_note(
            console,
            f"there are no published results on {data.name}{data.suffix(subset)}; there are for {available}",
        )
    return published


def _cure(data: DataSet, subset: str) -> str:
    """Return what gives results in a subset, or why nothing does."""
    if subset not in data.subsets():
        return f"it has test clips of the subset {' and '.join(data.subsets())} only"
    return f"run 'asdbench run SYSTEM --data {data.name}' to get some"
