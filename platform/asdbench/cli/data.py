"""The commands of ``asdbench data``: register, fetch, label and describe data sets."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from asdbench.cli.confirm import is_confirmed
from asdbench.cli.options import Flag, Integer, Strings, Subset, new_console, print_line
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console

    from asdbench.data.sets.catalog import DataSet

DEMO_CLIPS = 100  # training clips of a machine type of the embedded data set

data_app = App(name="data", help="Register, list and describe data sets.")


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
    """Register a folder of recordings in a layout of DCASE Challenge Task 2, or described by a manifest.

    Parameters
    ----------
    name
        Name of the data set; an existing data set of this name is replaced.
    folder
        Folder with one folder per machine type, each with train/ and test/; or with dev_data/ and eval_data/.
    layout
        Layout of the folder, if it cannot be inferred: machine-ids, domain-folders, sections,
        sections-with-supplement, two-microphones.
    manifest
        CSV or Parquet table with one row per clip. Columns: path, machine_type, split and, if known, label,
        domain, section, attributes (name=value;name=value), group (one recording), subset (dev or eval).
    channels
        How to reduce several channels to one: the first (near), the last (far), one after the other (both),
        or their mean (default: near for two-microphones, else mean).
    skip_bad
        Skip bad files instead of rejecting the folder.
    """
    from asdbench.data.sets import catalog
    from asdbench.data.sets.layouts import named_layout

    chosen = None if layout is None else named_layout(layout)
    with _file_progress("reading") as progress:
        data = catalog.add(
            Workspace.from_environment(),
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
def demo(*, name: str = "demo", clips_per_type: Integer | None = None, seed: Integer = 0) -> None:
    """Generate and register the embedded data set: synthetic sounds of seven machine types.

    Parameters
    ----------
    name
        Name of the data set.
    clips_per_type
        Number of training clips per machine type, at least 20 (default: 100).
    seed
        Random seed of the generator.
    """
    write_and_register_demo(name, clips_per_type=clips_per_type, seed=seed)


@data_app.command
def get(
    challenge: str,
    *,
    subset: Subset | None = None,
    machines: Strings = (),
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    base_url: str | None = None,
    output: Path | None = None,
    skip_bad: Flag = False,
) -> None:
    """Download, verify and unpack the data of a challenge, and register it under the challenge's name.

    Files are downloaded once: after an interruption, the same command resumes.

    Parameters
    ----------
    challenge
        Name of a challenge, such as dcase2023; 'asdbench data list --available' lists them.
    subset
        dev (development) or eval (additional training and evaluation) (default: both).
    machines
        Machine types (default: all).
    from_
        Folder that already contains the archives.
    base_url
        Address of a mirror of https://zenodo.org.
    output
        Folder to unpack into.
    skip_bad
        Skip bad files instead of rejecting the data set.
    """
    from asdbench.data.sets import catalog, challenges, download

    year = challenges.named(challenge)
    workspace = Workspace.from_environment()
    workspace.check_home()
    registered = catalog.load(workspace, year.name) if year.name in catalog.names(workspace) else None
    root = output or (registered.root if registered else workspace.home / "recordings" / year.name)
    if registered and registered.root.exists() and registered.root != root.resolve():
        raise InputError(
            f"the data set {year.name!r} is registered from {str(registered.root)!r}, so it cannot be"
            f" unpacked to {str(output)!r}; drop --output"
        )
    with _file_progress("downloading", in_bytes=True) as progress:
        fetched = download.get(
            year,
            root,
            subsets=(subset,) if subset else (),
            machine_types=machines,
            given=from_,
            base_url=base_url or download.ZENODO,
            say=print_line,
            progress=progress,
        )
    if registered and fetched.clips <= registered.known_files:
        print_line(f"{year.name}: already complete in {root}")
        return
    with _file_progress("reading") as progress:
        channels = registered.channels if registered else None
        data = catalog.add(
            workspace,
            year.name,
            root,
            layout=year.layout,
            channels=channels,
            skip_bad=skip_bad,
            progress=progress,
        )
    _show_registered(data)


@data_app.command
def labels(
    name: str,
    *,
    from_: Annotated[Path, Parameter(name="--from")],
    renamed_list: Path | None = None,
) -> None:
    """Add the organizers' labels of an evaluation subset, from the folder of their evaluator.

    Parameters
    ----------
    name
        Name of a registered data set.
    from_
        Folder with ground_truth_data/ and ground_truth_domain/, or with eval_data_list.csv.
    renamed_list
        List of renamed clips (eval_data_list_....csv) to check against the labels.
    """
    from asdbench.data.sets import catalog, challenges
    from asdbench.data.sets import ground_truth as truth

    data = catalog.load(Workspace.from_environment(), name)
    ground_truth = truth.read_ground_truth(from_)
    matched = truth.match_labels(data.clips, ground_truth)
    wrong = {"names of the clips": matched.wrong_names}
    if renamed_list is not None:
        wrong[str(renamed_list)] = truth.wrong_labels(truth.read_renamed_list(renamed_list), ground_truth)
    catalog.label(data, matched.table)
    for source, counts in wrong.items():
        for machine, (n_wrong, n_clips) in counts.items():
            if n_wrong:
                print_line(
                    f"note: {source}: {n_wrong} of {n_clips} labels of {machine} are wrong;"
                    f" the ground truth is used"
                )
    known = challenges.CHALLENGES.get(name)
    if known and known.renamed_list_errors:
        errors = ", ".join(f"{count} of {machine}" for machine, count in known.renamed_list_errors.items())
        print_line(
            f"note: the list of renamed clips that circulates with the baseline code has wrong labels"
            f" ({errors}); the ground truth is used for clips renamed with it"
        )
    if matched.unused:
        print_line(f"note: labels without clips: {', '.join(matched.unused)}")
    n_anomalies = int(matched.table["anomaly"].sum())
    print_line(f"{name}: {matched.table.height} evaluation clips labeled, {n_anomalies} of them anomalies")
    print_line(f"to evaluate stored scores on them, repeat the run: 'asdbench run SYSTEM --data {name}'")


@data_app.command
def remove(name: str, *, yes: Flag = False) -> None:
    """Remove a data set: its registration, its features, and recordings that asdbench has written.

    Recordings are deleted only if 'asdbench data get' or 'asdbench data demo' has put them into the data
    home; others stay where they are. Results stay and count again once the same recordings are registered
    under the same name; 'asdbench results remove' removes them.

    Parameters
    ----------
    name
        Name of a registered data set.
    yes
        Remove without asking.
    """
    from asdbench.data import removal
    from asdbench.data.sets.download import shown_bytes
    from asdbench.engine.usage import check_unused

    workspace = Workspace.from_environment()
    plan = removal.plan_removal(workspace, name)
    check_unused(workspace.job_storage, [name])
    print_line(f"{name}: the registration in {plan.registration} will be removed")
    if plan.features:
        size = shown_bytes(plan.n_feature_bytes)
        print_line(f"{name}: {len(plan.features)} files of features ({size}) will be deleted")
    if plan.recordings is not None:
        size = shown_bytes(plan.n_recording_bytes)
        print_line(f"{name}: the recordings in {plan.recordings} ({size}) will be deleted")
    if plan.kept_recordings is not None:
        print_line(f"{name}: the recordings in {plan.kept_recordings} stay")
    if not is_confirmed(f"Remove the data set {name}?", yes=yes):
        print_line("nothing was removed")
        return
    removal.remove(plan)
    print_line(f"{name} is removed")
    print_line(f"its results stay; to remove them, too: 'asdbench results remove --data {name}'")


@data_app.command(name="list")
def list_data(*, available: Flag = False, base_url: str | None = None) -> None:
    """List the registered data sets, or those that 'asdbench data get' can download.

    Parameters
    ----------
    available
        List the data sets of the challenges, with sizes and licenses from their Zenodo records.
    base_url
        Address of a mirror of https://zenodo.org.
    """
    from asdbench.data.sets import catalog
    from asdbench.report.rendering import Column, DisplayRow, DisplayTable, numeric

    console = new_console()
    if available:
        _list_available(console, base_url)
        return
    workspace = Workspace.from_environment()
    names = catalog.names(workspace)
    if not names:
        print_line(
            "no data set is registered; 'asdbench data demo' or 'asdbench data add NAME FOLDER' adds one"
        )
        return
    rows = []
    for name in names:
        data = catalog.load(workspace, name)
        rows.append(DisplayRow([name, str(len(data.machine_types)), str(data.clips.height), str(data.root)]))
    console.print(
        DisplayTable([Column("data set"), *numeric("machine types", "clips"), Column("folder")], rows)
    )


def _list_available(console: "Console", base_url: str | None) -> None:
    """Show the challenges, with sizes and licenses from their records."""
    from concurrent.futures import ThreadPoolExecutor

    from asdbench.data.sets import download
    from asdbench.data.sets.challenges import CHALLENGES
    from asdbench.report.rendering import Column, DisplayRow, DisplayTable

    subsets = [(year, name, subset) for year in CHALLENGES.values() for name, subset in year.subsets.items()]
    with ThreadPoolExecutor(len(subsets)) as pool:
        asked = pool.map(
            lambda row: download.ask_records(row[2].records, base_url=base_url or download.ZENODO), subsets
        )
        answers = list(asked)
    rows = []
    for (year, name, subset), facts in zip(subsets, answers, strict=True):
        known = [facts[a.record].files.get(a.name) for a in subset.archives if a.record in facts]
        size = sum(file[0] for file in known if file) if len(known) == len(subset.archives) else None
        licenses = dict.fromkeys(fact.license for fact in facts.values() if fact.license)
        sections = sorted({section for of_type in subset.sections.values() for section in of_type})
        rows.append(
            DisplayRow(
                [
                    year.name,
                    name,
                    "?" if size is None else download.shown_bytes(size),
                    " ".join(subset.machine_types),
                    " ".join(sections),
                    ", ".join(licenses) or "?",
                ]
            )
        )
    columns = [
        *(Column(header, no_wrap=True) for header in ("data set", "subset", "size")),
        *(Column(header) for header in ("machine types", "sections", "license")),
    ]
    console.print(DisplayTable(columns, rows))
    if not all(answers):
        print_line("? = the record could not be read; assume non-commercial use")


@data_app.command
def info(name: str) -> None:
    """Describe a data set: clips per type, split, domain and attribute, durations, formats, license.

    Parameters
    ----------
    name
        Name of a registered data set.
    """
    from asdbench.data.sets import catalog
    from asdbench.report.rendering import frame_table

    console = new_console()
    data = catalog.load(Workspace.from_environment(), name)
    described = catalog.describe(data)
    print_line(f"{name}: {data.clips.height} clips in {data.root}")
    for title, frame in (
        ("clips", described.counts),
        ("durations", described.durations),
        ("formats", described.formats),
        ("attributes", described.attributes),
    ):
        console.print("", frame_table(frame, title=title), sep="\n")
    print_line("")
    _show_problems(data, described.notes)
    print_line(f"license: {described.license or 'the data set states none'}")


def write_and_register_demo(name: str = "demo", *, clips_per_type: int | None = None, seed: int = 0) -> None:
    """Write the embedded data set under the data home, unless it is already there, and register it."""
    from asdbench.data.sets import catalog
    from asdbench.data.synthetic.dataset import write_demo

    clips = DEMO_CLIPS if clips_per_type is None else clips_per_type
    workspace = Workspace.from_environment()
    workspace.check_home()
    folder = workspace.home / "recordings" / f"demo-{clips}-seed{seed}"
    with _file_progress("writing") as progress:
        write_demo(folder, clips_per_type=clips, seed=seed, progress=progress)
    with _file_progress("reading") as progress:
        data = catalog.add(workspace, name, folder, progress=progress)
    print_line(f"{name}: {len(data.machine_types)} machine types, {data.clips.height} clips registered")


def _show_registered(data: "DataSet") -> None:
    """Print what was registered, after notes and files that were left out."""
    _show_problems(data, data.notes)
    print_line(f"{data.name}: {len(data.machine_types)} machine types, {data.clips.height} clips registered")


def _show_problems(data: "DataSet", notes: Iterable[str]) -> None:
    """Print notes on a data set, and the files that were left out."""
    for note in notes:
        print_line(f"note: {note}")
    for skipped in data.left_out:
        print_line(f"skipped: {skipped.path}: {skipped.reason}")


class _file_progress:
    """A progress bar over files or bytes, for functions that call ``progress(done, total)``."""

    def __init__(self, verb: str, *, in_bytes: bool = False) -> None:
        from rich import progress

        console = new_console()
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
