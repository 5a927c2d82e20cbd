"""The command line. Commands import heavy modules when they need them, so that help answers at once."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CoercionError, Parameter, Token

from asdbench import __version__
from asdbench.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from asdbench.data.catalogue import DataSet
    from asdbench.search.plan import Search


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number; cyclopts would round one with a fraction."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise CoercionError(msg=f"{tokens[0].value!r} is not a whole number", token=tokens[0]) from None


Whole = Annotated[int, Parameter(converter=_whole, n_tokens=1)]
Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=(), show_default=False)]
Numbers = Annotated[tuple[Whole, ...], Parameter(consume_multiple=True, negative=())]
Flag = Annotated[bool, Parameter(negative=())]

Subset = Literal["dev", "eval"]
Threshold = Literal["empirical", "gamma", "tail"]

DEMO_CLIPS = 100  # training clips of a machine type of the embedded data set

app = App(
    name="asdbench",
    version=__version__,
    suppress_keyboard_interrupt=False,  # guarded() says how to go on
    help="A bench for detectors of anomalous machine sound (DCASE Challenge Task 2).",
)
data_app = App(name="data", help="Register, list and describe data sets.")
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
    others
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
    others: str | None = None
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
    others
        Data set of the pseudo-anomalies, as the run had it.
    """

    set: Words = ()
    preset: str | None = None
    others: str | None = None


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
    from asdbench.bench import fuse_systems

    fuse_systems(
        members,
        data,
        seeds=seeds,
        into=into,
        evaluations=evaluations,
        seed=search_seed,
        settings=_stored_settings(stored),
        console=_console(),
    )


@app.command
def record() -> None:
    """Record in MLflow what could not be recorded when it was finished."""
    from asdbench.tracking.mlflow_runs import shown_uri
    from asdbench.tracking.recorder import deliver

    delivered, left = deliver()
    _console().print(f"{delivered} recorded at {shown_uri()}", highlight=False, markup=False, soft_wrap=True)
    if left.entries:
        raise InputError(left.why)


def run_systems(
    systems: Sequence[str], data: str, options: RunOptions, *, search: "Search | None" = None
) -> int:
    """Run systems on a registered data set, tuned too if a search is given; returns the exit code."""
    from asdbench.bench import UNTUNED, Request
    from asdbench.bench import run as run_request
    from asdbench.cluster.placement import Placement
    from asdbench.config import parse_assignments
    from asdbench.data import catalogue
    from asdbench.doing import Execution

    if options.storage is not None:
        os.environ["ASDBENCH_STORAGE"] = options.storage
    if options.local and options.address is not None:
        raise InputError(
            f"--local runs in this process and --address {options.address} on a cluster; leave one out"
        )
    catalogue.writable_home()
    settings = parse_assignments(options.set)
    request = Request(
        systems,
        data,
        options.seeds,
        options.machines,
        settings,
        options.preset,
        options.others,
        options.subset,
    )
    placement = Placement(options.workers, options.workers_per_type, options.gpus_per_worker)
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    execution = Execution(options.local, placement, address, options.checkpoint_epochs, options.dashboard)
    return run_request(request, execution, search=search or UNTUNED, console=_console())


