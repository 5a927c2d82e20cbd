"""Listing a folder: entries of its clips from names, attribute tables and provenance.

Idea
----
A folder contains one folder per machine type, each with folders of clips, ``attributes_NN.csv`` (one per
section) and optionally ``provenance.csv`` (columns ``file_name`` and ``original``: the recording that a clip
was cut from). Development and evaluation subset may be side by side in ``dev_data/`` and ``eval_data/``; a
machine type may then be in both.

Conventions
-----------
Attributes come from the attribute CSV, otherwise from the name. The CSV and ``provenance.csv`` name a clip as
``<machine type>/<folder>/<file>``.

Known departures
----------------
An attribute CSV may omit all test clips (evaluation sets), but one that lists some must list every labeled
one. Names and CSV rows are compared as concatenated text, because a name may join what a table separates
(``weight00_BckgA``). Supplemental clips have no domain and are described by their names only. If attributes
are text in the name, no CSV is read.
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
    """A clip and its parsed name, with its path in the data set and the path that tables use for it."""

    path: str
    in_tables: str
    name: ClipName


@dataclass(frozen=True)
class _AttributeRow:
    table: str
    line: int
    attributes: Attributes


def list_folder(folder: Path, findings: Findings, *, layout: Layout | None = None) -> tuple[Listing, Layout]:
    """List the clips of every machine type under ``folder``; only tables are opened.

    Parameters
    ----------
    folder
        Folder that contains the machine types' folders, or ``dev_data/`` and ``eval_data/``.
    findings
        Collects problems and remarks.
    layout
        Layout of the folder (default: detected).

    Returns
    -------
    tuple
        The clips, and the layout of the folder.

    Raises
    ------
    InputError
        ``folder`` contains no machine types, or more than one layout and none is given.
    """
    subsets = _subset_folders(folder)
    types = {subset_folder: machine_type_folders(subset_folder) for subset_folder in subsets}
    layout = layout or detect_layout([machine for machines in types.values() for machine in machines])
    entries: list[ClipEntry] = []
    unnamed: list[str] = []
    for subset_folder, subset in subsets.items():
        for machine in types[subset_folder]:
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
    names = sorted({machine.name for machines in types.values() for machine in machines})
    return Listing(entries, names, unnamed), layout


def _subset_folders(folder: Path) -> dict[Path, str | None]:
    """Return the folders that contain machine types, with the subset that their names denote."""
    inner: dict[Path, str | None] = {
        folder / name: subset for name, subset in SUBSET_FOLDERS.items() if (folder / name).is_dir()
    }
    return inner or {folder: SUBSET_FOLDERS.get(folder.name)}


def machine_type_folders(folder: Path) -> list[Path]:
    """Return the folders directly under ``folder`` that contain folders of clips, sorted by name.

    Raises
    ------
    InputError
        ``folder`` does not exist, is the folder of one machine type, or contains no machine types.
    """
    shown = repr(str(folder))
    if not folder.is_dir():
        raise InputError(f"no folder {shown}; give the folder that contains the machine types' folders")
    try:
        if _has_split(folder):
            parent = repr(str(folder.parent))
            raise InputError(f"{shown} is the folder of one machine type; give its parent folder, {parent}")
        machines = sorted(e for e in folder.iterdir() if not e.name.startswith(".") and _has_split(e))
    except OSError as error:
        raise InputError(f"cannot list {shown} ({error.strerror}); make it readable") from error
    if not machines:
        nested = sorted({entry.parent.parent for entry in folder.glob("*/*/train") if entry.is_dir()})
        hint = f"; did you mean {str(nested[0])!r}?" if nested else ""
        raise InputError(f"no machine types in {shown}: no folder in it has train/ or test/{hint}")
    for machine in machines:
        if not machine.name.isprintable():
            raise InputError(f"the folder name {str(machine)!r} contains unprintable characters; rename it")
    return machines


def _has_split(folder: Path) -> bool:
    return any((folder / split).is_dir() for split in SPLIT_FOLDERS)


def _within(folder: Path, path: Path) -> str:
    return printable(path.relative_to(folder).as_posix())


def _listed_files(
    folder: Path, machine: Path, layout: Layout, findings: Findings
) -> tuple[list[_File], list[str]]:
    """Return the clips, and the paths of clips whose names cannot be parsed; other files are findings."""
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
                    if "\ufffd" not in path:  # otherwise the printable path does not open the file
                        nameless.append(path)
                else:
                    files.append(_File(path, f"{machine.name}/{clips.name}/{entry.name}", name))
        if hidden:
            findings.notes.append(f"{where}: {hidden} hidden files ignored")
    return files, nameless


def _attributes_by_file(
    folder: Path, machine: Path, files: Sequence[_File], layout: Layout, findings: Findings
) -> dict[str, Attributes]:
    """Return every clip's attributes by path, from the attribute CSV or else from its name."""
    rows, tables = _attribute_tables(folder, machine, findings) if layout.attributes == "pairs" else ({}, {})
    present = {file.in_tables for file in files}
    present.update(path.relative_to(machine.parent).as_posix() for path in machine.glob("*/*"))
    for listed, (row, *_) in rows.items():
        if listed not in present:
            parent = "" if machine.parent == folder else f"{_within(folder, machine.parent)}/"
            findings.bad(f"{parent}{listed}", f"{row.table} line {row.line} lists it, but it does not exist")
    covered = {PurePosixPath(listed).parent.name for listed in rows} | {"train"}

    attributes: dict[str, Attributes] = {}
    for file in files:
        name = file.name
        attributes[file.path] = name.attributes
        if name.split == "supplemental":
            continue
        clip_rows = rows.get(file.in_tables, [])
        if clip_rows:
            attributes[file.path] = clip_rows[0].attributes
        if len(clip_rows) > 1:
            lines = ", ".join(str(row.line) for row in clip_rows)
            findings.bad(file.path, f"{clip_rows[0].table} lists it {len(clip_rows)} times (lines {lines})")
        elif clip_rows and name.attributes and _spelled(name.attributes) != _spelled(clip_rows[0].attributes):
            in_name, row = _shown(name.attributes), clip_rows[0]
            findings.bad(
                file.path,
                f"its name says {in_name}, {row.table} line {row.line} says {_shown(row.attributes)}",
            )
        elif not clip_rows and name.label and name.split in covered and name.section in tables:
            findings.bad(file.path, f"it has no row in {tables[name.section]}")
    return attributes


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
            named = zip(fields[::2], fields[1::2], strict=True)
            attributes = tuple((name, value) for name, value in named if value and name != NO_ATTRIBUTE)
            rows.setdefault(path, []).append(_AttributeRow(table.name, line, attributes))
    return rows, tables


