"""From a folder of recordings to the clip table: every file is looked at and everything bad is listed.

Idea
----
A folder holds one folder a machine type, each with ``train/`` and ``test/``, and beside them
``attributes_NN.csv`` (one a section) and perhaps ``provenance.csv`` (columns ``file_name`` and
``original``: the recording that a clip was cut from). Indexing decodes every clip in a pool of processes
and collects all that is wrong, so that a user mends a folder once.

Conventions
-----------
``clip_id`` comes from the content of a file, and the table is ordered by it within a split: neither numbers
nor order tell anything about a name or a label. Attributes come from the attribute CSV, otherwise from the
name. The labels of test clips go to a truth table of their own (see ``truth``). Paths are posix and
relative to the folder. Content is equal where the bytes of two files are.

Known departures
----------------
An attribute CSV need not list test clips at all (evaluation sets), but one that lists some must list all that
carry a label. Names and CSV rows are compared as spelled text, because a name may join what a table keeps
apart (2024: ``weight00_BckgA``). A file counts as unchanged when its path, size and modification time are.
"""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from asdbench.data.audio import ClipAudio, facts_or_reason
from asdbench.data.filenames import AUDIO_SUFFIXES, NO_ATTRIBUTE, SPLITS, ClipName, parse_clip_name
from asdbench.data.truth import TRUTH_SCHEMA
from asdbench.errors import InputError

CLIP_SCHEMA = pl.Schema(
    {
        "clip_id": pl.Int64(),
        "path": pl.Utf8(),
        "machine_type": pl.Utf8(),
        "section": pl.Utf8(),
        "split": pl.Utf8(),
        "domain": pl.Utf8(),
        "attributes": pl.List(pl.Struct({"name": pl.Utf8(), "value": pl.Utf8()})),
        "recording": pl.Utf8(),
        "samples": pl.Int64(),
        "sample_rate_hz": pl.Int64(),
        "channels": pl.Int64(),
        "duration_s": pl.Float64(),
        "content_hash": pl.Utf8(),
        "size_bytes": pl.Int64(),
        "mtime_ns": pl.Int64(),
    }
)

_REASONS_SHOWN = 3

Attributes = tuple[tuple[str, str], ...]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, order=True)
class BadFile:
    """A file (or folder) that cannot be used: its path relative to the indexed folder, and why."""

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Index:
    """What a folder holds: the clip table (``CLIP_SCHEMA``), the truth (``TRUTH_SCHEMA``), bad files, notes.

    What is bad is in neither table.
    """

    clips: pl.DataFrame
    truth: pl.DataFrame
    bad: list[BadFile]
    notes: list[str]


@dataclass(frozen=True)
class _File:
    """A file with an audio suffix; ``name`` is None where the name does not parse."""

    path: str
    machine_type: str
    name: ClipName | None
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class _AttributeRow:
    table: str
    line: int
    attributes: Attributes


class _Findings:
    """Everything wrong or remarkable, by path, in the order of discovery."""

    def __init__(self) -> None:
        self.reasons: dict[str, list[str]] = {}
        self.notes: list[str] = []

    def bad(self, path: str, reason: str) -> None:
        self.reasons.setdefault(path, []).append(reason)

    def listed(self) -> list[BadFile]:
        """Return one entry a path; beyond three, reasons are counted."""
        entries = []
        for path, reasons in self.reasons.items():
            more = [f"and {len(reasons) - _REASONS_SHOWN} more"] if len(reasons) > _REASONS_SHOWN else []
            entries.append(BadFile(path, "; ".join(reasons[:_REASONS_SHOWN] + more)))
        return sorted(entries)


