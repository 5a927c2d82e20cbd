"""What is said of clips before any is decoded: the entries that a folder's names or a manifest give.

A folder and a manifest come to the same entries, and whatever is wrong with either is collected in the same
findings, so that a user mends a data set once.
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
    """What is said of a clip.

    ``path`` is posix and relative to the data set's folder; ``domain``, ``label``, ``recording`` and
    ``subset`` are None where nothing says them.
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
    """The clips of a data set as listed, its machine types, and clips whose names could not be understood."""

    entries: list[ClipEntry]
    machine_types: list[str]
    unnamed: list[str] = field(default_factory=list)


class Findings:
    """Everything wrong or remarkable, by path, in the order of discovery."""

    def __init__(self) -> None:
        self.reasons: dict[str, list[str]] = {}
        self.notes: list[str] = []

    def bad(self, path: str, reason: str) -> None:
        """Note a reason why ``path`` cannot be used."""
        self.reasons.setdefault(path, []).append(reason)

    def listed(self) -> list[BadFile]:
        """Return one entry a path; beyond three, reasons are counted."""
        entries = []
        for path, reasons in self.reasons.items():
            more = [f"and {len(reasons) - _REASONS_SHOWN} more"] if len(reasons) > _REASONS_SHOWN else []
            entries.append(BadFile(path, "; ".join(reasons[:_REASONS_SHOWN] + more)))
        return sorted(entries)


def printable(path: str) -> str:
    """Replace what is not valid UTF-8 in a file name, so that it can be shown and stored."""
    return os.fsencode(path).decode("utf-8", errors="replace")


def csv_lines(table: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of every line that is not blank.

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
