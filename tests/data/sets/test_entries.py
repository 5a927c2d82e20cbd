"""Findings and CSV lines, as folders and manifests share them."""

from pathlib import Path

import pytest

from asdbench.data.sets.entries import BadFile, Findings, csv_lines, printable, read_csv
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


@pytest.mark.parametrize("content", [b"a\0b", b"\x81\xff", b'a,"b', b"\xff\xfea"])
def test_what_is_no_csv_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as CSV text"):
        list(csv_lines(tmp_path / "a.csv"))


ROWS = [(1, ["pfad", "art"]), (2, ["Lüfter.wav", 'a "b"; c,d\te'])]
TEXT = 'pfad{0}art\r\nLüfter.wav{0}"a ""b""; c,d\te"\r\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_spreadsheets_write_is_read(tmp_path: Path, delimiter: str, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(TEXT.format(delimiter).encode(encoding))
    table = read_csv(tmp_path / "a.csv")
    assert (table.lines, table.delimiter) == (ROWS, delimiter)
    names = {"utf-16": "UTF-16", "latin-1": "Windows-1252"}
    assert table.encoding == names.get(encoding, "UTF-8")


def test_the_delimiter_may_be_declared_as_excel_does(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sep=;\nx;y,z\n1;2\n")
    assert csv_lines(tmp_path / "a.csv") == [(2, ["x", "y,z"]), (3, ["1", "2"])]


def test_semicolons_in_a_row_do_not_make_them_the_delimiter(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,attributes\na.wav,x=1;y=2;z=3\n")
    assert csv_lines(tmp_path / "a.csv")[1] == (2, ["a.wav", "x=1;y=2;z=3"])
