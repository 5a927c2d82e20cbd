"""The commands of ``asdbench data``: register, download, label, list, describe and remove data sets."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from asdbench.cli.confirm import is_confirmed
from asdbench.cli.options import Flag, Integer, Strings, Subset
from asdbench.cli.output import (
    message_console,
    new_console,
    print_json,
    print_line,
    print_report,
    print_result,
)
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

    from asdbench.data.sets.catalog import DataSet
    from asdbench.report.rendering import DisplayTable

data_app = App(name="data", help="Register, download, list, describe and remove data sets.")


@data_app.command
def add(
    name: str,
    folder: Path,
    *,
    layout: str | None = None,
    manifest: Path | None = None,
    channels: Literal["near", "far", "both", "mean"] | None = None,
    skip_bad: Flag = False,
    allow_shared_recordings: Flag = False,
    json: Flag = False,
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
    allow_shared_recordings
        Accept recordings that training and test clips of a domain share, and test clips that are probably
        copies of training clips; all results on the data set are marked.
    json
        Print what was registered as JSON.
    """
    from asdbench.api.data import add_data

    data = add_data(
        name,
        folder,
        layout=layout,
        manifest=manifest,
        channels=channels,
        skip_bad=skip_bad,
        allow_shared_recordings=allow_shared_recordings,
        progress=message_console(stderr=json),
    )
    _show_registered(data, json=json)


