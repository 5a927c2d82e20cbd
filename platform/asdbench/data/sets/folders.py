"""From a folder to entries of clips: names, attribute tables and provenance, in the layout of the folder.

Idea
----
A folder holds one folder a machine type, each with folders of clips, and beside them ``attributes_NN.csv``
(one a section) and perhaps ``provenance.csv`` (columns ``file_name`` and ``original``: the recording that a
clip was cut from). Development and evaluation subset may lie side by side in ``dev_data/`` and
``eval_data/``; a machine type may then be in both.

Conventions
-----------
Attributes come from the attribute CSV, otherwise from the name. The CSV and ``provenance.csv`` name a clip as
``<machine type>/<folder>/<file>``.

Known departures
----------------
An attribute CSV need not list test clips at all (evaluation sets), but one that lists some must list all that
carry a label. Names and CSV rows are compared as spelled text, because a name may join what a table keeps
apart (``weight00_BckgA``). Supplemental clips have no domain and are described by their names alone. Where
attributes are text in the name, no CSV is read.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from asdbench.data.sets.entries import ClipEntry, Findings, Listing, csv_lines, printable
from asdbench.data.sets.filenames import NO_ATTRIBUTE, Attributes, ClipName, parse_clip_name
from asdbench.data.sets.layouts import AUDIO_SUFFIXES, SPLIT_FOLDERS, SUBSET_FOLDERS, Layout, detect_layout
from asdbench.errors import InputError


@dataclass(frozen=True)
class _File:
    """A clip by name: its path in the data set, and in tables, which start with the machine type."""

    path: str
    in_tables: str
    name: ClipName


@dataclass(frozen=True)
class _AttributeRow:
    table: str
    line: int
    attributes: Attributes


def list_folder(folder: Path, findings: Findings, *, layout: Layout | None = None) -> tuple[Listing, Layout]:
    """List the clips of every machine type under ``folder``; nothing is opened but tables.

    Parameters
    ----------
    folder
        The folder that holds the machine types' folders, or ``dev_data/`` and ``eval_data/``.
    findings
        Takes what is wrong or remarkable.
    layout
        How to read it; told from the folder if not given.

    Returns
    -------
    tuple
        The clips, and the layout that they were read in.

    Raises
    ------
    InputError
        ``folder`` holds no machine types, or more than one layout and none is given.
    """
    places = _subset_folders(folder)
    types = {place: machine_type_folders(place) for place in places}
    layout = layout or detect_layout([machine for found in types.values() for machine in found])
    entries: list[ClipEntry] = []
    unnamed: list[str] = []
    for place, subset in places.items():
        for machine in types[place]:
            files, nameless = _listed_files(folder, machine, layout, findings)
            unnamed += nameless
            attributes = _attributes_by_file(folder, machine, files, layout, findings)
            recordings = _recordings_by_file(folder, machine, {file.in_tables for file in files}, findings)
            entries += [
                ClipEntry(
                    path=file.path,
                    machine_type=machine.name,
                    section=file.name.section,
                    split=file.name.split,
                    domain=file.name.domain,
                    label=file.name.label,
                    attributes=attributes[file.path],
                    recording=recordings.get(file.in_tables),
                    subset=subset,
                )
                for file in files
            ]
    _note_unused(folder, types, layout, findings)
    names = sorted({machine.name for found in types.values() for machine in found})
    return Listing(entries, names, unnamed), layout


def _subset_folders(folder: Path) -> dict[Path, str | None]:
    """Return the folders that hold machine types, with the subset that their names say."""
    inner: dict[Path, str | None] = {
        folder / name: subset for name, subset in SUBSET_FOLDERS.items() if (folder / name).is_dir()
    }
    return inner or {folder: SUBSET_FOLDERS.get(folder.name)}


def machine_type_folders(folder: Path) -> list[Path]:
    """Return the folders directly under ``folder`` that hold folders of clips, sorted by name.

    Raises
    ------
    InputError
        ``folder`` is no folder, is a machine type's own folder, or has none.
    """
    shown = repr(str(folder))
    if not folder.is_dir():
        raise InputError(f"no folder {shown}; give the folder that holds the machine types' folders")
    try:
        if _has_split(folder):
            around = repr(str(folder.parent))
            raise InputError(f"{shown} is one machine type's folder; give the folder around it, {around}")
        found = sorted(e for e in folder.iterdir() if not e.name.startswith(".") and _has_split(e))
    except OSError as error:
        raise InputError(f"cannot look into {shown} ({error.strerror}); make it readable") from error
    if not found:
        nested = sorted({entry.parent.parent for entry in folder.glob("*/*/train") if entry.is_dir()})
        hint = f"; did you mean {str(nested[0])!r}?" if nested else ""
        raise InputError(f"no machine types in {shown}: no folder in it has train/ or test/{hint}")
    for machine in found:
        if not machine.name.isprintable():
            raise InputError(f"the name of the folder {str(machine)!r} cannot be printed; rename it")
    return found


def _has_split(folder: Path) -> bool:
    return any((folder / split).is_dir() for split in SPLIT_FOLDERS)


def _within(folder: Path, path: Path) -> str:
    return printable(path.relative_to(folder).as_posix())


def _listed_files(
    folder: Path, machine: Path, layout: Layout, findings: Findings
) -> tuple[list[_File], list[str]]:
    """Return the clips, and the paths of clips whose names say nothing; what is no clip is bad."""
    files: list[_File] = []
    nameless: list[str] = []
    for clips in layout.folders:
        if not (machine / clips.name).is_dir():
            continue
        hidden = 0
        where = _within(folder, machine / clips.name)
        try:
            entries = sorted(os.scandir(machine / clips.name), key=lambda entry: entry.name)
        except OSError as error:
            findings.bad(where, f"unreadable folder ({error.strerror})")
            continue
        for entry in entries:
            path = f"{where}/{printable(entry.name)}"
            if entry.name.startswith("."):
                hidden += 1
            elif not entry.name.lower().endswith(AUDIO_SUFFIXES):
                what = "a folder" if entry.is_dir() else "not a .wav or .flac file"
                findings.bad(path, f"{what}: only clips belong in {clips.name}/")
            else:
                try:
                    name = parse_clip_name(entry.name, split_folder=clips.name, layout=layout)
                except InputError as error:
                    findings.bad(path, str(error))
                    if "\ufffd" not in path:  # else it is not to be opened by the path shown
                        nameless.append(path)
                else:
                    files.append(_File(path, f"{machine.name}/{clips.name}/{entry.name}", name))
        if hidden:
            findings.notes.append(f"{where}: {hidden} hidden files were ignored")
    return files, nameless


def _attributes_by_file(
    folder: Path, machine: Path, files: Sequence[_File], layout: Layout, findings: Findings
) -> dict[str, Attributes]:
    """Return every clip's attributes by path: its row in the attribute CSV, otherwise its name."""
    rows, tables = _attribute_tables(folder, machine, findings) if layout.attributes == "pairs" else ({}, {})
    there = {file.in_tables for file in files}
    there.update(path.relative_to(machine.parent).as_posix() for path in machine.glob("*/*"))
    for listed, (row, *_) in rows.items():
        if listed not in there:
            around = "" if machine.parent == folder else f"{_within(folder, machine.parent)}/"
            findings.bad(f"{around}{listed}", f"{row.table} line {row.line} names it, but it is not there")
    covered = {PurePosixPath(listed).parent.name for listed in rows} | {"train"}

    found: dict[str, Attributes] = {}
    for file in files:
        name = file.name
        found[file.path] = name.attributes
        if name.split == "supplemental":
            continue
        own = rows.get(file.in_tables, [])
        if own:
            found[file.path] = own[0].attributes
        if len(own) > 1:
            lines = ", ".join(str(row.line) for row in own)
            findings.bad(file.path, f"{own[0].table} names it {len(own)} times (lines {lines})")
        elif own and name.attributes and _spelled(name.attributes) != _spelled(own[0].attributes):
            told, row = _shown(name.attributes), own[0]
            findings.bad(
                file.path, f"its name says {told}, {row.table} line {row.line} says {_shown(row.attributes)}"
            )
        elif not own and name.label and name.split in covered and name.section in tables:
            findings.bad(file.path, f"it has no row in {tables[name.section]}")
    return found