def machine_type_folders(folder: Path) -> list[Path]:
    """Return the folders directly under ``folder`` that have ``train/`` or ``test/``, sorted by name.

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
    return any((folder / split).is_dir() for split in SPLITS)


def index_folder(
    folder: Path,
    *,
    workers: int | None = None,
    previous: pl.DataFrame | None = None,
    progress: Progress | None = None,
) -> Index:
    """Look at every clip of every machine type under ``folder``.

    Parameters
    ----------
    folder:
        The folder that holds the machine types' folders; it is only read.
    workers:
        Processes that decode; all processors by default. Few files are decoded in this process.
    previous:
        The clip table of an earlier index of the same folder: files of equal path, size and modification time
        are not decoded again.
    progress:
        Called with (files done, files in all).

    Raises
    ------
    InputError
        ``folder`` holds no machine types, or ``workers`` is below 1. Bad files do not raise: they are listed.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; at least 1 is needed")
    types = machine_type_folders(folder)
    findings = _Findings()
    files = [file for machine in types for file in _listed_files(machine, findings)]
    facts = _inspect(folder, files, workers=workers, previous=previous, progress=progress, findings=findings)

    present: dict[str, list[_File]] = {machine.name: [] for machine in types}
    for file in files:
        present[file.machine_type].append(file)
    rows: list[dict[str, Any]] = []
    anomalous: dict[str, bool] = {}
    for machine in types:
        of_type = present[machine.name]
        attributes = _attributes_by_file(machine, of_type, findings)
        recordings = _recordings_by_file(machine, {file.path for file in of_type}, findings)
        for file in of_type:
            if file.name is None or file.path not in facts:
                continue
            rows.append(
                _row(file, file.name, facts[file.path], attributes[file.path], recordings.get(file.path))
            )
            if file.name.label is not None and file.name.split == "test":
                anomalous[file.path] = file.name.label == "anomaly"
    rows = [row for row in rows if row["path"] not in findings.reasons]
    rows = _without_leaks(rows, findings)
    rows = _of_trained_types(rows, [machine.name for machine in types], findings)
    _note_unused(folder, types, findings)

    rows.sort(key=lambda row: (row["machine_type"], row["split"], row["section"], row["path"]))
    for row, clip_id in zip(rows, _clip_ids([row["content_hash"] for row in rows]), strict=True):
        row["clip_id"] = clip_id
    clips = pl.DataFrame(rows, schema=CLIP_SCHEMA).sort("machine_type", "section", "split", "clip_id")
    told = [row for row in rows if row["path"] in anomalous]
    truth = pl.DataFrame(
        {"clip_id": [row["clip_id"] for row in told], "anomaly": [anomalous[row["path"]] for row in told]},
        schema=TRUTH_SCHEMA,
    ).sort("clip_id")
    return Index(clips, truth, findings.listed(), findings.notes)


def _listed_files(machine: Path, findings: _Findings) -> Iterator[_File]:
    """Yield the files with an audio suffix; whatever else lies beside them is bad, unless it is hidden."""
    for split in SPLITS:
        if not (machine / split).is_dir():
            continue
        hidden = 0
        try:
            entries = sorted(os.scandir(machine / split), key=lambda entry: entry.name)
        except OSError as error:
            findings.bad(f"{machine.name}/{split}", f"unreadable folder ({error.strerror})")
            continue
        for entry in entries:
            path = _printable(f"{machine.name}/{split}/{entry.name}")
            if entry.name.startswith("."):
                hidden += 1
            elif not entry.name.lower().endswith(AUDIO_SUFFIXES):
                what = "a folder" if entry.is_dir() else "not a .wav or .flac file"
                findings.bad(path, f"{what}: only clips belong in {split}/")
            else:
                yield _file(entry, path, machine.name, split, findings)
        if hidden:
            findings.notes.append(f"{machine.name}/{split}: {hidden} hidden files were ignored")


def _file(entry: os.DirEntry[str], path: str, machine_type: str, split: str, findings: _Findings) -> _File:
    name = None
    try:
        name = parse_clip_name(entry.name, split_folder=split)
    except InputError as error:
        findings.bad(path, str(error))
    try:
        status = entry.stat()
    except OSError:  # a broken link: decoding will say so
        return _File(path, machine_type, name, -1, -1)
    return _File(path, machine_type, name, status.st_size, status.st_mtime_ns)


def _printable(path: str) -> str:
    """Replace what is not valid UTF-8 in a file name, so that it can be shown and stored."""
    return os.fsencode(path).decode("utf-8", errors="replace")


