"""The commands of ``asdbench results``: list, remove, import, export and check results."""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from asdbench.cli.confirm import is_confirmed
from asdbench.cli.options import AnyIntegers, Flag, Strings, Subset, TableFormat, Threshold
from asdbench.cli.output import format_of, new_console, print_line, print_notes, print_result
from asdbench.errors import InputError

if TYPE_CHECKING:
    from asdbench.engine.result_removal import ResultRemoval
    from asdbench.engine.result_selection import ResultSelection
    from asdbench.report.rendering import Row

results_app = App(name="results", help="List, remove, import, export and check results.")


@results_app.command(name="list")
def list_results(
    *,
    data: str | None = None,
    systems: Strings = (),
    outdated: Flag = False,
    storage: str | None = None,
    format: TableFormat = "table",
    json: Flag = False,
) -> None:
    """List the stored results, whether they match the current recordings, labels and code, and imported ones.

    Parameters
    ----------
    data
        Name of a data set (default: all).
    systems
        Names of systems and of imported results (default: all).
    outdated
        List only results that are out of date: recordings, labels or code have changed since.
    storage
        Storage of the results (default: ASDBENCH_STORAGE, or the data home).
    format
        Output format.
    json
        The same as --format json.
    """
    from asdbench.api.surroundings import results_of
    from asdbench.engine.job_store import JobStore
    from asdbench.engine.result_selection import ResultSelection, select_results
    from asdbench.report import rendering
    from asdbench.report.imported_list import imported_list_rows, of_selection
    from asdbench.report.result_list import list_rows, list_table

    chosen = format_of(format, json=json)
    workspace = results_of(storage=storage)
    selection = ResultSelection(data, systems, outdated=outdated)
    imported = imported_list_rows(workspace)
    elsewhere = [(row["data"], row["system"]) for row in imported]
    found = select_results(workspace, JobStore.from_workspace(workspace), selection, elsewhere=elsewhere)
    print_notes([str(error) for error in found.unreadable], stderr=chosen != "table")
    rows = list_rows(found.selected)
    rows += [] if outdated else of_selection(imported, data=data, systems=systems)
    if not rows and chosen == "table":
        print_line("there are no such results" if outdated else "there are no results yet")
        return
    text = rendering.render(rows, list_table(rows), format=chosen, console=new_console())
    if text is not None:
        print(text, end="")


@results_app.command(name="import")
def import_results(
    path: Path,
    *,
    name: str,
    data: str,
    source: str | None = None,
    license: str | None = None,
    replace: Flag = False,
) -> None:
    """Import the scores of any system, as submission CSV files, as a row of the leaderboard.

    Parameters
    ----------
    path
        Folder or zip file with anomaly_score_*.csv, in folders seed-0, seed-1 and so on for several runs.
    name
        Name of the row.
    data
        Name of a registered data set whose test clips were scored.
    source
        Where the scores come from, such as an address.
    license
        Under which license they may be used.
    replace
        Replace an imported result of the same name.
    """
    from asdbench.api.result_folders import import_results as import_from
    from asdbench.report.formatting import format_amount

    imported = import_from(path, name=name, data=data, source=source, license=license, replace=replace)
    n_runs = format_amount(len(imported.record.run_folders), "run")
    print_result(f"imported {name} on {data}: {n_runs}, {' and '.join(imported.record.subsets)} subset")
    print_line(f"'asdbench leaderboard --data {data}' shows it; 'asdbench compare' takes it by its name")


@results_app.command
def export(
    row: str,
    *,
    data: str,
    to: Path,
    name: str | None = None,
    subset: Subset | None = None,
    threshold: Threshold = "empirical",
    source: str | None = None,
    license: str | None = None,
) -> None:
    """Write the scores of a row of the leaderboard to a folder, in the form that 'results import' reads.

    Parameters
    ----------
    row
        A row of the leaderboard, as 'asdbench compare' takes it: its number, SYSTEM, or SYSTEM@KEY=VALUE.
    data
        Name of a registered data set.
    to
        Folder of results; the row is written to DATA/NAME in it.
    name
        Name of the result (default: that of the row with its changed settings).
    subset
        dev or eval (default: dev if any of its test clips has a label, else eval).
    threshold
        Decision-threshold method.
    source
        Where the scores come from, such as an address.
    license
        Under which license they may be used.
    """
    from asdbench.api.result_folders import export_results

    written = export_results(
        row,
        data=data,
        to=to,
        name=name,
        subset=subset,
        threshold=threshold,
        source=source,
        license=license,
    )
    print_result(str(written))


@results_app.command
def check(folder: Path) -> None:
    """Check a repository of results, result by result: result.json, checksums and CSV files.

    It lists every problem and exits with code 2 if there is any.

    Parameters
    ----------
    folder
        Folder with results as DATA/NAME, or one that holds such a folder as results.
    """
    from asdbench.api.result_folders import check_results
    from asdbench.report.formatting import format_amount

    checked = check_results(folder)
    for problem in checked.problems:
        print_result(problem)
    n_results = format_amount(checked.n_results, "result")
    if not checked.ok:
        raise InputError(
            f"{format_amount(len(checked.rows), 'problem')} in {n_results}; export or restore what is listed"
        )
    print_line(f"{n_results}: no problem found")