def _attribute_tables(
    folder: Path, machine: Path, findings: Findings
) -> tuple[dict[str, list[_AttributeRow]], dict[str, str]]:
    """Return the rows of all readable attribute CSVs by file path, and the CSVs' names by section."""
    rows: dict[str, list[_AttributeRow]] = {}
    tables: dict[str, str] = {}
    for table in sorted(machine.glob("attributes_*.csv")):
        where = _within(folder, table)
        try:
            (_, header), *lines = list(csv_lines(table)) or [(1, [])]
        except InputError as error:
            findings.bad(where, str(error))
            continue
        pairs = (len(header) - 1) // 2
        if header != ["file_name", *(f"d{k + 1}{part}" for k in range(pairs) for part in "pv")]:
            findings.bad(
                where, f"its header is {','.join(header)!r}, not file_name,d1p,d1v,d2p,d2v and so on"
            )
            continue
        tables[table.stem.removeprefix("attributes_")] = table.name
        for line, (path, *fields) in lines:
            if len(fields) != 2 * pairs:
                findings.bad(where, f"line {line} has {1 + len(fields)} fields, the header {len(header)}")
                continue
            told = zip(fields[::2], fields[1::2], strict=True)
            attributes = tuple((name, value) for name, value in told if value and name != NO_ATTRIBUTE)
            rows.setdefault(path, []).append(_AttributeRow(table.name, line, attributes))
    return rows, tables


