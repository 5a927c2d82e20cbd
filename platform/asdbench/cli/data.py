"""The commands of ``asdbench data``: register, fetch, label and describe data sets."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from asdbench.cli.options import Flag, Subset, Whole, Words, new_console
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
    from asdbench.data.sets import catalog, challenges, download

    year = challenges.named(challenge)
    workspace = Workspace.from_environment()
    workspace.check_home()
    registered = catalog.load(workspace, year.name) if year.name in catalog.names(workspace) else None
    root = to or (registered.root if registered else workspace.home / "recordings" / year.name)
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
    """Enter the organizers' labels of an evaluation subset, from the folder of their evaluator.

    Parameters
    ----------
    name
        A registered data set.
    from_
        Folder with ground_truth_data/ and ground_truth_domain/, or with eval_data_list.csv.
    renamed_list
        A list of renamed clips (eval_data_list_....csv) to be checked against the labels.
    """
    from asdbench.data.sets import catalog, challenges
    from asdbench.data.sets import ground_truth as truth

    data = catalog.load(Workspace.from_environment(), name)
    told = truth.read_ground_truth(from_)
    found = truth.match_labels(data.clips, told)
    known = challenges.CHALLENGES.get(name)
    wrong = {"names of the clips": found.wrong_names}
    if renamed_list is not None:
        wrong[str(renamed_list)] = truth.wrong_labels(truth.read_renamed_list(renamed_list), told)
    catalog.label(data, found.table)
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
    _say(f"{name}: {found.table.height} evaluation clips labeled, {anomalies} of them anomalies")
    _say(f"'asdbench run SYSTEM --data {name}' judges what has been scored; it trains nothing anew")


@data_app.command(name="list")
def list_data(*, available: Flag = False, base_url: str | None = None) -> None:
    """List the registered data sets, or those that 'asdbench data get' can fetch.

    Parameters
    ----------
    available
        List the challenges' data sets; sizes and licenses are asked of their records.
    base_url
        A mirror of https://zenodo.org.
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
        _say("no data set is registered; 'asdbench data demo' or 'asdbench data add NAME FOLDER' adds one")
        return
    rows = []
    for name in names:
        data = catalog.load(workspace, name)
        rows.append(DisplayRow([name, str(len(data.machine_types)), str(data.clips.height), str(data.root)]))
    console.print(
        DisplayTable([Column("data set"), *numeric("machine types", "clips"), Column("folder")], rows)
    )


def _list_available(console: "Console", base_url: str | None) -> None:
    """Show the challenges, with what their records say of sizes and licenses."""
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
        _say("? = the record could not be asked; assume non-commercial use")


@data_app.command
def info(name: str) -> None:
    """Describe a data set: clips by type, split, domain and attribute, durations, formats, license.

    Parameters
    ----------
    name
        A registered data set.
    """
    from asdbench.data.sets import catalog
    from asdbench.report.rendering import frame_table

    console = new_console()
    data = catalog.load(Workspace.from_environment(), name)
    described = catalog.describe(data)
    _say(f"{name}: {data.clips.height} clips in {data.root}")
    for title, frame in (
        ("clips", described.counts),
        ("durations", described.durations),
        ("formats", described.formats),
        ("attributes", described.attributes),
    ):
        console.print("", frame_table(frame, title=title), sep="\n")
    _say("")
    _show_problems(data, described.notes)
    _say(f"license: {described.license or 'the data set states none'}")


def write_and_register_demo(name: str = "demo", *, clips_per_type: int | None = None, seed: int = 0) -> None:
    """Write the embedded data set under the data home and register it as ``name``; again is quick."""
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
    _say(f"{name}: {len(data.machine_types)} machine types, {data.clips.height} clips registered")


def _say(line: str) -> None:
    """Print a line on standard output."""
    from asdbench.report.formatting import print_message

    print_message(new_console(), line)


def _show_registered(data: "DataSet") -> None:
    """Print what was registered, after notes and files that were left out."""
    _show_problems(data, data.notes)
    _say(f"{data.name}: {len(data.machine_types)} machine types, {data.clips.height} clips registered")


def _show_problems(data: "DataSet", notes: Iterable[str]) -> None:
    """Print notes on a data set, and the files that were left out."""
    for note in notes:
        _say(f"note: {note}")
    for skipped in data.left_out:
        _say(f"left out: {skipped.path}: {skipped.reason}")


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