@data_app.command
def demo(
    *,
    name: str = "demo",
    clips_per_type: Integer | None = None,
    seed: Integer = 0,
    json: Flag = False,
) -> None:
    """Generate and register the embedded data set: synthetic sounds of seven machine types.

    Parameters
    ----------
    name
        Name of the data set.
    clips_per_type
        Number of training clips per machine type, at least 20 (default: 100).
    seed
        Random seed of the generator.
    json
        Print what was registered as JSON.
    """
    from asdbench.api.data import add_demo_data

    data = add_demo_data(
        name, clips_per_type=clips_per_type, seed=seed, progress=message_console(stderr=json)
    )
    _show_registered(data, json=json)


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
    allow_shared_recordings: Flag = False,
    json: Flag = False,
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
    allow_shared_recordings
        Accept test clips that are probably copies of training clips; all results on the data set are marked.
    json
        Print what was registered as JSON.
    """
    from asdbench.api.data import described
    from asdbench.api.file_progress import FileProgress
    from asdbench.data.sets import catalog, challenges, download

    console = message_console(stderr=json)
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
    with FileProgress("downloading", console, in_bytes=True) as progress:
        fetched = download.get(
            year,
            root,
            subsets=(subset,) if subset else (),
            machine_types=machines,
            given=from_,
            base_url=base_url or download.ZENODO,
            say=lambda line: print_line(line, stderr=json),
            progress=progress,
        )
    if registered and fetched.clips <= registered.known_files:
        print_line(f"{year.name}: already complete in {root}", stderr=json)
        if json:
            print_json(described(registered))
        return
    with FileProgress("reading", console) as progress:
        channels = registered.channels if registered else None
        data = catalog.add(
            workspace,
            year.name,
            root,
            layout=year.layout,
            channels=channels,
            skip_bad=skip_bad,
            allow_shared_recordings=allow_shared_recordings,
            progress=progress,
        )
    _show_registered(data, json=json)


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
    from asdbench.engine.record_index import indexed_records
    from asdbench.engine.result_index import RESULTS
    from asdbench.engine.usage import check_unused
    from asdbench.io.download import shown_bytes

    workspace = Workspace.from_environment()
    plan = removal.plan_removal(workspace, name)
    check_unused(workspace.job_storage, [name])
    print_result(f"{name}: the registration in {plan.registration} will be removed")
    if plan.features:
        size = shown_bytes(plan.n_feature_bytes)
        print_result(f"{name}: {len(plan.features)} files of features ({size}) will be deleted")
    if plan.recordings is not None:
        size = shown_bytes(plan.n_recording_bytes)
        print_result(f"{name}: the recordings in {plan.recordings} ({size}) will be deleted")
    if plan.kept_recordings is not None:
        print_line(f"{name}: the recordings in {plan.kept_recordings} stay")
    if not is_confirmed(f"Remove the data set {name}?", yes=yes):
        print_line("nothing was removed")
        return
    removal.remove(plan)
    print_line(f"{name} is removed")
    if (indexed_records(workspace.job_storage, RESULTS).rows["data"] == name).any():
        print_line(f"its results stay; 'asdbench results remove --data {name}' removes them as well")


@data_app.command(name="list")
def list_data(*, available: Flag = False, base_url: str | None = None, json: Flag = False) -> None:
    """List the registered data sets, or those that 'asdbench data get' can download.

    Parameters
    ----------
    available
        List the data sets of the challenges, with sizes and licenses from their Zenodo records.
    base_url
        Address of a mirror of https://zenodo.org.
    json
        Print JSON.
    """
    if available:
        _list_available(base_url, json=json)
        return
    from asdbench.api.data import data_sets

    registered = data_sets()
    if json or registered.names:
        print_report(registered, "json" if json else "table")
    else:
        print_line(
            "no data set is registered; 'asdbench data demo' or 'asdbench data add NAME FOLDER' adds one"
        )


def _list_available(base_url: str | None, *, json: bool) -> None:
    """Show the challenges, with sizes and licenses from their records."""
    from concurrent.futures import ThreadPoolExecutor

    from asdbench.data.sets import download
    from asdbench.data.sets.challenges import CHALLENGES
    from asdbench.io.download import shown_bytes
    from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Row

    subsets = [(year, name, subset) for year in CHALLENGES.values() for name, subset in year.subsets.items()]
    with ThreadPoolExecutor(len(subsets)) as pool:
        asked = pool.map(
            lambda row: download.ask_records(row[2].records, base_url=base_url or download.ZENODO), subsets
        )
        answers = list(asked)
    rows: list[Row] = []
    for (year, name, subset), facts in zip(subsets, answers, strict=True):
        known = [facts[a.record].files.get(a.name) for a in subset.archives if a.record in facts]
        rows.append(
            {
                "name": year.name,
                "subset": name,
                "bytes": sum(f[0] for f in known if f) if len(known) == len(subset.archives) else None,
                "machine_types": list(subset.machine_types),
                "sections": sorted({section for of in subset.sections.values() for section in of}),
                "licenses": list(dict.fromkeys(fact.license for fact in facts.values() if fact.license)),
            }
        )
    if json:
        print_json(rows)
        return
    columns = [
        *(Column(header, no_wrap=True) for header in ("data set", "subset", "size")),
        *(Column(header) for header in ("machine types", "sections", "license")),
    ]
    shown = [
        DisplayRow(
            [
                row["name"],
                row["subset"],
                "?" if row["bytes"] is None else shown_bytes(row["bytes"]),
                " ".join(row["machine_types"]),
                " ".join(row["sections"]),
                ", ".join(row["licenses"]) or "?",
            ]
        )
        for row in rows
    ]
    new_console().print(DisplayTable(columns, shown))
    if not all(answers):
        print_line("? = the record could not be read; assume non-commercial use")


@data_app.command
def info(name: str, *, json: Flag = False) -> None:
    """Describe a data set: clips per type, split, domain and attribute, durations, hold-out, license.

    Standardization and decision thresholds come from normal clips that are held out in groups: recordings,
    or blocks of similar clips. The z-scores of fresh normal clips say by how many standard deviations the
    clips of one group lie above those of the others (5 %, median, 95 %), by the distance of their spectra
    from the nearest clip of another group. "if random" is the median if clips were held out one by one: what
    it has beyond the other median, near copies of training clips hide.

    Parameters
    ----------
    name
        Name of a registered data set.
    json
        Print JSON.
    """
    from asdbench.api.data import described_in_full
    from asdbench.data import holdout
    from asdbench.data.sets import catalog
    from asdbench.report.rendering import frame_table

    console = new_console()
    data = catalog.load(Workspace.from_environment(), name)
    if json:
        print_json(described_in_full(data))
        return
    described = catalog.describe(data)
    print_result(f"{name}: {data.clips.height} clips in {data.root}")
    for title, frame in (
        ("clips", described.counts),
        ("durations", described.durations),
        ("formats", described.formats),
        ("attributes", described.attributes),
    ):
        console.print("", frame_table(frame, title=title), sep="\n")
    held_out = holdout.describe(data.clips.filter(split="train"))
    console.print("", _hold_out_table(held_out), sep="\n")
    print_line(
        "z low, median, high: by how many deviations normal clips of one group lie above those of the "
        "others (5 %, median, 95 %); z if random: the median if clips were held out one by one"
    )
    print_result("")
    _show_problems(data, described.notes)
    print_result(f"license: {described.license or 'the data set states none'}")


def _hold_out_table(held_out: "pl.DataFrame") -> "DisplayTable":
    """Return the table of a hold-out with headers that fold, and with fewer columns for a narrow terminal."""
    import polars as pl

    from asdbench.report.rendering import Column, frame_table

    title = "hold-out, and z-scores of fresh normal clips"
    shown = held_out.with_columns(groups=pl.format("{} {}", "groups", "groups_are")).drop("groups_are")
    tables: list[DisplayTable] = []
    for frame in (shown.drop("clips", "largest"), shown):
        table = frame_table(frame, title=title)
        columns = [Column(c.header.replace("_", "\n"), c.justify, no_wrap=True) for c in table.columns]
        tables.append(replace(table, columns=columns, narrow=tables[-1] if tables else None))
    return tables[-1]


def _show_registered(data: "DataSet", *, json: bool) -> None:
    """Print what was registered, after notes and files that were left out."""
    from asdbench.api.data import described
    from asdbench.report.formatting import format_amount

    _show_problems(data, data.notes, stderr=json)
    if json:
        print_json(described(data))
    else:
        n_types = format_amount(len(data.machine_types), "machine type")
        print_line(f"{data.name}: {n_types}, {format_amount(data.clips.height, 'clip')} registered")


def _show_problems(data: "DataSet", notes: Iterable[str], *, stderr: bool = False) -> None:
    """Print notes on a data set, and the files that were left out."""
    for note in notes:
        print_line(f"note: {note}", stderr=stderr)
    for skipped in data.left_out:
        print_line(f"skipped: {skipped.path}: {skipped.reason}", stderr=stderr)