def usable_systems() -> list[str]:
    """Return the names of all systems that can be used; those that cannot are named and left out."""
    from asdbench import registry

    broken = registry.broken()
    for error in broken.values():
        _console().print(f"left out: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
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
    from asdbench.bench import show_leaderboard

    show_leaderboard(
        data,
        console=_console(stderr=format != "table"),
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
    from asdbench.data import catalogue
    from asdbench.engine.jobs import JobStore
    from asdbench.report.compare import compare as compared
    from asdbench.report.compare import render

    registered = catalogue.load(data)
    found = compared(
        (a, b),
        registered,
        JobStore(),
        seeds=seeds,
        settings=_stored_settings(stored),
        subset=subset,
        resamples=resamples,
    )
    title = f"{b} against {a} on {data}{registered.suffix(found[0]['subset'])}"
    text = render(found, format=format, title=title, console=_console())
    if text is not None:
        print(text, end="" if text.endswith("\n") else "\n")


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
        Folder to write to; it is what the organisers' evaluator calls teams.
    seed
        Seed of the run.
    subset
        Test clips of which subset; those of eval where there are some if not given.
    threshold
        Method of the decision threshold.
    """
    from asdbench.data import catalogue
    from asdbench.engine.jobs import JobStore
    from asdbench.report.submission import write_submission

    package = write_submission(
        systems,
        catalogue.load(data),
        JobStore(),
        team=team,
        folder=to,
        seed=seed,
        subset=subset,
        threshold=threshold,
        settings=_stored_settings(stored),
    )
    console = _console()
    console.print(f"{package}: {len(set(systems))} systems", highlight=False, markup=False, soft_wrap=True)
    console.print(
        "fill in what is null in the meta.yaml files, such as the authors, and add the technical report"
    )


@app.command
def evaluate(
    folder: Path,
    *,
    data: str,
    ground_truth: Path | None = None,
    format: Literal["table", "csv", "json"] = "table",
) -> None:
    """Judge a folder of submission CSVs as the organisers' evaluator does; no recordings are needed.

    Parameters
    ----------
    folder
        Folder with anomaly_score_*.csv and decision_result_*.csv, of any system.
    data
        Name of a registered data set, or with --ground-truth of a challenge.
    ground_truth
        Folder of the organisers' evaluator with its labels.
    format
        Table for people, csv as the evaluator writes it, or json with every figure by name.
    """
    from asdbench.report.official_evaluation import evaluate_folder, render, truth_of

    truth, rule = truth_of(data, ground_truth=ground_truth)
    evaluation = evaluate_folder(folder, truth, rule=rule)
    text = render(evaluation, format=format, title=f"{folder.name} on {data}", console=_console())
    if text is not None:
        for note in evaluation.notes:
            _console(stderr=True).print(f"note: {note}", markup=False, highlight=False)
        print(text, end="" if text.endswith("\n") else "\n")


def _stored_settings(stored: StoredOptions) -> Any:
    from asdbench.config import parse_assignments
    from asdbench.report.stored import Settings

    return Settings(stored.preset, parse_assignments(stored.set), stored.others)


@app.command
def systems(name: str | None = None) -> None:
    """List the systems, or the settings of one.

    Parameters
    ----------
    name
        A system, whose settings are listed.
    """
    from rich.table import Table
    from rich.text import Text

    from asdbench import registry
    from asdbench.config import settings_of, typed

    console = _console()
    if name is None:
        table = Table("system", "from", "what it is", box=None, header_style="bold", pad_edge=False)
        broken = registry.broken()
        for found in registry.names():
            if found in broken:
                table.add_row(found, "", Text(f"broken: {broken[found]}", style="red"))
                continue
            system = registry.get(found)
            described = (sys.modules[system.__module__].__doc__ or "").strip().partition("\n\n")[0]
            table.add_row(found, registry.source(found).place, Text(" ".join(described.split())))
        console.print(table)
        return
    configured = registry.configure(name)
    for paragraph in (sys.modules[configured.system.__module__].__doc__ or "").strip().split("\n\n"):
        said = paragraph if "\n* " in f"\n{paragraph}" else " ".join(paragraph.split())
        console.print(said, "", markup=False, highlight=False, sep="\n")
    table = Table(
        "setting", "default", "searched over", "a change means", box=None, header_style="bold", pad_edge=False
    )
    meaning = {"training": "training anew", "scoring": "scoring anew", "fusion": "weighing anew"}
    for part in (configured.trained, configured):
        for setting in settings_of(part.system.Config).values() if part else ():
            searched = str(setting.domain) if setting.searched else ""
            table.add_row(setting.name, typed(setting.default), searched, meaning[setting.affects])
    console.print(table)
    for preset in configured.trainer.system.presets:
        changed = registry.configure(name, preset=preset).changed()
        said = " ".join(f"{setting}={typed(value)}" for setting, value in changed.items())
        console.print(f"preset {preset}: {said or 'the defaults'}", markup=False, highlight=False)


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
    from asdbench.bench import Request, build_features, prepare
    from asdbench.data import catalogue

    catalogue.writable_home()
    console = _console()
    jobs = prepare(Request(systems or usable_systems(), name, preset=preset))
    build_features(jobs, console=console)
    console.print(f"the features of {name} are there")


@data_app.command
def add(
    name: str,
    folder: Path,
    *,
    layout: str | None = None,
    manifest: Path | None = None,
    channels: Literal["near", "far", "both", "mean"] | None = None,
    skip_bad: Flag = False,
) -> None:
    """Register a folder of recordings, in a layout of DCASE Challenge Task 2 or described by a manifest.

    Parameters
    ----------
    name
        The name to give it; a data set of that name is replaced.
    folder
        Folder with one folder a machine type, each with train/ and test/; or with dev_data/ and eval_data/.
    layout
        How to read it, if the folder does not show it: machine-ids, domain-folders, sections,
        sections-with-supplement, two-microphones.
    manifest
        CSV or Parquet table, a row a clip: path, machine_type, split; and, where known, label, domain,
        section, attributes (name=value;name=value), group (one recording), subset (dev or eval).
    channels
        What becomes of several channels: the first (near), the last (far), one after the other (both) or
        their mean; near for two-microphones and mean for all else, if not given.
    skip_bad
        Leave bad files out, instead of refusing the folder.
    """
    from asdbench.data import catalogue
    from asdbench.data.layout import named_layout

    chosen = None if layout is None else named_layout(layout)
    with _file_progress("reading") as progress:
        data = catalogue.add(
            name,
            folder,
            layout=chosen,
            manifest=manifest,
            channels=channels,
            skip_bad=skip_bad,
            progress=progress,
        )
    _show_registered(data)


@data_app.command
def demo(*, name: str = "demo", clips_per_type: Whole | None = None, seed: Whole = 0) -> None:
    """Write the embedded data set, synthetic sounds of seven machine types, and register it.

    Parameters
    ----------
    name
        The name to give it.
    clips_per_type
        Training clips of a machine type.
    seed
        Seed of the generator.
    """
    write_and_register_demo(name, clips_per_type=clips_per_type, seed=seed)


@data_app.command
def get(
    challenge: str,
    *,
    subset: Subset | None = None,
    machines: Words = (),
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    base_url: str | None = None,
    to: Path | None = None,
    skip_bad: Flag = False,
) -> None:
    """Fetch the data of a challenge, check and unpack it, and register it under the challenge's name.

    What is there is not fetched again: after an interruption the same command goes on.

    Parameters
    ----------
    challenge
        dcase2023 and so on; 'asdbench data list --available' lists them.
    subset
        dev (development) or eval (additional training and evaluation); both if not given.
    machines
        Machine types; all if not given.
    from_
        Folder that holds the archives already.
    base_url
        A mirror of https://zenodo.org.
    to
        Folder to unpack into.
    skip_bad
        Leave bad files out, instead of refusing the data set.
    """
    from asdbench.data import catalogue, challenges, download

    year = challenges.named(challenge)
    home = catalogue.writable_home()
    registered = catalogue.load(year.name) if year.name in catalogue.names() else None
    root = to or (registered.root if registered else home / "recordings" / year.name)
    if registered and registered.root.exists() and registered.root != root.resolve():
        raise InputError(
            f"the data set {year.name!r} is registered from {str(registered.root)!r}; give that with --to, or"
            f" leave --to out"
        )
    with _file_progress("fetching", in_bytes=True) as progress:
        fetched = download.get(
            year,
            root,
            subsets=(subset,) if subset else (),
            machine_types=machines,
            given=from_,
            base_url=base_url or download.ZENODO,
            say=_say,
            progress=progress,
        )
    if registered and fetched.clips <= registered.known_files:
        _say(f"{year.name}: everything is there, in {root}")
        return
    with _file_progress("reading") as progress:
        channels = registered.channels if registered else None
        data = catalogue.add(
            year.name, root, layout=year.layout, channels=channels, skip_bad=skip_bad, progress=progress
        )
    _show_registered(data)


@data_app.command
def labels(
    name: str,
    *,
    from_: Annotated[Path, Parameter(name="--from")],
    renamed_list: Path | None = None,
) -> None:
    """Enter the organisers' labels of an evaluation subset, from the folder of their evaluator.

    Parameters
    ----------
    name
        A registered data set.
    from_
        Folder with ground_truth_data/ and ground_truth_domain/, or with eval_data_list.csv.
    renamed_list
        A list of renamed clips (eval_data_list_....csv) to be checked against the labels.
    """
    from asdbench.data import catalogue, challenges
    from asdbench.data import ground_truth as truth

    data = catalogue.load(name)
    told = truth.read_ground_truth(from_)
    found = truth.match_labels(data.clips, told)
    known = challenges.CHALLENGES.get(name)
    wrong = {"names of the clips": found.wrong_names}
    if renamed_list is not None:
        wrong[str(renamed_list)] = truth.wrong_labels(truth.read_renamed_list(renamed_list), told)
    catalogue.label(name, found.table)
    for place, counts in wrong.items():
        for machine, (count, clips) in counts.items():
            if count:
                _say(
                    f"note: {place}: {count} of {clips} labels of {machine} are wrong, the ground truth holds"
                )
    if known and known.renamed_list_errors:
        errors = ", ".join(f"{count} of {machine}" for machine, count in known.renamed_list_errors.items())
        _say(
            f"note: the list of renamed clips that circulates with the baseline code has wrong labels"
            f" ({errors}); clips renamed by it are judged by the ground truth"
        )
    if found.unused:
        _say(f"note: there are no clips of {', '.join(found.unused)}")
    anomalies = int(found.table["anomaly"].sum())
    _say(f"{name}: {found.table.height} evaluation clips labelled, {anomalies} of them anomalies")
    _say(f"'asdbench run SYSTEM --data {name}' judges what has been scored; it trains nothing anew")


@data_app.command(name="list")
def list_data(*, available: Flag = False, base_url: str | None = None) -> None:
    """List the registered data sets, or those that 'asdbench data get' can fetch.

    Parameters
    ----------
    available
        List the challenges' data sets; sizes and licences are asked of their records.
    base_url
        A mirror of https://zenodo.org.
    """
    from rich.table import Table

    from asdbench.data import catalogue

    console = _console()
    if available:
        _list_available(console, base_url)
        return
    names = catalogue.names()
    if not names:
        console.print(
            "no data set is registered; 'asdbench data demo' or 'asdbench data add NAME FOLDER' makes one"
        )
        return
    table = Table("data set", "types", "clips", "folder", box=None, header_style="bold", pad_edge=False)
    for name in names:
        data = catalogue.load(name)
        table.add_row(name, str(len(data.machine_types)), str(data.clips.height), str(data.root))
    console.print(table)


def _list_available(console: "Console", base_url: str | None) -> None:
    """Show the challenges, with what their records say of sizes and licences."""
    from concurrent.futures import ThreadPoolExecutor

    from rich.table import Table

    from asdbench.data import download
    from asdbench.data.challenges import CHALLENGES

    subsets = [(year, name, subset) for year in CHALLENGES.values() for name, subset in year.subsets.items()]
    with ThreadPoolExecutor(len(subsets)) as pool:
        asked = pool.map(
            lambda row: download.ask_records(row[2].records, base_url=base_url or download.ZENODO), subsets
        )
        answers = list(asked)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("data set", "subset", "size", "machine types", "sections", "licence"):
        table.add_column(column, no_wrap=column in ("data set", "subset", "size"))
    for (year, name, subset), facts in zip(subsets, answers, strict=True):
        known = [facts[a.record].files.get(a.name) for a in subset.archives if a.record in facts]
        size = sum(file[0] for file in known if file) if len(known) == len(subset.archives) else None
        licences = dict.fromkeys(fact.licence for fact in facts.values() if fact.licence)
        sections = sorted({section for of_type in subset.sections.values() for section in of_type})
        table.add_row(
            year.name,
            name,
            "?" if size is None else download.shown_bytes(size),
            " ".join(subset.machine_types),
            " ".join(sections),
            ", ".join(licences) or "?",
        )
    console.print(table)
    if not all(answers):
        _say("? = the record could not be asked; assume non-commercial use")


@data_app.command
def info(name: str) -> None:
    """Describe a data set: clips by type, split, domain and attribute, durations, formats, licence.

    Parameters
    ----------
    name
        A registered data set.
    """
    from rich.table import Table

    from asdbench.data import catalogue

    console = _console()
    data = catalogue.load(name)
    described = catalogue.describe(data)
    console.print(f"{name}: {data.clips.height} clips in {data.root}", highlight=False, markup=False)
    for title, frame in (
        ("clips", described.counts),
        ("durations", described.durations),
        ("formats", described.formats),
        ("attributes", described.attributes),
    ):
        table = Table(
            *frame.columns, title=title, title_justify="left", title_style="bold", box=None, pad_edge=False
        )
        for row in frame.iter_rows():
            table.add_row(*("" if v is None else f"{v:.2f}" if isinstance(v, float) else str(v) for v in row))
        console.print()
        console.print(table)
    console.print()
    for bad in data.left_out:
        console.print(f"left out: {bad.path}: {bad.reason}", markup=False)
    for note in described.notes:
        console.print(f"note: {note}", markup=False)
    console.print(f"licence: {described.licence or 'the folder says nothing'}", markup=False)


def write_and_register_demo(name: str = "demo", *, clips_per_type: int | None = None, seed: int = 0) -> None:
    """Write the embedded data set under the data home and register it as ``name``; again is quick."""
    from asdbench.data import catalogue
    from asdbench.data.demo import write_demo

    clips = DEMO_CLIPS if clips_per_type is None else clips_per_type
    folder = catalogue.writable_home() / "recordings" / f"demo-{clips}-seed{seed}"
    with _file_progress("writing") as progress:
        write_demo(folder, clips_per_type=clips, seed=seed, progress=progress)
    with _file_progress("reading") as progress:
        data = catalogue.add(name, folder, progress=progress)
    _console().print(f"{name}: {len(data.machine_types)} machine types, {data.clips.height} clips registered")


def _say(line: str) -> None:
    """Print a line as it is."""
    _console().print(line, markup=False, highlight=False, soft_wrap=True)


def _show_registered(data: "DataSet") -> None:
    """Say what was registered, and what was remarkable."""
    console = _console()
    for note in data.notes:
        console.print(f"note: {note}", markup=False)
    for bad in data.left_out:
        console.print(f"left out: {bad.path}: {bad.reason}", markup=False)
    console.print(
        f"{data.name}: {len(data.machine_types)} machine types, {data.clips.height} clips registered"
    )


class _file_progress:
    """A progress bar over files or bytes, for functions that call ``progress(done, total)``."""

    def __init__(self, verb: str, *, in_bytes: bool = False) -> None:
        from rich import progress

        console = _console()
        amounts = (progress.DownloadColumn(), progress.TransferSpeedColumn()) if in_bytes else ()
        columns = (*progress.Progress.get_default_columns(), *amounts)
        self._bar = progress.Progress(
            *columns, console=console, disable=not console.is_terminal, transient=True
        )
        self._task = self._bar.add_task(verb, total=None)

    def __enter__(self) -> "_file_progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)


def _console(stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; bad input prints one sentence and exits with code 2."""
    sys.exit(
        guarded(lambda: app(arguments, result_action="return_value", exit_on_error=False, print_error=False))
    )


def guarded(command: Callable[[], object]) -> int:
    """Call ``command`` and return its exit code, turning bad input and interruptions into messages."""
    from cyclopts import CycloptsError

    try:
        code = command()
    except CycloptsError as error:
        print(f"asdbench: {error}", file=sys.stderr)
        return 2
    except InputError as error:
        for bad in getattr(error, "bad", ()):
            print(f"{bad.path}: {bad.reason}", file=sys.stderr)
        print(f"asdbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nasdbench: interrupted; what is finished is kept, the same command goes on from here",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        return 1
    return code if isinstance(code, int) else 0
