"""Digests: when a noted one is believed, and when the file is read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from asdbench.data import digests
from asdbench.data.digests import digest_of, is_unchanged, note_of, noted_digest, parsed_note, write_note


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.arrow"
    path.write_bytes(b"content")
    write_note(path, path.stat(), digest_of(path))
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose digest is computed, by name."""
    computed: list[Path] = []
    monkeypatch.setattr(digests, "digest_of", lambda path: computed.append(path) or digest_of(path))
    return computed


def test_a_noted_digest_is_believed_until_the_file_changes(path: Path, read: list[Path]) -> None:
    assert is_unchanged(path)
    assert read == []
    os.utime(path, ns=(1, 1))
    assert is_unchanged(path)
    assert is_unchanged(path)
    assert read == [path]
    path.write_bytes(b"Content")
    assert not is_unchanged(path)
    assert not is_unchanged(path)


def test_a_thorough_look_reads_the_file_once(path: Path, read: list[Path]) -> None:
    assert is_unchanged(path, thorough=True)
    assert is_unchanged(path, thorough=True)
    assert read == [path]


def test_a_change_without_a_trace_needs_a_thorough_look(path: Path) -> None:
    status = path.stat()
    path.write_bytes(b"Content")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert is_unchanged(path)
    assert not is_unchanged(path, thorough=True)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda note: note.write_bytes(b"{")], ids=["gone", "cut"])
def test_a_file_without_a_note_gets_one(path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(Path(note_of(str(path))))
    assert noted_digest(path) is None
    assert is_unchanged(path)
    assert noted_digest(path, path.stat()) == digest_of(path)


def test_only_a_complete_note_is_one() -> None:
    assert parsed_note(b'{"size_bytes": 1, "blake2b": "ab"}') == {"size_bytes": 1, "blake2b": "ab"}
    for content in (b"", b"[]", b'{"size_bytes": 1}', b"\xff"):
        assert parsed_note(content) is None
