"""Findings and CSV lines, as folders and manifests share them."""

from pathlib import Path

import pytest

from asdbench.data.sets.entries import BadFile, Findings, csv_lines, printable
from asdbench.errors import InputError


def test_findings_are_sorted_by_path_and_count_reasons_beyond_three() -> None:
    findings = Findings()
    findings.bad("b.wav", "empty")
    for reason in "wxyz":
        findings.bad("a.wav", reason)
    assert findings.listed() == [BadFile("a.wav", "w; x; y; and 1 more"), BadFile("b.wav", "empty")]


def test_invalid_utf8_becomes_printable() -> None:
    assert printable("a\udcff.wav") == "a\ufffd.wav"
    assert printable("ä.wav") == "ä.wav"


def test_csv_lines_are_numbered_stripped_and_not_blank(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\ufeffx, y\n\n1 ,2\n", encoding="utf-8")
    assert list(csv_lines(tmp_path / "a.csv")) == [(1, ["x", "y"]), (3, ["1", "2"])]


@pytest.mark.parametrize("content", [b"\xff\xfe", b'a,"b'])
def test_what_is_no_csv_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as CSV text"):
        list(csv_lines(tmp_path / "a.csv"))
