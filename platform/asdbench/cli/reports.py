"""The commands that report: status, leaderboard, compare, submission, evaluate and systems."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from asdbench.cli.options import (
    Flag,
    Integer,
    Integers,
    StoredOptions,
    Subset,
    TableFormat,
    Threshold,
    new_console,
    print_line,
    print_text,
    workspace_of_results,
)
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace

if TYPE_CHECKING:
    from asdbench.registry import Configured
    from asdbench.report.rendering import DisplayTable

DEFAULT_STORED = StoredOptions()


def status(
    *, storage: str | None = None, watch: Flag = False, format: Literal["table", "json"] = "table"
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
    """
    from asdbench.report.run_status import show_status, watch_status

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
    threshold: Threshold = "empirical",
    reference: Flag = False,
    intervals: Flag = False,
    format: TableFormat = "table",
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
    threshold
        Decision-threshold method used for precision, recall and F1.
    reference
        Also show published results on the same machine types, marked as such.
    intervals
        Show a 95 % confidence interval of each score, from a bootstrap over clips and seeds.
    format
        Output format.
    """
    from asdbench.report.leaderboard_view import show_leaderboard

    show_leaderboard(
        data,
        workspace_of_results(),
        console=new_console(stderr=format != "table"),
        by_type=by == "type",
        format=format,
        reference=reference,
        intervals=intervals,
        subset=subset,
        threshold=threshold,
    )


def compare(
    a: str,
    b: str,
    *,
    data: str,
    seeds: Integers = (0,),
    subset: Subset | None = None,
    stored: StoredOptions = DEFAULT_STORED,
    resamples: Integer = 10_000,
    format: TableFormat = "table",
) -> None:
    """Compare two systems by their stored scores: difference of the official score, with its uncertainty.

    Parameters
    ----------
    a
        Name of the first system.
    b
        Name of the second system; the difference is its score minus that of the first.
    data
        Name of a registered data set.
    seeds
        Random seeds with which both systems have been run.
    subset
        dev (development) or eval (evaluation) (default: dev if any of its test clips has a label, else eval).
    resamples
        Number of bootstrap resamples of clips and seeds.
    format
        Output format.
    """
    from asdbench.data.sets import catalog
    from asdbench.engine.job_store import JobStore
    from asdbench.report.compare import compare as compare_systems
    from asdbench.report.compare import render

    workspace = workspace_of_results()
    registered = catalog.load(workspace, data)
    comparison = compare_systems(
        (a, b),
        registered,
        JobStore.from_workspace(workspace),
        seeds=seeds,
        settings=stored.to_stored_runs(),
        subset=subset,
        resamples=resamples,
    )
    title = f"{b} against {a} on {data}{registered.suffix(comparison[0]['subset'])}"
    print_text(render(comparison, format=format, title=title, console=new_console()))


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
    from asdbench.data.sets import catalog
    from asdbench.engine.job_store import JobStore
    from asdbench.report.submissions import write_submission

    workspace = workspace_of_results()
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
    print_line(f"{package}: {n_systems} system{'' if n_systems == 1 else 's'}")
    print_line(
        "fill in the null entries of the meta.yaml files, such as the authors, and add the technical report"
    )


def evaluate(
    folder: Path,
    *,
    data: str,
    ground_truth: Path | None = None,
    format: Literal["table", "csv", "json"] = "table",
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
    """
    from asdbench.report.formatting import print_note
    from asdbench.report.official_evaluation import evaluate_folder, render, truth_of

    truth, rule = truth_of(data, Workspace.from_environment(), ground_truth=ground_truth)
    evaluation = evaluate_folder(folder, truth, rule=rule)
    text = render(evaluation, format=format, title=f"{folder.name} on {data}", console=new_console())
    if text is not None:
        for note in evaluation.notes:
            print_note(new_console(stderr=True), note)
    print_text(text)


def systems(name: str | None = None) -> None:
    """List the systems, or the settings of one system.

    Parameters
    ----------
    name
        Name of the system whose settings to list.
    """
    from rich.text import Text

    from asdbench import registry
    from asdbench.config import assignments

    console = new_console()
    if name is None:
        console.print(_systems_table())
        return
    configured = registry.configure(name)
    for paragraph in (sys.modules[configured.system.__module__].__doc__ or "").strip().split("\n\n"):
        is_list = "\n* " in f"\n{paragraph}"
        console.print(Text(paragraph if is_list else " ".join(paragraph.split())), "", sep="\n")
    console.print(_settings_table(configured))
    for preset in configured.trainer.system.presets:
        changed = assignments(registry.configure(name, preset=preset).changed())
        print_line(f"preset {preset}: {changed or 'the defaults'}")


def _systems_table() -> "DisplayTable":
    """Return the systems with the first paragraph of their documentation; broken ones with the reason."""
    from rich.text import Text

    from asdbench import registry
    from asdbench.report.rendering import Column, DisplayRow, DisplayTable

    rows = []
    broken = registry.broken()
    for name in registry.names():
        if name in broken:
            rows.append(DisplayRow([name, "", Text(f"broken: {broken[name]}", style="red")]))
            continue
        documentation = (sys.modules[registry.get(name).__module__].__doc__ or "").strip()
        summary = " ".join(documentation.partition("\n\n")[0].split())
        rows.append(DisplayRow([name, registry.source(name).place, summary]))
    return DisplayTable([Column("system"), Column("from"), Column("description")], rows)


def _settings_table(configured: "Configured") -> "DisplayTable":
    """Return the settings of a system and, for one that reuses another's training, of the trained system."""
    from asdbench.config import settings_of, typed
    from asdbench.report.rendering import Column, DisplayRow, DisplayTable

    cost = {"training": "retraining", "scoring": "rescoring", "fusion": "refusion"}
    rows = [
        DisplayRow(
            [
                setting.name,
                typed(setting.default),
                str(setting.domain) if setting.searched else "",
                cost[setting.affects],
            ]
        )
        for part in (configured.trained, configured)
        if part
        for setting in settings_of(part.system.Config).values()
    ]
    headers = ("setting", "default", "search space", "a change requires")
    return DisplayTable([Column(header) for header in headers], rows)
