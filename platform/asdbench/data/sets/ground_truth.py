"""The organizers' ground truth of an evaluation subset: read from where the user put it, checked, kept apart.

Idea
----
The official evaluators come with the labels of the evaluation clips. They belong to their owners and are
never shipped: this module reads a user's copy, joins it with the clips of a registered data set, and says
exactly what does not fit. Lists of renamed clips circulate too; `wrong_labels` counts where one is wrong.

Conventions
-----------
Ground truth is a folder with ``ground_truth_data/ground_truth_<machine type>_section_<NN>_test.csv`` (rows
``section_00_0000.wav,0|1``, 1 = anomaly, no header), beside it ``ground_truth_domain/`` with files of the
same names (1 = target), and perhaps ``ground_truth_attributes/`` (rows ``section_00_0000.wav,<new name>``:
what a clip is called once it is renamed). Where test clips lie in folders of their domain, the files end in
``_section_<NN>_<domain>_test.csv`` and there are none of domains. Where there are no domains at all, it is
one file ``eval_data_list.csv``: a line with the machine type, then ``id_05_00000000.wav,<new name>,0|1``.

A list of renamed clips has the same lines without the last column: the new name tells domain and label.

Source
------
The repositories of the evaluators (`challenges`), and ``eval_data_list_*.csv`` of
nttcslab/dcase2023_task2_baseline_ae.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from asdbench.data.sets.entries import BadFile
from asdbench.errors import InputError

GROUND_TRUTH_SCHEMA = pl.Schema(
    {
        "machine_type": pl.Utf8(),
        "section": pl.Utf8(),
        "file": pl.Utf8(),
        "domain": pl.Utf8(),
        "anomaly": pl.Boolean(),
        "renamed": pl.Utf8(),
    }
)
"""One row an evaluation test clip. ``domain`` is source, target, or null where there are no domains;
``renamed`` the new name that tells all, where the ground truth has one."""

LABEL_SCHEMA = pl.Schema({"clip_id": pl.Int64(), "anomaly": pl.Boolean(), "domain": pl.Utf8()})

_LIST_NAME = "eval_data_list.csv"
_TABLE = re.compile(
    r"ground_truth_(?P<machine>.+)_section_(?P<section>[0-9]+)(?:_(?P<domain>source|target))?_test\.csv"
)
_CLIP = re.compile(
    r"(?:(?P<label>normal|anomaly)_)?(?:section|id)_(?P<section>[0-9]+)_(?:(?P<domain>source|target)_)?"
    r"(?:test_)?(?:(?P<inner_label>normal|anomaly)_)?(?P<number>[0-9]+)(?:_.*)?\.(?:wav|flac)"
)


class Mismatch(InputError):
    """Ground truth and clips that do not fit; every clip is listed in ``bad``."""

    def __init__(self, message: str, bad: Sequence[BadFile]) -> None:
        super().__init__(message)
        self.bad = tuple(bad)


@dataclass(frozen=True, eq=False)
class Labels:
    """What the ground truth says about the clips of a data set.

    Attributes
    ----------
    table
        ``LABEL_SCHEMA``: one row an evaluation test clip.
    wrong_names
        Machine types whose file names carry labels that the ground truth contradicts, with (how many, of how
        many).
    unused
        Machine types of the ground truth of which the data set has no evaluation clips.
    """

    table: pl.DataFrame
    wrong_names: dict[str, tuple[int, int]]
    unused: tuple[str, ...]


def read_ground_truth(folder: Path) -> pl.DataFrame:
    """Return the official evaluator's ground truth (``GROUND_TRUTH_SCHEMA``).

    ``folder`` is the evaluator's own, its ``ground_truth_data/``, or one that holds ``eval_data_list.csv``.

    Raises
    ------
    InputError
        There is no ground truth, or a file of it is damaged.
    """
    if (folder / _LIST_NAME).is_file():
        return _frame(_list_rows(folder / _LIST_NAME, columns=3))
    around = folder.parent if folder.name == "ground_truth_data" else folder
    tables = sorted((around / "ground_truth_data").glob("ground_truth_*_test.csv"))
    if not tables:
        raise InputError(
            f"no ground truth in {str(folder)!r}: neither ground_truth_data/ground_truth_*_test.csv nor"
            f" {_LIST_NAME} is there; give the folder of the organizers' evaluator"
        )
    return _frame(row for table in tables for row in _table_rows(table, around))


def read_renamed_list(path: Path) -> pl.DataFrame:
    """Return what the new names in a list of renamed clips say (``GROUND_TRUTH_SCHEMA``).

    Raises
    ------
    InputError
        The file is damaged, or no such list.
    """
    return _frame(_list_rows(path, columns=2))


def wrong_labels(listed: pl.DataFrame, truth: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Return for each machine type how many labels of ``listed`` are wrong, and of how many.

    Both are of ``GROUND_TRUTH_SCHEMA``; what only one of them has is not counted.
    """
    both = listed.join(truth, on=["machine_type", "file"], suffix="_true")
    counted = both.group_by("machine_type").agg((pl.col("anomaly") != pl.col("anomaly_true")).sum(), pl.len())
    return {machine: (wrong, count) for machine, wrong, count in counted.sort("machine_type").iter_rows()}


