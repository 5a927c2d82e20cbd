"""The stored results as a table, and as records that are decoded one at a time.

Conventions: the columns of the table are the fields of `ResultRecord`, and its official metrics, which are
much shorter than all metrics. Texts and numbers stay what they are; everything else (settings, rules,
metrics) is compact JSON, in the order of the file.
"""

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, overload

import msgspec
import polars as pl

from asdbench.engine import result_record
from asdbench.engine.record_index import RecordKind
from asdbench.engine.result_record import ResultRecord

_PLAIN = {
    str: pl.String(),
    str | None: pl.String(),
    int: pl.Int64(),
    float: pl.Float64(),
    bool: pl.Boolean(),
}
_FIELDS = {field.name: field.type for field in msgspec.structs.fields(ResultRecord)}
_COLUMNS = {**_FIELDS, "official_metrics": list[dict[str, float]]}
_NESTED = tuple(name for name, kind in _COLUMNS.items() if kind not in _PLAIN)
_SHARED = (
    "settings",
    "changed_settings",
    "tuned",
    "rule",
    "versions",
)  # few different values, decoded once each
_SLICE = 1024


def to_row(content: bytes, path: str) -> dict[str, object]:
    """Return the row of a result's file; raises as `asdbench.engine.result_record.from_json` does."""
    record = result_record.from_json(content, path=path)
    row = {name: getattr(record, name) for name in _COLUMNS}
    return row | {name: to_text(row[name]) for name in _NESTED}


def to_text(value: object) -> str | None:
    """Return a nested value as it is in the table; ``None`` stays ``None``."""
    return None if value is None else msgspec.json.encode(value).decode()


RESULTS = RecordKind(
    folder="results",
    suffix=".json",
    version=f"2-{result_record.SCHEMA_VERSION}",
    columns={name: _PLAIN.get(kind, pl.String()) for name, kind in _COLUMNS.items()},
    to_row=to_row,
)


class Decoder:
    """Decodes nested values of the table; the same text of a shared column gives the same object."""

    def __init__(self) -> None:
        self._decoders = {name: msgspec.json.Decoder(_COLUMNS[name]) for name in _NESTED}
        self._shared: dict[tuple[str, str], Any] = {}

    def decode_all(self, column: str, texts: Sequence[str | None]) -> list[Any]:
        """Return the values of cells of a column; for speed without a call per cell."""
        if column in _SHARED:
            values = {text: self.decode(column, text) for text in set(texts)}
            return [values[text] for text in texts]
        decode = self._decoders[column].decode
        return [None if text is None else decode(text) for text in texts]

    def decode(self, column: str, text: str | None) -> Any:
        """Return the value of a cell."""
        if text is None:
            return None
        if column not in _SHARED:
            return self._decoders[column].decode(text)
        if (column, text) not in self._shared:
            self._shared[column, text] = self._decoders[column].decode(text)
        return self._shared[column, text]


class IndexedResults(Sequence[ResultRecord]):
    """Results in a table, each decoded when it is asked for, so that 10^5 need little memory.

    Attributes
    ----------
    table : columns as in `RESULTS`
    """

    def __init__(self, table: pl.DataFrame) -> None:
        self.table = table.select(list(_COLUMNS))
        self._decoder = Decoder()

    def __len__(self) -> int:
        return self.table.height

    @overload
    def __getitem__(self, index: int) -> ResultRecord: ...
    @overload
    def __getitem__(self, index: slice) -> "IndexedResults": ...
    def __getitem__(self, index: int | slice) -> "ResultRecord | IndexedResults":
        if isinstance(index, slice):
            return IndexedResults(self.table[index])
        return next(iter(self[index : index + 1 or None]))

    def __iter__(self) -> Iterator[ResultRecord]:
        for values in self.values(*_FIELDS):
            yield ResultRecord(**dict(zip(_FIELDS, values, strict=True)))

    def values(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """Yield some values of each result; the others are not decoded."""
        for part in self.table.select(names).iter_slices(_SLICE):
            columns = ((name, part[name].to_list()) for name in names)
            yield from zip(
                *(
                    self._decoder.decode_all(name, column) if name in _NESTED else column
                    for name, column in columns
                ),
                strict=True,
            )


def values(records: Iterable[ResultRecord], *names: str) -> Iterator[tuple[Any, ...]]:
    """Yield some values (two or more) of each result, which cost less than whole results of a table.

    Parameters
    ----------
    records : the results
    names : fields of `ResultRecord`, or ``"official_metrics"``
    """
    return records.values(*names) if isinstance(records, IndexedResults) else map(attrgetter(*names), records)
