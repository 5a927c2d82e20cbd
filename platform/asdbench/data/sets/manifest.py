"""From a manifest, a table with a row a clip, to entries of clips: for recordings in no known layout.

Conventions
-----------
A manifest is a CSV file with a header, or a Parquet file. Columns, in any order:

- ``path``: relative to the folder of the recordings, ``.wav`` or ``.flac``;
- ``machine_type``: the machine type;
- ``split``: train, test or supplemental;
- ``label`` (may be left out): normal or anomaly; empty where it is not known. Training clips are normal;
- ``domain`` (may be left out): source or target; empty where there are none or it is not known;
- ``section`` (may be left out): a machine or condition within a machine type, ``00`` if empty;
- ``attributes`` (may be left out): ``name=value``, several with ``;`` between them;
- ``group`` (may be left out): clips of one group were cut from one recording, and the hold-out keeps groups
  whole;
- ``subset`` (may be left out): dev or eval; if empty it follows from the labels, as in a folder.

Values are text and keep leading zeros. Every bad row is reported, under its path or its place.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import polars as pl

from asdbench.data.sets.entries import ClipEntry, Findings, Listing, csv_lines
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
_FILE_NAME = re.compile(r"[^./\\][^/\\]*")  # machine types and sections become parts of file names

Row = dict[str, str]


def list_manifest(manifest: Path, folder: Path, findings: Findings) -> Listing:
    """List the clips that ``manifest`` names; their files are not opened.

    Parameters
    ----------
    manifest
        A ``.csv`` or ``.parquet`` file.
    folder
        The folder to which its paths are relative.
    findings
        Takes the bad rows.

    Raises
    ------
    InputError
        ``folder`` is no folder, ``manifest`` cannot be read, has no rows, lacks a column or has another one.
    """
    if not folder.is_dir():
        raise InputError(
            f"no folder {str(folder)!r}; give the folder to which the manifest's paths are relative"
        )
    entries: list[ClipEntry] = []
    places: dict[str, str] = {}
    for place, row in _rows(manifest, findings):
        where = row["path"] or place
        if reasons := _wrong_with(row):
            findings.bad(where, f"{place}: {', '.join(reasons)}")
        elif row["path"] in places:
            findings.bad(where, f"{place} names it again, after {places[row['path']]}")
        else:
            entries.append(_entry(row))
        places.setdefault(row["path"], place)
    if not entries and not findings.reasons:
        raise InputError(f"the manifest {str(manifest)!r} has no rows; it needs one a clip")
    return Listing(entries, sorted({entry.machine_type for entry in entries}))


def _rows(manifest: Path, findings: Findings) -> Iterator[tuple[str, Row]]:
    """Yield where a row is and its values, empty where there is none; rows of other lengths are findings."""
    if manifest.suffix.lower() == ".parquet":
        yield from _parquet_rows(manifest)
        return
    if manifest.suffix.lower() != ".csv":
        raise InputError(f"the manifest {str(manifest)!r} is neither a .csv nor a .parquet file")
    try:
        (_, header), *lines = list(csv_lines(manifest)) or [(1, [])]
    except InputError as error:
        raise InputError(f"the manifest {str(manifest)!r} cannot be used: {error}") from error
    _check_columns(manifest, header)
    for line, fields in lines:
        place = f"{manifest.name} line {line}"
        if len(fields) == len(header):
            yield place, _row(dict(zip(header, fields, strict=True)))
        else:
            findings.bad(place, f"it has {len(fields)} fields, the header {len(header)}")


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
            needed = ", ".join(REQUIRED)
            raise InputError(f"the manifest {str(manifest)!r} has no column {name!r}; it needs {needed}")
    for name in columns:
        if name not in COLUMNS:
            raise InputError(f"the manifest {str(manifest)!r}: {unknown_name('column', name, COLUMNS)}")
    if len(set(columns)) < len(columns):
        raise InputError(
            f"the manifest {str(manifest)!r} has a column twice; its header is {','.join(columns)}"
        )


def _row(told: Row) -> Row:
    row = dict.fromkeys(COLUMNS, "") | told
    return row | {"section": row["section"] or "00"}


def _wrong_with(row: Row) -> list[str]:
    """Return what is wrong with a row."""
    path = PurePosixPath(row["path"])
    reasons = []
    if not row["path"]:
        reasons.append("it names no path")
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
        raise InputError(f"the attributes {text!r} are not name=value with ';' between them")
    if len({name for name, _ in pairs}) < len(pairs):
        raise InputError(f"the attributes {text!r} give a name twice")
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