def match_labels(clips: pl.DataFrame, truth: pl.DataFrame) -> Labels:
    """Join ground truth with the evaluation test clips of a clip table (``clips.CLIP_SCHEMA``).

    A clip is found by its file name or by the new one that the ground truth gives; where it gives none, a
    renamed clip is found by section, number and, if that leaves a choice, domain. Suffixes and a bare ``_``
    at the end do not count.

    Raises
    ------
    Mismatch
        A clip has no ground truth, or the ground truth of a machine type names a clip that is not there.
    InputError
        There are no evaluation test clips, or none of a machine type that the ground truth has.
    """
    hidden = clips.filter((pl.col("subset") == "eval") & (pl.col("split") == "test"))
    if hidden.is_empty():
        raise InputError("the data set has no test clips of an evaluation subset; there is nothing to label")
    there = set(hidden["machine_type"])
    known = {machine: _Finder(rows) for (machine,), rows in truth.group_by("machine_type")}
    if not there & set(known):
        raise InputError(
            f"the ground truth is of {', '.join(sorted(known))}, the evaluation clips are of"
            f" {', '.join(sorted(there))}; give the ground truth of the same challenge"
        )
    labels, bad = [], []
    names: dict[str, list[bool]] = {}
    for clip_id, path, machine, domain in hidden.select(
        "clip_id", "path", "machine_type", "domain"
    ).iter_rows():
        file = PurePosixPath(path).name
        row = known[machine].find(file) if machine in known else None
        if row is None:
            bad.append(BadFile(path, "the ground truth does not name it"))
            continue
        labels.append({"clip_id": clip_id, "anomaly": row["anomaly"], "domain": row["domain"] or domain})
        if (name := _parsed(file)) and name.anomaly is not None:
            names.setdefault(machine, []).append(name.anomaly != row["anomaly"])
    for machine in sorted(there & set(known)):
        for row in known[machine].left.values():
            bad.append(BadFile(f"{machine}/{row['file']}", "the ground truth names it, but it is not there"))
    if bad:
        raise Mismatch(
            f"ground truth and evaluation clips differ in {len(bad)} clips (the first: {bad[0].path}:"
            f" {bad[0].reason}); give the ground truth of the same challenge, or get the clips anew",
            bad,
        )
    return Labels(
        pl.DataFrame(labels, schema=LABEL_SCHEMA),
        {machine: (sum(wrong), len(wrong)) for machine, wrong in sorted(names.items()) if any(wrong)},
        tuple(sorted(set(known) - there)),
    )


@dataclass(frozen=True)
class _Name:
    """What the name of an evaluation clip may tell."""

    section: str
    number: str
    domain: str | None
    anomaly: bool | None


