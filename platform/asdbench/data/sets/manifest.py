"""Manifests: tables with one row per clip, for recordings that follow no known layout.

Conventions
-----------
A manifest is a CSV file with a header, as spreadsheets write it (see `asdbench.data.sets.entries.read_csv`),
or a Parquet file. Columns, in any order:

- ``path``: relative to the folder of the recordings, ``.wav`` or ``.flac``;
- ``machine_type``: the machine type;
- ``split``: train, test or supplemental;
- ``label`` (optional): normal or anomaly; empty if unknown. Training clips are normal;
- ``domain`` (optional): source or target; empty if there are none or it is unknown;
- ``section`` (optional): a machine or condition within a machine type, ``00`` if empty;
- ``attributes`` (optional): ``name=value``, separated by ``;`` (in quotes where ``;`` separates columns);
- ``group`` (optional): clips of one group were cut from one recording, and the hold-out does not split
  groups;
- ``subset`` (optional): dev or eval; if empty, it follows from the labels, as for a folder.

Values are text and keep leading zeros. Every bad row is reported, by its path or its line.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import polars as pl

from asdbench.data.sets.entries import ClipEntry, Findings, Listing, read_csv
from asdbench.data.sets.filenames import Attributes
from asdbench.data.sets.layouts import AUDIO_SUFFIXES, SPLITS, SUBSETS
from asdbench.errors import InputError, unknown_name

REQUIRED = ("path", "machine_type", "split")
COLUMNS = (*REQUIRED, "label", "domain", "section", "attributes", "group", "subset")

_CHOICES = {
    "split": SPLITS,
    "label": ("normal", "anomaly"),
    "domain": ("source", "target"),
    "subset": SUBSETS,
}
_TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
_FILE_NAME = re.compile(r"[^./\\][^/\\]*")  # machine types and sections become parts of file names

Row = dict[str, str]


def list_manifest(manifest: Path, folder: Path, findings: Findings) -> Listing:
    """List the clips in ``manifest``; their files are not opened.

    Parameters
    ----------
    manifest
        A ``.csv``, ``.tsv``, ``.txt`` or ``.parquet`` file.
    folder
        The folder to which its paths are relative.
    findings
        Collects the bad rows.

    Raises
    ------
    InputError
        ``folder`` does not exist, or ``manifest`` cannot be read, has no rows, or has missing or unknown
        columns.
    """
    if not folder.is_dir():
        raise InputError(
            f"no folder {str(folder)!r}; give the folder to which the manifest's paths are relative"
        )
    entries: list[ClipEntry] = []
    lines: dict[str, str] = {}
    for line, row in _rows(manifest, findings):
        path = row["path"] or line
        if reasons := _reasons(row):
            findings.bad(path, f"{line}: {', '.join(reasons)}")
        elif row["path"] in lines:
            findings.bad(path, f"{line} lists it again, after {lines[row['path']]}")
        else:
            entries.append(_entry(row))
        lines.setdefault(row["path"], line)
    if not entries and not findings.reasons:
        raise InputError(f"the manifest {str(manifest)!r} has no rows; it needs one row per clip")
    return Listing(entries, sorted({entry.machine_type for entry in entries}))


def _rows(manifest: Path, findings: Findings) -> Iterator[tuple[str, Row]]:
    """Yield the line and the values of each row, empty if missing; rows of the wrong length are findings."""
    if manifest.suffix.lower() == ".parquet":
        yield from _parquet_rows(manifest)
        return
    if manifest.suffix.lower() not in _TEXT_SUFFIXES:
        endings = ", ".join(_TEXT_SUFFIXES)
        raise InputError(
            f"the manifest {str(manifest)!r} ends neither in {endings} nor in .parquet; save it as one of "
            f"these"
        )
    try:
        table = read_csv(manifest)
    except InputError as error:
        raise InputError(f"the manifest {str(manifest)!r} cannot be used: {error}") from error
    (_, header), *lines = table.lines or [(1, [])]
    _check_columns(manifest, header)
    if table.encoding == "Windows-1252":
        findings.notes.append(
            f"{manifest.name} is not UTF-8 and was read as Windows-1252 (Latin-1); if names look wrong, save "
            f"it in UTF-8"
        )
    quoting = "; put values that contain ';' in quotes" if table.delimiter == ";" else ""
    for line, fields in lines:
        shown = f"{manifest.name} line {line}"
        if len(fields) == len(header):
            yield shown, _row(dict(zip(header, fields, strict=True)))
        else:
            findings.bad(shown, f"it has {len(fields)} fields, the header {len(header)}{quoting}")


def _parquet_rows(manifest: Path) -> Iterator[tuple[str, Row]]:
    try:
        table = pl.read_parquet(manifest)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"the manifest {str(manifest)!r} cannot be read as Parquet ({error})") from error
    _check_columns(manifest, table.columns)
    for name, kind in table.schema.items():
        if not (kind in (pl.Utf8, pl.Null, pl.Categorical) or kind.is_integer()):
            raise InputError(f"column {name!r} of the manifest {str(manifest)!r} is of type {kind}, not text")
    for number, row in enumerate(table.cast(pl.Utf8).fill_null("").iter_rows(named=True), start=1):
        yield f"{manifest.name} row {number}", _row({name: value.strip() for name, value in row.items()})


def _check_columns(manifest: Path, columns: list[str]) -> None:
    for name in REQUIRED:
        if name not in columns:
            raise InputError(
                f"the manifest {str(manifest)!r} has no column {name!r}, its header is "
                f"{','.join(columns)!r}; it needs {', '.join(REQUIRED)}"
            )
    unknown = [name for name in columns if name not in COLUMNS]
    if len(unknown) == 1:
        raise InputError(f"the manifest {str(manifest)!r}: {unknown_name('column', unknown[0], COLUMNS)}")
    if unknown:
        raise InputError(
            f"the manifest {str(manifest)!r} has unknown columns {', '.join(map(repr, unknown))}; "
            f"remove them, or rename them to some of {', '.join(COLUMNS)}"
        )
    if len(set(columns)) < len(columns):
        raise InputError(
            f"the manifest {str(manifest)!r} repeats a column; its header is {','.join(columns)}"
        )


def _row(values: Row) -> Row:
    row = dict.fromkeys(COLUMNS, "") | values
    return row | {"section": row["section"] or "00"}


def _reasons(row: Row) -> list[str]:
    """Return the reasons why a row cannot be used."""
    path = PurePosixPath(row["path"])
    reasons = []
    if not row["path"]:
        reasons.append("its path is empty")
    elif path.is_absolute() or ".." in path.parts or str(path) != row["path"]:
        reasons.append(f"the path {row['path']!r} is not plain and relative to the folder of the recordings")
    elif path.suffix.lower() not in AUDIO_SUFFIXES:
        reasons.append(f"the path does not end in {' or '.join(AUDIO_SUFFIXES)}")
    reasons += [
        f"the {column} {row[column]!r} cannot be part of a file name"
        for column in ("machine_type", "section")
        if not (_FILE_NAME.fullmatch(row[column]) and row[column].isprintable())
    ]
    for column, choices in _CHOICES.items():
        if row[column] not in choices and (row[column] or column in REQUIRED):
            reasons.append(f"the {column} {row[column]!r} is not {' or '.join(choices)}")
    if row["split"] == "train" and row["label"] == "anomaly":
        reasons.append("a training clip is labeled anomaly; training clips are normal")
    try:
        _attributes(row["attributes"])
    except InputError as error:
        reasons.append(str(error))
    return reasons


def _attributes(text: str) -> Attributes:
    parts = [part.strip() for part in text.split(";") if part.strip()]
    pairs = tuple((name.strip(), value.strip()) for name, _, value in (part.partition("=") for part in parts))
    if not all(name and value for name, value in pairs):
        raise InputError(f"the attributes {text!r} are not name=value pairs separated by ';'")
    if len({name for name, _ in pairs}) < len(pairs):
        raise InputError(f"the attributes {text!r} repeat a name")
    return pairs


def _entry(row: Row) -> ClipEntry:
    return ClipEntry(
        path=row["path"],
        machine_type=row["machine_type"],
        section=row["section"],
        split=row["split"],
        domain=row["domain"] or None,
        label=row["label"] or None,
        attributes=_attributes(row["attributes"]),
        recording=row["group"] or None,
        subset=row["subset"] or None,
    )
