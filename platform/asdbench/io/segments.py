"""A table in several Parquet files, which many processes may extend at the same time.

Idea: a derived cache, so that whatever is lost can be made again. Rows are appended as a new file, a segment;
of rows with the same name, those of the newest segment count. Once there are several segments, one takes
their place. Two processes that do so at once leave two segments with the same rows, and the next one merges
them. A damaged segment is ignored, and removed with the next merge.
"""

import io
import time
import uuid
from collections.abc import Mapping

import polars as pl

from asdbench.io.storage import Storage

_MOST = 8  # segments


class SegmentedTable:
    """A table whose first column is ``name``; a name has one row.

    Parameters
    ----------
    root, folder : where the segments are
    schema : types of the columns, without ``name``; the folder should differ between schemas

    Examples
    --------
    >>> import tempfile
    >>> table = SegmentedTable(Storage.from_location(tempfile.mkdtemp()), "speeds", {"speed": pl.Int64()})
    >>> table.append(pl.DataFrame({"name": ["a", "b"], "speed": [1, 2]}))
    >>> table.append(pl.DataFrame({"name": ["b"], "speed": [3]}))
    >>> table.read().rows()
    [('a', 1), ('b', 3)]
    """

    def __init__(self, root: Storage, folder: str, schema: Mapping[str, pl.DataType]) -> None:
        self._root = root
        self._folder = folder
        self._segments: list[str] = []
        self._read_ns = 0
        self.schema = pl.Schema({"name": pl.String(), **schema})

    def read(self) -> pl.DataFrame:
        """Return all rows, sorted by name."""
        self._read_ns = time.time_ns()
        self._segments = self._root.names(self._folder, ".parquet")
        segments = [_parsed(content, self.schema) for _, content in self._root.read_each(self._segments)]
        rows = pl.concat([self.schema.to_frame(), *(segment for segment in segments if segment is not None)])
        return rows.unique("name", keep="last", maintain_order=True).sort("name")

    def append(self, rows: pl.DataFrame) -> None:
        """Add rows, or replace those of the same names."""
        self._write(rows, time.time_ns())

    def _write(self, rows: pl.DataFrame, time_ns: int) -> None:
        name = f"{self._folder}/{time_ns:020d}-{uuid.uuid4().hex[:8]}.parquet"
        self._root.write(name, rows.select(self.schema.names()).write_parquet)
        self._segments.append(name)

    def merge(self, rows: pl.DataFrame) -> None:
        """Replace the segments, if they are many, by ``rows``: all that are still wanted."""
        if len(self._segments) <= _MOST:
            return
        merged, self._segments = self._segments, []
        self._write(rows, self._read_ns)  # what others have added since is newer
        for name in merged:
            self._root.delete(name)


def _parsed(content: bytes, schema: pl.Schema) -> pl.DataFrame | None:
    """Return the rows of a segment, ``None`` if it is damaged."""
    try:
        rows = pl.read_parquet(io.BytesIO(content))
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    return rows if rows.schema == schema else None
