import errno
from pathlib import Path

import pytest

from asdbench.errors import InputError
from asdbench.tracking import outbox
from asdbench.tracking.outbox import Outbox
from asdbench.tracking.records import RowEntry, RunRecord


def entry(name: str = "a", key: str = "k") -> RowEntry:
    return RowEntry("demo", RunRecord(name, {"asdbench.key": key}, {}, [("m", 1.0, 0)], 0, 1), [])


def names_of(entries: list[object]) -> list[str]:
    return [entry.row.name for entry in entries if isinstance(entry, RowEntry)]


def test_an_entry_is_read_as_it_was_put(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox")
    box.put(entry())
    [name] = box.names()
    assert box.read(name) == entry()


def test_names_are_in_the_order_of_putting_and_grouped_by_run(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox")
    for name, key in (("b", "x"), ("a", "y"), ("c", "x")):
        box.put(entry(name, key))
    names = box.names()
    assert names_of([box.read(name) for name in names]) == ["b", "a", "c"]
    assert list(box.groups().values()) == [[names[0], names[2]], [names[1]]]


def test_an_entry_that_was_removed_is_none(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox")
    box.put(entry())
    [name] = box.names()
    box.remove([name])
    assert (box.names(), box.read(name)) == ([], None)
    box.remove([name])  # another process may have been first


def test_a_damaged_entry_is_an_error_with_its_path(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox")
    box.put(entry())
    [name] = box.names()
    (box.folder / name).write_bytes(b"\x80")
    with pytest.raises(InputError, match=f"{name}' is damaged .* remove it"):
        box.read(name)


def test_entries_wait_in_memory_while_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    box = Outbox(tmp_path / "outbox")
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "replacing", full)
        box.put(entry("a"))
        box.put(entry("b"))
        assert (box.flush(), box.names()) == (2, [])
    assert box.flush() == 0
    assert len(box.names()) == 2


def test_a_group_is_locked_by_one_at_a_time(tmp_path: Path) -> None:
    first, second = Outbox(tmp_path), Outbox(tmp_path)
    with (
        first.lock_group("group") as is_locked,
        second.lock_group("group") as is_locked_twice,
        second.lock_group("other") as is_other_locked,
    ):
        assert (is_locked, is_locked_twice, is_other_locked) == (True, False, True)
    with second.lock_group("group") as is_locked:
        assert is_locked
    assert list(tmp_path.glob("*.lock")) == []


def test_a_lock_whose_holder_has_just_removed_it_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = outbox.fcntl.flock

    def late(file: int, operation: int) -> None:
        (tmp_path / "group.lock").unlink()
        flock(file, operation)

    monkeypatch.setattr(outbox.fcntl, "flock", late)
    with Outbox(tmp_path).lock_group("group") as is_locked:
        assert not is_locked