def _inspect(
    folder: Path,
    files: Sequence[_File],
    *,
    workers: int | None,
    previous: pl.DataFrame | None,
    progress: Progress | None,
    findings: _Findings,
) -> dict[str, ClipAudio]:
    """Return the facts of every file that decodes, by path; the others become findings."""
    known = _known_facts(previous)
    facts: dict[str, ClipAudio] = {}
    unknown: list[str] = []
    for file in files:
        old = known.get(file.path)
        if old is not None and (old.size_bytes, old.mtime_ns) == (file.size_bytes, file.mtime_ns):
            facts[file.path] = old
        elif file.name is None and "\ufffd" in file.path:
            continue  # the name is not text: reported already, and not to be opened by the path shown
        else:
            unknown.append(file.path)
    done = len(files) - len(unknown)
    if progress is not None:
        progress(done, len(files))
    # Decoding and hashing run outside Python's lock, so threads serve.
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        results = pool.map(facts_or_reason, [folder / path for path in unknown])
        for path, result in zip(unknown, results, strict=True):
            if isinstance(result, ClipAudio):
                facts[path] = result
            else:
                findings.bad(path, result)
            done += 1
            if progress is not None:
                progress(done, len(files))
    return facts


def _known_facts(previous: pl.DataFrame | None) -> dict[str, ClipAudio]:
    if previous is None:
        return {}
    columns = ("samples", "sample_rate_hz", "channels", "content_hash", "size_bytes", "mtime_ns")
    return {path: ClipAudio(*values) for path, *values in previous.select("path", *columns).iter_rows()}


def _row(
    file: _File, name: ClipName, audio: ClipAudio, attributes: Attributes, recording: str | None
) -> dict[str, Any]:
    return {
        "path": file.path,
        "machine_type": file.machine_type,
        "section": name.section,
        "split": name.split,
        "domain": name.domain,
        "attributes": [{"name": key, "value": value} for key, value in attributes],
        "recording": recording,
        "samples": audio.samples,
        "sample_rate_hz": audio.sample_rate_hz,
        "channels": audio.channels,
        "duration_s": audio.samples / audio.sample_rate_hz,
        "content_hash": audio.content_hash,
        "size_bytes": audio.size_bytes,
        "mtime_ns": audio.mtime_ns,
    }


def _attributes_by_file(machine: Path, files: Sequence[_File], findings: _Findings) -> dict[str, Attributes]:
    """Return every file's attributes by path: its row in the attribute CSV, otherwise its name."""
    rows, tables = _attribute_tables(machine, findings)
    there = {file.path for file in files}
    there.update(path.relative_to(machine.parent).as_posix() for path in machine.glob("*/*"))
    for path, (row, *_) in rows.items():
        if path not in there:
            findings.bad(path, f"{row.table} line {row.line} names it, but it is not there")
    covered = {PurePosixPath(path).parent.name for path in rows} | {"train"}

    found: dict[str, Attributes] = {}
    for file in files:
        if (name := file.name) is None:
            continue
        own = rows.get(file.path, [])
        found[file.path] = own[0].attributes if own else name.attributes
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
    machine: Path, findings: _Findings
) -> tuple[dict[str, list[_AttributeRow]], dict[str, str]]:
    """Return the rows of all readable attribute CSVs by file path, and the CSVs' names by section."""
    rows: dict[str, list[_AttributeRow]] = {}
    tables: dict[str, str] = {}
    for table in sorted(machine.glob("attributes_*.csv")):
        where = f"{machine.name}/{table.name}"
        try:
            (_, header), *lines = list(_csv_lines(table)) or [(1, [])]
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


def _csv_lines(table: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of every line that is not blank.

    Raises
    ------
    InputError
        The file cannot be read as CSV text.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            for fields in reader:
                if any(fields):
                    yield reader.line_num, [field.strip() for field in fields]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"it cannot be read as CSV text ({error})") from error


def _spelled(attributes: Attributes) -> str:
    return "".join(name + value for name, value in attributes).replace("_", "")