@results_app.command
def remove(
    *,
    data: str | None = None,
    systems: Strings = (),
    seeds: AnyIntegers = (),
    preset: str | None = None,
    set: Strings = (),
    outdated: Flag = False,
    searches: Flag = False,
    imported: Strings = (),
    storage: str | None = None,
    yes: Flag = False,
) -> None:
    """Remove stored results, with the scores and trainings that no other result needs, or imported results.

    Several options narrow the choice: a result is removed if it meets all of them. Nothing is removed while a
    run under way may need it. Imported results are removed by --imported only.

    Parameters
    ----------
    data
        Remove results on this data set.
    systems
        Remove results of these systems.
    seeds
        Remove results of these random seeds.
    preset
        Remove results with these named settings.
    set
        Remove results with these settings, as key=value.
    outdated
        Remove only results that are out of date: recordings, labels or code have changed since.
    searches
        Also remove the searches of these systems, with the trainings of their trials.
    imported
        Remove the imported results of these names, and nothing else.
    storage
        Storage of the results (default: ASDBENCH_STORAGE, or the data home).
    yes
        Remove without asking.
    """
    from asdbench.api.surroundings import results_of
    from asdbench.config import parse_assignments
    from asdbench.engine import result_removal
    from asdbench.engine.job_store import JobStore
    from asdbench.engine.result_selection import ResultSelection, select_results
    from asdbench.report.formatting import format_amount
    from asdbench.report.imported_list import imported_list_rows, of_selection

    selection = ResultSelection(data, systems, seeds, preset, parse_assignments(set), outdated)
    if imported:
        _check_imported_alone(selection, searches)
        _remove_imported(str(data), imported, yes=yes)
        return
    _check_narrowed(selection, searches)
    workspace = results_of(storage=storage)
    store = JobStore.from_workspace(workspace)
    others = imported_list_rows(workspace)
    found = select_results(
        workspace, store, selection, elsewhere=[(row["data"], row["system"]) for row in others]
    )
    _print_staying([] if outdated else of_selection(others, data=data, systems=systems))
    matching = result_removal.matching_searches(store, selection)
    plan = result_removal.plan_removal(store, found, matching if searches else {})
    if not (plan.results or plan.searches):
        print_line("there are no such results; nothing was removed")
        return
    result_removal.check(store, plan)
    print_result(f"to remove: {_described(plan, found.selected['system'].unique())}")
    if plan.n_shared:
        print_line(f"{format_amount(plan.n_shared, 'training')} will stay, because other results need them")
    if matching and not searches:
        print_line(
            f"{format_amount(len(matching), 'search', 'searches')} of these systems will stay, with the "
            f"trainings of their trials; --searches removes them as well"
        )
    if not is_confirmed("Remove this?", yes=yes):
        print_line("nothing was removed")
        return
    result_removal.remove(store, plan)
    print_line("removed; MLflow follows at the next run, or now with 'asdbench record'")


def _check_imported_alone(selection: "ResultSelection", searches: bool) -> None:
    if not selection.data:
        raise InputError("--imported needs --data NAME, the data set that the results were imported for")
    narrowing = (selection.systems, selection.seeds, selection.preset, selection.settings, selection.outdated)
    if searches or any(narrowing):
        raise InputError(
            "--imported names whole imported results, and other options choose stored ones; give --imported "
            "with --data only"
        )


def _remove_imported(data: str, names: Sequence[str], *, yes: bool) -> None:
    from asdbench.io.download import shown_bytes
    from asdbench.io.workspace import Workspace
    from asdbench.report.formatting import format_amount
    from asdbench.report.imported_list import imported_folders, remove_imported

    folders = imported_folders(Workspace.from_environment(), data, names)
    n_bytes = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    listed = ", ".join(folder.name for folder in folders)
    print_result(
        f"to remove: {format_amount(len(folders), 'imported result')} on {data}: {listed} "
        f"({shown_bytes(n_bytes)})"
    )
    if not is_confirmed("Remove this?", yes=yes):
        print_line("nothing was removed")
        return
    remove_imported(folders)
    print_line("removed")


def _print_staying(imported: Sequence["Row"]) -> None:
    """Say how to remove the imported results that a selection of stored results would mean."""
    from asdbench.report.formatting import format_amount

    by_data: dict[str, list[str]] = {}
    for row in imported:
        by_data.setdefault(row["data"], []).append(row["system"])
    for data, names in by_data.items():
        amount = format_amount(len(names), "imported result")
        command = f"asdbench results remove --data {shlex.quote(data)} --imported {' '.join(names)}"
        print_line(f"{amount} on {data} will stay; {command!r} removes {'it' if len(names) == 1 else 'them'}")


def _check_narrowed(selection: "ResultSelection", searches: bool) -> None:
    if not (selection.data or selection.systems or selection.outdated):
        raise InputError(
            "nothing says which results to remove; give --data, --systems or --outdated, and see with "
            "'asdbench results list' what there is"
        )
    if searches and selection.outdated:
        raise InputError(
            "--searches removes whole searches, and --outdated only some results; drop one of them"
        )


def _described(plan: "ResultRemoval", systems: Collection[str]) -> str:
    from asdbench.io.download import shown_bytes
    from asdbench.report.formatting import format_amount

    parts = [
        format_amount(len(plan.results), "result")
        + (f" of {', '.join(sorted(systems))}" if plan.results else ""),
        format_amount(len(plan.scores), "set of scores", "sets of scores"),
        format_amount(len(plan.trainings), "training"),
        format_amount(len(plan.searches), "search", "searches"),
    ]
    shown: Sequence[str] = [part for part in parts if not part.startswith("0 ")]
    return f"{', '.join(shown)}, on {', '.join(sorted(plan.data))} ({shown_bytes(plan.n_bytes)})"
