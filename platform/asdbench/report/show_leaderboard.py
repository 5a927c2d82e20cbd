"""The leaderboard as the command line shows it, with notes about what is left out."""

from typing import TYPE_CHECKING

from rich.console import Console

from asdbench.data.sets import catalog
from asdbench.engine.job_store import JobStore
from asdbench.io.workspace import Workspace
from asdbench.metrics import DEFAULT_THRESHOLD
from asdbench.report.leaderboard import rows, with_references
from asdbench.report.published import references, references_for
from asdbench.report.tables import Format, render

if TYPE_CHECKING:
    pass


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
    """Print the leaderboard of a data set; other formats than ``table`` go to standard output bare.

    ``reference`` shows published results too, ``intervals`` a bootstrap interval of each score. It is of one
    subset: dev if any of its test clips has a known label, else eval, where none is named.
    """
    from asdbench.engine.evaluation import first_subset, labeled_clips, labeled_types
    from asdbench.engine.stored_results import current_results
    from asdbench.report.compare import with_intervals

    data = catalog.load(workspace, name)
    if subset is None:
        known = labeled_clips(data)
        subset = first_subset(known)
        if known["subset"].n_unique() > 1:
            console.print(f"note: of the {subset} subset; --subset eval shows the other")
    records, outdated = current_results(data, JobStore.from_workspace(workspace), subset=subset)
    if outdated:
        console.print(
            f"note: {outdated} stored results are of other recordings, labels or code than now; not shown"
        )
    labeled = labeled_types(data, subset=subset)
    published = references_for(name, labeled, subset=subset) if reference else []
    part = data.suffix(subset)
    if reference and not published:
        there = sorted({f"{found.data} ({found.subset})" for found in references()})
        console.print(f"note: no published results on {name}{part}; there are some on {', '.join(there)}")
    if not records and not published and format == "table":
        console.print(
            f"no results on data set {name!r}{part} yet; 'asdbench run SYSTEM --data {name}' makes some"
        )
        return
    for machine in sorted(set(data.machine_types) - set(labeled)):
        if subset in data.subsets(machine):
            console.print(f"note: no test clip of {machine} has a known label; it is not on the leaderboard")
    table = rows(records, machine_types=labeled, by_type=by_type, threshold=threshold)
    if intervals:
        table = with_intervals(table, data, JobStore.from_workspace(workspace), subset=subset)
    if reference:
        table = with_references(table, published, machine_types=labeled, by_type=by_type)
    title = f"Leaderboard of {name}{part}"
    text = render(table, format=format, title=title, rule=data.rule, console=console)
    if text is not None:
        print(text, end="" if text.endswith("\n") else "\n")