def _shown(attributes: Attributes) -> str:
    return " ".join(f"{name}={value}" for name, value in attributes) or "nothing"


def _recordings_by_file(machine: Path, paths: set[str], findings: _Findings) -> dict[str, str]:
    """Return the recording that each file was cut from, where ``provenance.csv`` says it."""
    table = machine / "provenance.csv"
    if not table.exists():
        return {}
    where = f"{machine.name}/{table.name}"
    try:
        lines = [fields for _, fields in _csv_lines(table)]
    except InputError as error:
        findings.notes.append(f"{where} was ignored: {error}")
        return {}
    header = lines[0] if lines else []
    if not {"file_name", "original"} <= set(header):
        findings.notes.append(f"{where} was ignored: it has no columns file_name and original")
        return {}
    rows = [dict(zip(header, fields, strict=False)) for fields in lines[1:]]
    missing = sum(row.get("file_name") not in paths for row in rows)
    if missing:
        findings.notes.append(f"{where}: {missing} rows name no clip that is there; they were ignored")
    return {row["file_name"]: row["original"] for row in rows if row.get("original")}


def _without_leaks(rows: list[dict[str, Any]], findings: _Findings) -> list[dict[str, Any]]:
    """Drop test clips that are also training clips of their type; note content that a split holds twice."""
    trained = {(r["machine_type"], r["content_hash"]): r["path"] for r in rows if r["split"] == "train"}
    first: dict[tuple[str, str, str], str] = {}
    repeated: dict[tuple[str, str], list[str]] = {}
    kept = []
    for row in rows:
        content = (row["machine_type"], row["content_hash"])
        if row["split"] == "test" and content in trained:
            findings.bad(
                row["path"], f"a leak: its content equals that of the training clip {trained[content]}"
            )
            continue
        kept.append(row)
        original = first.setdefault((*content, row["split"]), row["path"])
        if original != row["path"]:
            repeated.setdefault((row["machine_type"], row["split"]), []).append(f"{row['path']} = {original}")
    for (machine_type, split), pairs in repeated.items():
        what = "clip repeats" if len(pairs) == 1 else "clips repeat"
        findings.notes.append(f"{machine_type}/{split}: {len(pairs)} {what} another's content ({pairs[0]})")
    return kept


def _of_trained_types(
    rows: list[dict[str, Any]], machine_types: Sequence[str], findings: _Findings
) -> list[dict[str, Any]]:
    """Drop machine types without a usable training clip; note those without test clips."""
    counts = Counter((row["machine_type"], row["split"]) for row in rows)
    untrained = {machine_type for machine_type in machine_types if not counts[machine_type, "train"]}
    for machine_type in sorted(untrained):
        findings.bad(machine_type, "no usable training clips in its train/, so nothing can be learned")
    findings.notes.extend(
        f"{machine_type} has no test clips"
        for machine_type in machine_types
        if machine_type not in untrained and not counts[machine_type, "test"]
    )
    return [row for row in rows if row["machine_type"] not in untrained]


def _note_unused(folder: Path, types: Sequence[Path], findings: _Findings) -> None:
    """Note folders that were not looked into."""
    aside = [entry for entry in folder.iterdir() if entry.is_dir() and entry not in types]
    inner = [
        entry
        for machine in types
        for entry in machine.iterdir()
        if entry.is_dir() and entry.name not in SPLITS
    ]
    for entry in sorted(aside + inner):
        if not entry.name.startswith("."):
            findings.notes.append(f"{_printable(entry.relative_to(folder).as_posix())}/ was not looked into")


def _clip_ids(content_hashes: Sequence[str]) -> list[int]:
    """Return one non-negative id a clip, from its content and how often that content came before."""
    seen: Counter[str] = Counter()
    taken: set[int] = set()
    clip_ids = []
    for content_hash in content_hashes:
        while True:
            key = f"{content_hash}/{seen[content_hash]}".encode()
            seen[content_hash] += 1
            clip_id = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
            if clip_id not in taken:
                break
        taken.add(clip_id)
        clip_ids.append(clip_id)
    return clip_ids
