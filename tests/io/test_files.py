from pathlib import Path

import pytest

from asdbench.errors import InputError
from asdbench.io.files import read_json, write_json


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
