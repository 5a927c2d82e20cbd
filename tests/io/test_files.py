import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from asdbench.errors import InputError
from asdbench.io.files import create, read_json, write_json


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "it.json", {"b": [1, None], "a": "ä"})
    assert read_json(tmp_path / "new" / "it.json") == {"b": [1, None], "a": "ä"}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["it.json"]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00", b"words"])
def test_a_damaged_file_is_named_with_the_cure(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "it.json").write_bytes(content)
    with pytest.raises(
        InputError, match=r"'.*/it\.json' is damaged \(.*\); delete it, then run the same command"
    ):
        read_json(tmp_path / "it.json")


@pytest.mark.parametrize("has_links", [True, False])
def test_one_of_several_creates_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def no_link(*_: Any) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    if not has_links:
        monkeypatch.setattr(os, "link", no_link)
    path = tmp_path / "new" / "it"
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda number: create(path, bytes([number])), range(8)))
    assert sum(created) == 1
    assert path.read_bytes() == bytes([created.index(True)])
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_created_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left"):
        create(tmp_path / "it", b"1")
    assert list(tmp_path.iterdir()) == []
