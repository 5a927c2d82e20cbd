"""The index of records: the same as the files, of which it reads those that are new."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from asdbench.engine import record_index
from asdbench.engine.record_index import RecordKind, indexed_records
from asdbench.io.records import RecordError
from asdbench.io.storage import Storage, StorageError


def to_row(content: bytes, path: str) -> dict[str, object]:
    try:
        return {"value": int(content)}
    except ValueError as error:
        raise RecordError(f"{path} is no number", path) from error


KIND = RecordKind("numbers", ".txt", "1", {"value": pl.Int64()}, to_row)


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        found: Storage = request.getfixturevalue("s3")
        return found
    return Storage.from_location(tmp_path / "place")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The records that were read; segments of the index are left out."""
    done: list[str] = []
    read = Storage._read_if_there

    def noted(self: Storage, name: str) -> bytes | None:
        if name.startswith("numbers/"):
            done.append(name)
        return read(self, name)

    monkeypatch.setattr(Storage, "_read_if_there", noted)
    return done


def values(root: Storage, kind: RecordKind = KIND) -> dict[str, int]:
    found = indexed_records(root, kind)
    assert found.unreadable == ()
    return dict(found.rows.select("name", "value").iter_rows())


def test_only_what_is_new_is_read(root: Storage, reads: list[str]) -> None:
    assert values(root) == {}
    for number in (7, 5, 11):
        root.write(f"numbers/{number}.txt", b"%d" % number)
    expected = {"numbers/11.txt": 11, "numbers/5.txt": 5, "numbers/7.txt": 7}
    assert values(root) == expected
    assert sorted(reads) == sorted(expected)
    reads.clear()
    assert values(root) == expected
    assert reads == []
    root.write("numbers/7.txt", b"777")
    root.write("numbers/a/8.txt", b"8")
    root.delete("numbers/5.txt")
    assert values(root) == {"numbers/11.txt": 11, "numbers/7.txt": 777, "numbers/a/8.txt": 8}
    assert sorted(reads) == ["numbers/7.txt", "numbers/a/8.txt"]


def test_a_record_that_cannot_be_read_is_reported_until_it_is_mended(root: Storage) -> None:
    root.write("numbers/1.txt", b"1")
    root.write("numbers/2.txt", b"two")
    for _ in range(2):
        found = indexed_records(root, KIND)
        assert [str(error) for error in found.unreadable] == [f"{root}/numbers/2.txt is no number"]
        assert found.rows["value"].to_list() == [1]
    root.write("numbers/2.txt", b"22")
    assert values(root) == {"numbers/1.txt": 1, "numbers/2.txt": 22}


def test_an_index_that_is_damaged_or_gone_is_made_again(root: Storage, reads: list[str]) -> None:
    root.write("numbers/1.txt", b"1")
    expected = values(root)
    [segment] = root.names("index")
    root.write(segment, b"damaged")
    assert values(root) == expected
    root.delete_folder("index")
    assert values(root) == expected
    assert reads == ["numbers/1.txt"] * 3


def test_another_version_of_the_rows_has_an_index_of_its_own(root: Storage) -> None:
    root.write("numbers/1.txt", b"1")
    values(root)
    twice = replace(KIND, version="2", to_row=lambda content, path: {"value": 2 * int(content)})
    assert values(root, twice) == {"numbers/1.txt": 2}
    assert values(root) == {"numbers/1.txt": 1}


def test_an_index_that_is_interrupted_keeps_what_it_has(
    root: Storage, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_index, "_BATCH", 2)
    for number in range(5):
        root.write(f"numbers/{number}.txt", b"%d" % number)
    rows = iter([{"value": 0}, {"value": 1}])
    failing = RecordKind("numbers", ".txt", "1", KIND.columns, lambda content, path: next(rows))
    with pytest.raises((StopIteration, RuntimeError)):
        indexed_records(root, failing)
    reads.clear()
    assert list(values(root).values()) == list(range(5))
    assert sorted(reads) == [f"numbers/{number}.txt" for number in (2, 3, 4)]


def test_a_store_that_cannot_be_written_is_read_without_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Storage.from_location(tmp_path)
    root.write("numbers/1.txt", b"1")

    def refuse(*_: object) -> None:
        raise StorageError("the disk is read-only")

    monkeypatch.setattr(Storage, "write", refuse)
    assert values(root) == values(root) == {"numbers/1.txt": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["numbers"]
