"""Entries of clips before decoding, as given by the names in a folder or by a manifest.

A folder and a manifest give the same kind of entries, and problems of either are collected in the same
findings, so that a user can repair a data set in one go.
"""

import codecs
import csv
import io
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from asdbench.data.sets.filenames import Attributes
from asdbench.errors import InputError

_REASONS_SHOWN = 3
_DELIMITERS = (",", ";", "\t")  # the first of equals
_DECLARED_DELIMITER = re.compile("sep=([,;\t])")


@dataclass(frozen=True, order=True)
class BadFile:
    """A file (or folder, or manifest row) that cannot be used: its path relative to the folder, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class ClipEntry:
    """The description of a clip.

    ``path`` is POSIX and relative to the data set's folder; ``domain``, ``label``, ``recording`` and
    ``subset`` are None if unknown.
    """

    path: str
    machine_type: str
    section: str
    split: str
    domain: str | None
    label: str | None
    attributes: Attributes
    recording: str | None = None
    subset: str | None = None


@dataclass(frozen=True)
class Listing:
    """The listed clips of a data set, its machine types, and clips whose names cannot be parsed."""

    entries: list[ClipEntry]
    machine_types: list[str]
    unnamed: list[str] = field(default_factory=list)


class Findings:
    """Problems by path, and remarks, in the order of discovery.

    Examples
    --------
    >>> findings = Findings()
    >>> findings.bad("fan/test/a.wav", "empty file (0 bytes)")
    >>> findings.listed()
    [BadFile(path='fan/test/a.wav', reason='empty file (0 bytes)')]
    """

    def __init__(self) -> None:
        self.reasons: dict[str, list[str]] = {}
        self.notes: list[str] = []

    def bad(self, path: str, reason: str) -> None:
        """Add a reason why ``path`` cannot be used."""
        self.reasons.setdefault(path, []).append(reason)

    def listed(self) -> list[BadFile]:
        """Return one entry per path, with at most three reasons and the number of further ones."""
        entries = []
        for path, reasons in self.reasons.items():
            more = [f"and {len(reasons) - _REASONS_SHOWN} more"] if len(reasons) > _REASONS_SHOWN else []
            entries.append(BadFile(path, "; ".join(reasons[:_REASONS_SHOWN] + more)))
        return sorted(entries)


def printable(path: str) -> str:
    """Return a file name with invalid UTF-8 replaced, so that it can be shown and stored."""
    return os.fsencode(path).decode("utf-8", errors="replace")


@dataclass(frozen=True)
class CsvText:
    """The content of a CSV file, and how it was read.

    Attributes
    ----------
    lines : number and fields of every line that is not blank
    encoding : ``"UTF-8"``, ``"UTF-16"`` or ``"Windows-1252"``
    delimiter : the character between fields: comma, semicolon or tab
    """

    lines: list[tuple[int, list[str]]]
    encoding: str
    delimiter: str


def csv_lines(table: Path) -> list[tuple[int, list[str]]]:
    """Return line number and fields of every line that is not blank; raises as `read_csv` does."""
    return read_csv(table).lines


def read_csv(table: Path) -> CsvText:
    """Read a CSV file as spreadsheets write it.

    The text is UTF-8 or UTF-16 by its byte order mark, else UTF-8 if it is valid UTF-8, else Windows-1252,
    which contains the letters of Latin-1. Of comma, semicolon and tab, the one that splits the header into
    the most fields separates fields, unless the first line is ``sep=`` and the character, as Excel writes it.

    Raises
    ------
    InputError
        The file cannot be read as CSV text.
    """
    try:
        text, encoding = _decoded(table.read_bytes())
        delimiter, n_skipped = _delimiter(text)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [
            (reader.line_num, [value.strip() for value in fields])
            for fields in reader
            if any(fields) and reader.line_num > n_skipped
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"it cannot be read as CSV text ({error})") from error
    return CsvText(lines, encoding, delimiter)


def _decoded(content: bytes) -> tuple[str, str]:
    """Return text and encoding."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16"), "UTF-16"
    if b"\0" in content:
        raise InputError("it cannot be read as CSV text (it contains zero bytes; save it as CSV in UTF-8)")
    try:
        return content.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError:
        try:
            return content.decode("cp1252"), "Windows-1252"
        except UnicodeDecodeError as error:
            raise InputError(
                "it cannot be read as CSV text (it is neither UTF-8, UTF-16 nor Latin-1; save it in UTF-8)"
            ) from error


def _delimiter(text: str) -> tuple[str, int]:
    """Return the character that separates fields, and the number of lines before the header."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    if declared := _DECLARED_DELIMITER.fullmatch(header.strip("\r\n")):
        return declared[1], 1
    n_fields = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in _DELIMITERS}
    return max(_DELIMITERS, key=lambda mark: n_fields[mark]), 0
