"""The command line. Commands import heavy modules when they need them, so that help answers at once."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import App, Parameter

from asdbench import __version__
from asdbench.cli.data import data_app
from asdbench.cli.options import Flag, Numbers, Subset, Threshold, Whole, Words, new_console
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace

if TYPE_CHECKING:
    from asdbench.registry import Configured
    from asdbench.report.rendering import DisplayTable
    from asdbench.search.plan import Search
from asdbench.cli.exit import guarded

app = App(
    name="asdbench",
    version=__version__,
    suppress_keyboard_interrupt=False,  # guarded() says how to go on
    help="A bench for detectors of anomalous machine sound (DCASE Challenge Task 2).",
)
app.command(data_app)


@Parameter(name="*")
@dataclass(frozen=True)
class RunOptions:
    """What a run takes beside systems and data.

    Attributes
    ----------
    seeds
        Seeds, one run each: --seeds 0 1 2.
    machines
        Machine types; all if not given.
    subset
        Only machine types with clips of this subset: dev (development) or eval (evaluation).
    set
        Settings as key=value; each goes to the systems that have it.
    preset
        Named settings of the systems: report (as published), fast (quicker, for two CPU cores), demo (for the
        embedded data).
    pseudo_anomalies_from
        Data set whose machine types serve as pseudo-anomalies, for a data set that has one machine type only.
    local
        Run in this process, without Ray.
    workers
        Processes; one a GPU, or one a CPU where there is no GPU, if not given.
    workers_per_type
        Processes that share the training of one machine type; one, or more where there are more GPUs than
        works, if not given.
    gpus_per_worker
        GPUs of a process; below 1, several share one.
    address
        Ray cluster to run on; RAY_ADDRESS if not given, or 'local', which starts one on this machine.
    checkpoint_epochs
        Epochs between checkpoints.
    dashboard
        Start Ray's dashboard with a cluster that is started for this run, on this machine's loopback address.
    storage
        Where results go, and data for other nodes: a folder that all nodes see, or a URI such as
        s3://bucket/folder; ASDBENCH_STORAGE if not given, or the data home.
    """

    seeds: Numbers = (0,)
    machines: Words = ()
    subset: Subset | None = None
    set: Words = ()
    preset: str | None = None
    pseudo_anomalies_from: str | None = None
    local: Flag = False
    workers: Whole | None = None
    workers_per_type: Whole | None = None
    gpus_per_worker: float = 1.0
    address: str | None = None
    checkpoint_epochs: Whole = 5
    dashboard: Flag = False
    storage: str | None = None


@Parameter(name="*")
@dataclass(frozen=True)
class StoredOptions:
    """Of which runs stored scores are.

    Attributes
    ----------
    set
        Settings as key=value, as the run had them.
    preset
        Named settings of the systems, as the run had them.
    pseudo_anomalies_from
        Data set of the pseudo-anomalies, as the run had it.
    """

    set: Words = ()
    preset: str | None = None
    pseudo_anomalies_from: str | None = None


@Parameter(name="*")
@dataclass(frozen=True)
class SearchOptions:
    """What a search takes.

    Attributes
    ----------
    affects
        The most that a change of a setting may cost: training, scoring or fusion anew.
    over
        Settings to search; all that neither preset nor --set gives, if not given.
    protocol
        dev: one search over all machine types. leave-one-type-out: for each machine type a search over all
        others, judged on the one left out.
    search_seed
        Seed of the search.
    """

    affects: Literal["training", "scoring", "fusion"] = "training"
    over: Words = ()
    protocol: Literal["dev", "leave-one-type-out"] = "dev"
    search_seed: Whole = 0

    def search(self, trials: int) -> "Search":
        """Return the search of so many trials."""
        from asdbench.search.plan import Search

        return Search(trials, self.affects, self.over, self.protocol, self.search_seed)


@app.command
def run(*systems: str, data: str, options: RunOptions = RunOptions()) -> int:
    """Train and score systems on a data set, judge them and show the leaderboard.

    What is stored is not done again: after an interruption the same command goes on.

    Parameters
    ----------
    systems
        Names of systems; 'asdbench systems' lists them.
    data
        Name of a registered data set.
    """
    return run_systems(systems, data, options)


@app.command
def tune(
    *systems: str,
    data: str,
    trials: Whole,
    search: SearchOptions = SearchOptions(),
    options: RunOptions = RunOptions(),
) -> int:
    """Search the settings of systems with Ray Tune and Optuna, and show the best beside the untuned.

    A trial is one setting for all machine types; its score is the official score over them by development
    labels, so what is found is marked dev-tuned. What preset and --set give stays fixed. After an
    interruption the same command goes on, and with more trials it adds to those that are there.

    Parameters
    ----------
    systems
        Names of systems that train; ensembles are searched with 'asdbench fuse'.
    data
        Name of a registered data set.
    trials
        Trials of each system; the first is the system untuned.
    """
    if trials < 1:
        raise InputError(f"--trials {trials} must be at least 1; 'asdbench run' runs systems untuned")
    return run_systems(systems, data, options, search=search.search(trials))


@app.command
def fuse(
    *members: str,
    data: str,
    seeds: Numbers = (0,),
    into: str | None = None,
    evaluations: Whole | None = None,
    search_seed: Whole = 0,
    stored: StoredOptions = StoredOptions(),
) -> None:
    """Search the fusion weights of systems that have run, by development labels; no model runs.

    Parameters
    ----------
    members
        Names of two or more systems.
    data
        Name of a registered data set.
    seeds
        Seeds that all have run with.
    into
        The ensemble that takes the weights; the only one whose weights can be searched, if not given.
    evaluations
        Weights that are judged; as many again without each machine type.
    search_seed
        Seed of the search.
    """
    from asdbench.driver.fusion import fuse_systems

    fuse_systems(
        members,
        data,
        Workspace.from_environment(),
        seeds=seeds,
        into=into,
        evaluations=evaluations,
        seed=search_seed,
        settings=_stored_settings(stored),
        console=new_console(),
    )


@app.command
def record() -> None:
    """Record in MLflow what could not be recorded when it was finished."""
    from asdbench.report.formatting import print_message
    from asdbench.tracking.mlflow_runs import shown_uri
    from asdbench.tracking.recorder import deliver

    workspace = Workspace.from_environment()
    delivered, left = deliver(workspace)
    print_message(new_console(), f"{delivered} recorded at {shown_uri(workspace)}")
    if left.entries:
        raise InputError(left.why)


def run_systems(
    systems: Sequence[str], data: str, options: RunOptions, *, search: "Search | None" = None
) -> int:
    """Run systems on a registered data set, tuned too if a search is given; returns the exit code."""
    from asdbench.cluster.placement import Placement
    from asdbench.config import parse_assignments
    from asdbench.driver.executor import ExecutionOptions
    from asdbench.driver.pipeline import UNTUNED
    from asdbench.driver.pipeline import run as run_request
    from asdbench.driver.request import RunRequest

    if options.local and options.address is not None:
        raise InputError(
            f"--local runs in this process and --address {options.address} on a cluster; leave one out"
        )
    workspace = Workspace.from_environment(storage=options.storage)
    workspace.check_home()
    settings = parse_assignments(options.set)
    request = RunRequest(
        systems,
        data,
        options.seeds,
        options.machines,
        settings,
        options.preset,
        options.pseudo_anomalies_from,
        options.subset,
    )
    placement = Placement(options.workers, options.workers_per_type, options.gpus_per_worker)
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    execution = ExecutionOptions(
        options.local, placement, address, options.checkpoint_epochs, options.dashboard
    )
    return run_request(request, execution, workspace, search=search or UNTUNED, console=new_console())


def usable_systems() -> list[str]:
    """Return the names of all systems that can be used; those that cannot are named and left out."""
    from asdbench import registry
    from asdbench.report.formatting import print_message

    broken = registry.broken()
    for error in broken.values():
        print_message(new_console(), f"left out: {error}", style="red")
    return [name for name in registry.names() if name not in broken]


@app.command
def leaderboard(
    *,
    data: str,
    by: Literal["type"] | None = None,
    subset: Subset | None = None,
    threshold: Threshold = "empirical",
    reference: Flag = False,
    intervals: Flag = False,
    format: Literal["table", "csv", "json", "markdown"] = "table",
) -> None:
    """Show the systems on a data set by official score, mean and spread over seeds.

    Parameters
    ----------
    data
        Name of a registered data set.
    by
        'type' for a row each machine type.
    subset
        dev (development) or eval (evaluation); dev if any of its test clips has a known label, if not given.
    threshold
        Method of the decision threshold that precision, recall and F1 are of.
    reference
        Show published results on the same machine types too, marked as such.
    intervals
        Show a 95 % interval of each score, by bootstrap over clips and seeds.
    format
        Table for people, or csv, json, markdown.
    """
    from asdbench.report.leaderboard_view import show_leaderboard

    show_leaderboard(
        data,
        Workspace.from_environment(),
        console=new_console(stderr=format != "table"),
        by_type=by == "type",
        format=format,
        reference=reference,
        intervals=intervals,
        subset=subset,
        threshold=threshold,
    )


@app.command
def compare(
    a: str,
    b: str,
    *,
    data: str,
    seeds: Numbers = (0,),
    subset: Subset | None = None,
    stored: StoredOptions = StoredOptions(),
    resamples: Whole = 10_000,
    format: Literal["table", "csv", "json", "markdown"] = "table",
) -> None:
    """Compare two systems that have run: difference of the official score and how sure it is.

    Parameters
    ----------
    a, b
        Names of systems.
    data
        Name of a registered data set.
    seeds
        Seeds that both have run with.
    subset
        dev (development) or eval (evaluation); dev if any of its test clips has a known label, if not given.
    resamples
        How often clips and seeds are drawn anew.
    format
        Table for people, or csv, json, markdown.
    """
    from asdbench.data.sets import catalog
    from asdbench.engine.job_store import JobStore
    from asdbench.report.compare import compare as compared
    from asdbench.report.compare import render

    workspace = Workspace.from_environment()
    registered = catalog.load(workspace, data)
    found = compared(
        (a, b),
        registered,
        JobStore.from_workspace(workspace),
        seeds=seeds,
        settings=_stored_settings(stored),
        subset=subset,
        resamples=resamples,
    )
    title = f"{b} against {a} on {data}{registered.suffix(found[0]['subset'])}"
    text = render(found, format=format, title=title, console=new_console())
    if text is not None:
        print(text, end="")


@app.command
def submission(
    *systems: str,
    data: str,
    team: str,
    to: Path = Path("teams"),
    seed: Whole = 0,
    subset: Subset | None = None,
    threshold: Threshold = "empirical",
    stored: StoredOptions = StoredOptions(),
) -> None:
    """Write a challenge submission from stored scores: CSVs, meta information and one zip.

    Parameters
    ----------
    systems
        Names of one to four systems that have run.
    data
        Name of a registered data set.
    team
        Name and institution, as in Zhang_DKU.
    to
        Folder to write to; it is what the organizers' evaluator calls teams.
    seed
        Seed of the run.
    subset
        Test clips of which subset; those of eval where there are some if not given.
    threshold
        Method of the decision threshold.
    """
    from asdbench.data.sets import catalog
    from asdbench.engine.job_store import JobStore
    from asdbench.report.formatting import print_message
    from asdbench.report.submissions import write_submission

    workspace = Workspace.from_environment()
    package = write_submission(
        systems,
        catalog.load(workspace, data),
        JobStore.from_workspace(workspace),
        team=team,
        folder=to,
        seed=seed,
        subset=subset,
        threshold=threshold,
        settings=_stored_settings(stored),
    )
    console = new_console()
    n_systems = len(set(systems))
    print_message(console, f"{package}: {n_systems} system{'' if n_systems == 1 else 's'}")
    print_message(
        console,
        "fill in the null entries of the meta.yaml files, such as the authors, and add the technical report",
    )


@app.command
def evaluate(
    folder: Path,
    *,
    data: str,
    ground_truth: Path | None = None,
    format: Literal["table", "csv", "json"] = "table",
) -> None:
    """Judge a folder of submission CSVs as the organizers' evaluator does; no recordings are needed.

    Parameters
    ----------
    folder
        Folder with anomaly_score_*.csv and decision_result_*.csv, of any system.
    data
        Name of a registered data set, or with --ground-truth of a challenge.
    ground_truth
        Folder of the organizers' evaluator with its labels.
    format
        Table for people, csv as the evaluator writes it, or json with every figure by name.
    """
    from asdbench.report.formatting import print_note
    from asdbench.report.official_evaluation import evaluate_folder, render, truth_of

    truth, rule = truth_of(data, Workspace.from_environment(), ground_truth=ground_truth)
    evaluation = evaluate_folder(folder, truth, rule=rule)
    text = render(evaluation, format=format, title=f"{folder.name} on {data}", console=new_console())
    if text is not None:
        for note in evaluation.notes:
            print_note(new_console(stderr=True), note)
        print(text, end="")


def _stored_settings(stored: StoredOptions) -> Any:
    from asdbench.config import parse_assignments
    from asdbench.report.stored_runs import StoredRunOptions

    return StoredRunOptions(stored.preset, parse_assignments(stored.set), stored.pseudo_anomalies_from)


@app.command
def systems(name: str | None = None) -> None:
    """List the systems, or the settings of one.

    Parameters
    ----------
    name
        A system, whose settings are listed.
    """
    from rich.text import Text

    from asdbench import registry
    from asdbench.config import assignments
    from asdbench.report.formatting import print_message

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
        print_message(console, f"preset {preset}: {changed or 'the defaults'}")


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
    headers = ("setting", "default", "searched over", "a change requires")
    return DisplayTable([Column(header) for header in headers], rows)


@app.command
def features(name: str, *, systems: Words = (), preset: str | None = None) -> None:
    """Build the features that systems read from a data set, ahead of a run.

    Parameters
    ----------
    name
        A registered data set.
    systems
        Names of systems; all that can be used if not given.
    preset
        Named settings of the systems: report, fast or demo.
    """
    from asdbench.driver.features import build_features
    from asdbench.driver.request import RunRequest, resolve_jobs
    from asdbench.report.formatting import print_message

    workspace = Workspace.from_environment()
    workspace.check_home()
    console = new_console()
    jobs = resolve_jobs(RunRequest(systems or usable_systems(), name, preset=preset), workspace)
    build_features(jobs, console=console)
    print_message(console, f"features of {name} are ready")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; bad input prints one sentence and exits with code 2."""
    sys.exit(
        guarded(lambda: app(arguments, result_action="return_value", exit_on_error=False, print_error=False))
    )