class _Finder:
    """The ground truth of a machine type, by the names that its clips may have; each row is found once."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.left: dict[str, dict[str, Any]] = {}
        self._renamed: dict[str, str] = {}
        for row in rows.iter_rows(named=True):
            stem = _plain_stem(row["file"])
            self.left[stem] = row
            if row["renamed"]:
                self._renamed[_plain_stem(row["renamed"])] = stem

    def find(self, file: str) -> dict[str, Any] | None:
        """Return the row of a clip, or None."""
        stem = _plain_stem(file)
        if self._renamed:
            return self.left.pop(self._renamed.get(stem, stem), None)
        return self.left.pop(stem, None) or self._by_number(file)

    def _by_number(self, file: str) -> dict[str, Any] | None:
        name = _parsed(file)
        if name is None or name.anomaly is None:
            return None
        found = [
            stem
            for stem, row in self.left.items()
            if (other := _parsed(row["file"]))
            and (other.section, other.number) == (name.section, name.number)
        ]
        if len(found) > 1:
            found = [stem for stem in found if self.left[stem]["domain"] == name.domain]
        return self.left.pop(found[0]) if len(found) == 1 else None


def _parsed(file: str) -> _Name | None:
    found = _CLIP.fullmatch(file)
    if found is None:
        return None
    label = found["label"] or found["inner_label"]
    return _Name(
        found["section"], found["number"], found["domain"], None if label is None else label == "anomaly"
    )


def _plain_stem(file: str) -> str:
    return file.removesuffix(".wav").removesuffix(".flac").rstrip("_")


def _table_rows(table: Path, around: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of one file of ``ground_truth_data``, with its siblings of domains and attributes."""
    found = _TABLE.fullmatch(table.name)
    if found is None:
        raise InputError(
            f"{str(table)!r} is not called ground_truth_<machine type>_section_<NN>_test.csv;"
            f" rename or remove it"
        )
    anomalies = _flags(table)
    domains = around / "ground_truth_domain" / table.name
    if domains.is_file():
        in_target = _flags(domains)
        if in_target.keys() != anomalies.keys():
            raise InputError(f"{str(domains)!r} names other clips than {str(table)!r}; get both anew")
        domain_of = {file: "target" if target else "source" for file, target in in_target.items()}
    elif found["domain"]:
        domain_of = dict.fromkeys(anomalies, found["domain"])
    else:
        raise InputError(f"{str(table)!r} lacks its domains, {str(domains)!r}; get the evaluator anew, whole")
    names = around / "ground_truth_attributes" / table.name
    renamed = dict(_csv_rows(names, columns=2)) if names.is_file() else {}
    for file, anomaly in anomalies.items():
        yield {
            "machine_type": found["machine"],
            "section": found["section"],
            "file": file,
            "domain": domain_of[file],
            "anomaly": anomaly,
            "renamed": renamed.get(file),
        }


def _flags(table: Path) -> dict[str, bool]:
    """Return the second column of a file of the ground truth by the first."""
    flags: dict[str, bool] = {}
    for file, value in _csv_rows(table, columns=2):
        if value not in ("0", "1", "0.0", "1.0"):
            raise InputError(f"{str(table)!r} says {value!r} of {file!r}, neither 0 nor 1; get it anew")
        if file in flags:
            raise InputError(f"{str(table)!r} names {file!r} twice; get it anew")
        flags[file] = float(value) == 1.0
    return flags


def _list_rows(path: Path, *, columns: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of a list of renamed clips; the label is the third column or what the name says."""
    shape = "<file>,<new name>,0|1" if columns == 3 else "<file>,<new name with domain and label>"
    cure = f"a line with a machine type and then {shape} for each of its clips belong there, so get it anew"
    machine_type, seen = None, set()
    for line in _csv_rows(path, columns=None):
        name, renamed = _parsed(line[0]), _parsed(line[min(1, len(line) - 1)])
        if len(line) == 1 and name is None:
            machine_type = line[0]
            continue
        if columns == 3:
            anomaly = {"0": False, "1": True}.get(line[-1])
        else:
            anomaly = renamed.anomaly if renamed else None
        whole = len(line) == columns and machine_type is not None and anomaly is not None
        if not whole or name is None or renamed is None or (machine_type, line[0]) in seen:
            raise InputError(f"{str(path)!r} has the line {','.join(line)!r}, wrong or twice; {cure}")
        seen.add((machine_type, line[0]))
        yield {
            "machine_type": machine_type,
            "section": name.section,
            "file": line[0],
            "domain": renamed.domain,
            "anomaly": anomaly,
            "renamed": line[1],
        }
    if not seen:
        raise InputError(f"{str(path)!r} names no clip; {cure}")


def _csv_rows(path: Path, *, columns: int | None) -> Iterator[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            lines = [[field.strip() for field in line] for line in csv.reader(text, strict=True) if any(line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{str(path)!r} cannot be read as CSV text ({error}); get it anew") from error
    for line in lines:
        if columns is not None and len(line) != columns:
            raise InputError(
                f"{str(path)!r} has the line {','.join(line)!r}, not {columns} fields; get it anew"
            )
        yield line


def _frame(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=GROUND_TRUTH_SCHEMA).sort("machine_type", "section", "file")
