"""An index of the JSON records in a job store: their fields as a table, so that 10^5 are read at once.

Idea: the records are the truth, and the index is a cache of them in the same store, which is made again where
it is missing or damaged. One listing tells which records are new or were written again; only these are read,
many at once.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import polars as pl

from asdbench.io.records import RecordError
from asdbench.io.segments import SegmentedTable
from asdbench.io.storage import Storage, StorageError

logger = logging.getLogger(__name__)

_BATCH = 10_000  # records; an index that is interrupted while it is made keeps full batches


@dataclass(frozen=True)
class RecordKind:
    """A kind of records.

    Attributes
    ----------
    folder, suffix : where their files are in the job store
    version : another text whenever the same file would give another row
    columns : types of the columns of a row
    to_row : gives the row of a file from its content and its path, or raises `RecordError`
    """

    folder: str
    suffix: str
    version: str
    columns: Mapping[str, pl.DataType]
    to_row: Callable[[bytes, str], Mapping[str, object]]


@dataclass(frozen=True)
class IndexedRecords:
    """The records of a kind.

    Attributes
    ----------
    rows : ``name``, ``version`` of the file and the kind's columns, sorted by name
    unreadable : why a record cannot be read, for each one
    """

    rows: pl.DataFrame
    unreadable: tuple[RecordError, ...]


def indexed_records(root: Storage, kind: RecordKind) -> IndexedRecords:
    """Return all records of a kind in a job store, and bring their index up to date."""
    schema = {"version": pl.String(), **kind.columns}
    table = SegmentedTable(root, f"index/{kind.folder}-{kind.version}", schema)
    versions = root.versions(kind.folder, kind.suffix)
    files = pl.DataFrame(
        {"name": list(versions), "version": list(versions.values())},
        schema={"name": pl.String(), "version": pl.String()},
    )
    known = table.read().join(files, on=["name", "version"], how="semi", maintain_order="left")
    parts = [known]
    unreadable: list[RecordError] = []
    for batch, errors in _read(root, kind, table.schema, files.join(known, on="name", how="anti")):
        parts.append(batch)
        unreadable += errors
        _store(table, batch)
    rows = pl.concat(parts).sort("name")
    try:
        table.merge(rows)
    except StorageError as error:
        logger.info("the index of %s is not merged: %s", kind.folder, error)
    return IndexedRecords(rows, tuple(unreadable))


def _read(
    root: Storage, kind: RecordKind, schema: pl.Schema, files: pl.DataFrame
) -> Iterator[tuple[pl.DataFrame, Sequence[RecordError]]]:
    """Yield rows of files in batches, with the errors of those that cannot be read."""
    versions = dict(files.select("name", "version").iter_rows())
    contents = root.read_each(versions)
    while batch := list(islice(contents, _BATCH)):
        rows, errors = [], []
        for name, content in batch:
            try:
                rows.append(
                    {"name": name, "version": versions[name], **kind.to_row(content, f"{root}/{name}")}
                )
            except RecordError as error:
                errors.append(error)
        yield pl.DataFrame(rows, schema=schema), errors


def _store(table: SegmentedTable, rows: pl.DataFrame) -> None:
    """Add rows to an index; a store that cannot be written is read without one."""
    if rows.is_empty():
        return
    try:
        table.append(rows)
    except StorageError as error:
        logger.info("the index is not stored: %s", error)
