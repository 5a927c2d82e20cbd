"""Tables in segments: what is appended counts, whoever else writes, and damage costs rows only."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from asdbench.io.segments import SegmentedTable
from asdbench.io.storage import Storage

SCHEMA = {"value": pl.Int64()}


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        found: Storage = request.getfixturevalue("s3")
        return found
    return Storage.from_location(tmp_path / "place")


def rows(**values: int) -> pl.DataFrame:
    return pl.DataFrame({"name": list(values), "value": list(values.values())}, schema_overrides=SCHEMA)


def test_the_newest_row_of_a_name_counts(root: Storage) -> None:
    table = SegmentedTable(root, "index/it", SCHEMA)
    assert table.read().rows() == []
    table.append(rows(b=1, a=2))
    table.append(rows(b=3))
    assert (
        table.read().rows() == SegmentedTable(root, "index/it", SCHEMA).read().rows() == [("a", 2), ("b", 3)]
    )


def test_many_segments_are_merged_into_one(root: Storage) -> None:
    for number in range(9):
        table = SegmentedTable(root, "it", SCHEMA)
        table.merge(table.read())
        assert len(root.names("it")) == number
        table.append(rows(**{f"n{number}": number}))
    table = SegmentedTable(root, "it", SCHEMA)
    everything = table.read()
    table.merge(everything)
    assert len(root.names("it")) == 1
    assert table.read().rows() == everything.rows() == [(f"n{number}", number) for number in range(9)]


def test_two_that_merge_at_once_lose_nothing(root: Storage) -> None:
    for number in range(9):
        SegmentedTable(root, "it", SCHEMA).append(rows(**{f"n{number}": number}))
    first, second = (SegmentedTable(root, "it", SCHEMA) for _ in range(2))
    of_first, of_second = first.read(), second.read()
    SegmentedTable(root, "it", SCHEMA).append(rows(late=1))
    first.merge(of_first)
    second.merge(of_second)
    assert len(root.names("it")) == 3
    assert SegmentedTable(root, "it", SCHEMA).read().rows() == [("late", 1), *of_first.rows()]


def test_a_row_that_is_added_during_a_merge_counts(root: Storage) -> None:
    for number in range(9):
        SegmentedTable(root, "it", SCHEMA).append(rows(a=number))
    merging = SegmentedTable(root, "it", SCHEMA)
    everything = merging.read()
    SegmentedTable(root, "it", SCHEMA).append(rows(a=100))
    merging.merge(everything)
    assert SegmentedTable(root, "it", SCHEMA).read().rows() == [("a", 100)]


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    def write(number: int) -> None:
        table = SegmentedTable(Storage.from_location(tmp_path), "it", SCHEMA)
        table.append(rows(**{f"n{number:02}": number}))
        table.merge(table.read())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(40)))
    found = SegmentedTable(Storage.from_location(tmp_path), "it", SCHEMA).read()
    assert found.rows() == [(f"n{number:02}", number) for number in range(40)]


@pytest.mark.parametrize("damage", [b"", b"PAR1", bytes(2000), "half", "other columns"])
def test_a_damaged_segment_is_ignored(root: Storage, damage: bytes | str) -> None:
    SegmentedTable(root, "it", SCHEMA).append(rows(a=1))
    [name] = root.names("it")
    SegmentedTable(root, "it", SCHEMA).append(rows(b=2))
    if damage == "half":
        damage = root.read(name)[: len(root.read(name)) // 2]
    elif damage == "other columns":
        root.write(name, rows(a=1).rename({"value": "other"}).write_parquet)
    if isinstance(damage, bytes):
        root.write(name, damage)
    assert SegmentedTable(root, "it", SCHEMA).read().rows() == [("b", 2)]
