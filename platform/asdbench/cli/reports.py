"""The commands that report: status, leaderboard, compare, submission, evaluate and systems."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from asdbench.cli.options import (
    AnyIntegers,
    Flag,
    Integer,
    StoredOptions,
    Strings,
    Subset,
    TableFormat,
    Threshold,
)
from asdbench.cli.output import (
    format_of,
    new_console,
    print_line,
    print_notes,
    print_report,
    print_result,
)
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace

DEFAULT_STORED = StoredOptions()


def status(
    *,
    storage: str | None = None,
    watch: Flag = False,
    format: Literal["table", "json"] = "table",
    json: Flag = False,
) -> None:
    """Show the runs under way: tasks by state, nodes, searches and the time left.

    It reads the storage of the runs, from any machine that can access it, and needs no Ray.

    Parameters
    ----------
    storage
        Storage of the runs: a folder, or a URI such as s3://bucket/folder (default: ASDBENCH_STORAGE, or the
        data home).
    watch
        Show the state every two seconds, until Ctrl-C.
    format
        table, or json with all tasks and nodes.
    json
        The same as --format json.
    """
    from asdbench.report.run_status import show_status, watch_status

    format = "json" if json else format
    root = Workspace.from_environment(storage=storage).job_storage
    console = new_console(stderr=format == "json")
    if not watch:
        show_status(root, console=console, format=format)
    elif format == "json" or not console.is_terminal:
        raise InputError("--watch shows tables on a terminal; drop --watch to show the state once")
    else:
        watch_status(root, console=console)


def leaderboard(
    *,
    data: str,
    by: Literal["type"] | None = None,
    subset: Subset | None = None,
    systems: Strings = (),
    preset: str | None = None,
    top: Integer | None = None,
    threshold: Threshold = "empirical",
    reference: Flag = False,
    intervals: Flag = False,
    ranks: Flag = False,
    figure: Path | None = None,
    format: TableFormat = "table",
    json: Flag = False,
) -> None:
    """Show the systems on a data set, sorted by official score, with mean and spread over seeds.

    Parameters
    ----------
    data
        Name of a registered data set.
    by
        'type' for one row per machine type.
    subset
        dev (development) or eval (evaluation) (default: dev if any of its test clips has a label, else eval).
    systems
        Show only these systems.
    preset
        Show only rows with the settings of this preset, such as fast or fast,robust, and those that a search
        has found from them.
    top
        Show only so many of the best rows, of each machine type with --by type.
    threshold
        Decision-threshold method used for precision, recall and F1.
    reference
        Also show published results on the same machine types, marked as such.
    intervals
        Show 95 % confidence intervals of each score: on these machines, and on machines like these.
    ranks
        Show average ranks over machine types instead of scores, with Friedman's test and groups of rows that
        are not told apart.
    figure
        With --ranks, also draw the critical-difference diagram, as a .png, .svg or .pdf file.
    format
        Output format.
    json
        The same as --format json.
    """
    from asdbench.api import reports

    chosen = format_of(format, json=json)
    _check_ranks(ranks, figure, {"--by": by is not None, "--intervals": intervals})
    if ranks:
        ranked = reports.ranks(
            data, subset=subset, systems=systems, preset=preset, top=top, reference=reference
        )
        print_report(ranked, chosen, notes=ranked.notes)
        if figure is not None:
            ranked.save_figure(figure)
            print_line(f"{figure}: critical-difference diagram", stderr=chosen != "table")
        return
    board = reports.leaderboard(
        data,
        by_type=by == "type",
        subset=subset,
        systems=systems,
        preset=preset,
        top=top,
        threshold=threshold,
        reference=reference,
        intervals=intervals,
    )
    print_report(board, chosen, notes=board.notes)


def _check_ranks(ranks: bool, figure: Path | None, others: Mapping[str, bool]) -> None:
    if figure is not None and not ranks:
        raise InputError("--figure draws what --ranks shows; add --ranks")
    for option, is_given in others.items():
        if ranks and is_given:
            raise InputError(f"--ranks and {option} exclude each other; drop one of them")


def compare(
    *rows: str,
    data: str,
    seeds: AnyIntegers = (),
    subset: Subset | None = None,
    stored: StoredOptions = DEFAULT_STORED,
    resamples: Integer = 10_000,
    format: TableFormat = "table",
    json: Flag = False,
) -> None:
    """Compare rows of the leaderboard: differences of the official score, with their uncertainty.

    Parameters
    ----------
    rows
        Two or more rows of the leaderboard; each is compared with the first. A row is its number there;
        SYSTEM, SYSTEM@PRESET, SYSTEM@KEY=VALUE,KEY=VALUE or SYSTEM@tuned; or the name of an imported or
        published result.
    data
        Name of a registered data set.
    seeds
        Random seeds to compare (default: those that both rows of a comparison have).
    subset
        dev (development) or eval (evaluation) (default: dev if any of its test clips has a label, else eval).
    resamples
        Number of bootstrap resamples of recordings or clips, and of machine types.
    format
        Output format.
    json
        The same as --format json.
    """
    from asdbench.api import reports

    chosen = format_of(format, json=json)
    comparison = reports.compare(
        *rows, data=data, seeds=seeds or None, subset=subset, **stored.to_arguments(), resamples=resamples
    )
    print_report(comparison, chosen)


def submission(
    *systems: str,
    data: str,
    team: str,
    output: Path = Path("teams"),
    seed: Integer = 0,
    subset: Subset | None = None,
    threshold: Threshold = "empirical",
    stored: StoredOptions = DEFAULT_STORED,
) -> None:
    """Write a challenge submission from stored scores: CSV files, metadata and one zip file.

    Parameters
    ----------
    systems
        Names of one to four systems that have been run.
    data
        Name of a registered data set.
    team
        Name and institution, such as Zhang_DKU.
    output
        Folder to write to; the organizers' evaluator calls it teams.
    seed
        Random seed of the run.
    subset
        Subset of the test clips: dev or eval (default: eval if the data set has evaluation clips).
    threshold
        Decision-threshold method.
    """
    from asdbench.api.surroundings import results_of
    from asdbench.data.sets import catalog
    from asdbench.engine.job_store import JobStore
    from asdbench.report.submissions import write_submission

    workspace = results_of()
    package = write_submission(
        systems,
        catalog.load(workspace, data),
        JobStore.from_workspace(workspace),
        team=team,
        folder=output,
        seed=seed,
        subset=subset,
        threshold=threshold,
        settings=stored.to_stored_runs(),
    )
    n_systems = len(set(systems))
    print_result(f"{package}: {n_systems} system{'' if n_systems == 1 else 's'}")
    print_line(
        "fill in the null entries of the meta.yaml files, such as the authors, and add the technical report"
    )


def evaluate(
    folder: Path,
    *,
    data: str,
    ground_truth: Path | None = None,
    format: Literal["table", "csv", "json"] = "table",
    json: Flag = False,
) -> None:
    """Evaluate a folder of submission CSV files as the organizers' evaluator does, without recordings.

    Parameters
    ----------
    folder
        Folder with the CSV files of any system, named anomaly_score_... and decision_result_....
    data
        Name of a registered data set or, with --ground-truth, of a challenge.
    ground_truth
        Folder of the organizers' evaluator with its labels.
    format
        table, csv as the evaluator writes it, or json with every value by name.
    json
        The same as --format json.
    """
    from asdbench.report.official_evaluation import evaluate_folder, render, truth_of

    chosen = format_of(format, json=json)
    truth, rule = truth_of(data, Workspace.from_environment(), ground_truth=ground_truth)
    evaluation = evaluate_folder(folder, truth, rule=rule)
    text = render(evaluation, format=chosen, title=f"{folder.name} on {data}", console=new_console())
    if text is not None:
        print_notes(evaluation.notes, stderr=True)
        print(text, end="")


def systems(name: str | None = None, *, json: Flag = False) -> None:
    """List the systems, or the settings of one system.

    Parameters
    ----------
    name
        Name of the system whose settings to list.
    json
        Print JSON.
    """
    from asdbench.api import systems as api

    print_report(api.systems() if name is None else api.settings(name), "json" if json else "table")