def _spelled(attributes: Attributes) -> str:
    return "".join(name + value for name, value in attributes).replace("_", "")


def _shown(attributes: Attributes) -> str:
    return " ".join(f"{name}={value}" for name, value in attributes) or "nothing"


def _recordings_by_file(folder: Path, machine: Path, listed: set[str], findings: Findings) -> dict[str, str]:
    """Return the recording that each clip was cut from, where ``provenance.csv`` says it."""
    table = machine / "provenance.csv"
    if not table.exists():
        return {}
    where = _within(folder, table)
    try:
        lines = [fields for _, fields in csv_lines(table)]
    except InputError as error:
        findings.notes.append(f"{where} was ignored: {error}")
        return {}
    header = lines[0] if lines else []
    if not {"file_name", "original"} <= set(header):
        findings.notes.append(f"{where} was ignored: it has no columns file_name and original")
        return {}
    rows = [dict(zip(header, fields, strict=False)) for fields in lines[1:]]
    missing = sum(row.get("file_name") not in listed for row in rows)
    if missing:
        findings.notes.append(f"{where}: {missing} rows name no clip that is there; they were ignored")
    return {row["file_name"]: row["original"] for row in rows if row.get("original")}


def _note_unused(folder: Path, types: dict[Path, list[Path]], layout: Layout, findings: Findings) -> None:
    """Note folders that were not looked into."""
    machines = [machine for found in types.values() for machine in found]
    looked_into = {*types, *machines}
    clips = {place.name for place in layout.folders}
    for entry in sorted(_inner_folders([folder, *types, *machines])):
        used = entry in looked_into or (entry.parent in machines and entry.name in clips)
        if not used and not entry.name.startswith("."):
            findings.notes.append(f"{_within(folder, entry)}/ was not looked into")


def _inner_folders(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in dict.fromkeys(folders):
        yield from (entry for entry in folder.iterdir() if entry.is_dir())
