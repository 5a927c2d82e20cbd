"""Entries of clips before decoding, as given by the names in a folder or by a manifest.

A folder and a manifest give the same kind of entries, and problems of either are collected in the same
findings, so that a user can repair a data set in one go.
"""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from asdbench.data.sets.filenames import Attributes
from asdbench.errors import InputError

_REASONS_SHOWN = 3


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


def csv_lines(table: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and fields of every line that is not blank.

    Raises
    ------
    InputError
        The file cannot be read as CSV text.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            for fields in reader:
                if any(fields):
                    yield reader.line_num, [value.strip() for value in fields]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"it cannot be read as CSV text ({error})") from error