def _spelled(attributes: Attributes) -> str:
    return "".join(name + value for name, value in attributes).replace("_", "")


def _shown(attributes: Attributes) -> str:
    return " ".join(f"{name}={value}" for name, value in attributes) or "nothing"


def _recordings_by_file(folder: Path, machine: Path, listed: set[str], findings: Findings) -> dict[str, str]:
    """Return the recording that each clip was cut from, as far as ``provenance.csv`` gives it."""
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
        findings.notes.append(f"{where}: {missing} rows name clips that do not exist; they were ignored")
    return {row["file_name"]: row["original"] for row in rows if row.get("original")}


def _note_unused(folder: Path, types: dict[Path, list[Path]], layout: Layout, findings: Findings) -> None:
    """Note folders that were ignored."""
    machines = [machine for type_folders in types.values() for machine in type_folders]
    listed = {*types, *machines}
    clips = {clip_folder.name for clip_folder in layout.folders}
    for entry in sorted(_inner_folders([folder, *types, *machines])):
        used = entry in listed or (entry.parent in machines and entry.name in clips)
        if not used and not entry.name.startswith("."):
            findings.notes.append(f"{_within(folder, entry)}/ was ignored")


def _inner_folders(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in dict.fromkeys(folders):
        yield from (entry for entry in folder.iterdir() if entry.is_dir())
