"""The organizers' ground truth of an evaluation subset, read from a folder of the user.

Idea
----
The official evaluators contain the labels of the evaluation clips. They belong to their owners and are not
distributed with this package: this module reads a user's copy, joins it with the clips of a registered data
set, and lists every mismatch. Lists of renamed clips circulate too; `wrong_labels` counts their errors.

Conventions
-----------
Ground truth is a folder with ``ground_truth_data/ground_truth_<machine type>_section_<NN>_test.csv`` (rows
``section_00_0000.wav,0|1``, 1 = anomaly, no header), ``ground_truth_domain/`` with files of the same names
(1 = target), and optionally ``ground_truth_attributes/`` (rows ``section_00_0000.wav,<new name>``: the name
of a renamed clip). If test clips are in folders of their domain, the files end in
``_section_<NN>_<domain>_test.csv`` and there are no domain files. If there are no domains, the ground truth
is one file ``eval_data_list.csv``: a line with the machine type, then ``id_05_00000000.wav,<new name>,0|1``.

A list of renamed clips has the same lines without the last column: the new name contains domain and label.

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
from typing import TypedDict, cast

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
"""One row per evaluation test clip. ``domain`` is source, target, or null if there are no domains;
``renamed`` is the new name with domain and label, if the ground truth has one."""

LABEL_SCHEMA = pl.Schema({"clip_id": pl.Int64(), "anomaly": pl.Boolean(), "domain": pl.Utf8()})

_LIST_NAME = "eval_data_list.csv"
_TABLE = re.compile(
    r"ground_truth_(?P<machine>.+)_section_(?P<section>[0-9]+)(?:_(?P<domain>source|target))?_test\.csv"
)
_CLIP = re.compile(
    r"(?:(?P<label>normal|anomaly)_)?(?:section|id)_(?P<section>[0-9]+)_(?:(?P<domain>source|target)_)?"
    r"(?:test_)?(?:(?P<inner_label>normal|anomaly)_)?(?P<number>[0-9]+)(?:_.*)?\.(?:wav|flac)"
)


class _TruthRow(TypedDict):
    """A row of the ground truth."""

    machine_type: str
    section: str
    file: str
    domain: str | None
    anomaly: bool
    renamed: str | None


class Mismatch(InputError):
    """Ground truth and clips that do not match; every clip in question is listed in ``bad``."""

    def __init__(self, message: str, bad: Sequence[BadFile]) -> None:
        super().__init__(message)
        self.bad = tuple(bad)


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of a data set's evaluation clips.

    Attributes
    ----------
    table
        Labels (``LABEL_SCHEMA``): one row per evaluation test clip.
    wrong_names
        Machine types whose file names contain labels that the ground truth contradicts, each with the number
        of wrong and of all labels.
    unused
        Machine types of the ground truth without evaluation clips in the data set.
    """

    table: pl.DataFrame
    wrong_names: dict[str, tuple[int, int]]
    unused: tuple[str, ...]


def read_ground_truth(folder: Path) -> pl.DataFrame:
    """Return the official evaluator's ground truth (``GROUND_TRUTH_SCHEMA``).

    ``folder`` is that of the evaluator, its ``ground_truth_data/``, or one that contains
    ``eval_data_list.csv``.

    Raises
    ------
    InputError
        There is no ground truth, or one of its files is damaged.
    """
    if (folder / _LIST_NAME).is_file():
        return _frame(_list_rows(folder / _LIST_NAME, columns=3))
    root = folder.parent if folder.name == "ground_truth_data" else folder
    tables = sorted((root / "ground_truth_data").glob("ground_truth_*_test.csv"))
    if not tables:
        raise InputError(
            f"no ground truth in {str(folder)!r}: it contains neither"
            f" ground_truth_data/ground_truth_*_test.csv nor {_LIST_NAME}; give the folder of the"
            f" organizers' evaluator"
        )
    return _frame(row for table in tables for row in _table_rows(table, root))


def read_renamed_list(path: Path) -> pl.DataFrame:
    """Return the labels in the new names of a list of renamed clips (``GROUND_TRUTH_SCHEMA``).

    Raises
    ------
    InputError
        The file is damaged or not such a list.
    """
    return _frame(_list_rows(path, columns=2))


def wrong_labels(listed: pl.DataFrame, truth: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Return the number of wrong and of all labels in ``listed`` for each machine type.

    Both tables have the schema ``GROUND_TRUTH_SCHEMA``; clips in only one of them are not counted.
    """
    both = listed.join(truth, on=["machine_type", "file"], suffix="_true")
    counted = both.group_by("machine_type").agg((pl.col("anomaly") != pl.col("anomaly_true")).sum(), pl.len())
    return {machine: (wrong, count) for machine, wrong, count in counted.sort("machine_type").iter_rows()}


def match_labels(clips: pl.DataFrame, truth: pl.DataFrame) -> Labels:
    """Join ground truth with the evaluation test clips of a clip table (``clips.CLIP_SCHEMA``).

    A clip is matched by its file name or by the new name in the ground truth. If the ground truth has no new
    names, a renamed clip is matched by section, number and, if these are ambiguous, domain. Suffixes and a
    bare ``_`` at the end are ignored.

    Raises
    ------
    Mismatch
        A clip has no ground truth, or the ground truth of a machine type lists a clip that does not exist.
    InputError
        There are no evaluation test clips, or none of the machine types in the ground truth.
    """
    hidden = clips.filter((pl.col("subset") == "eval") & (pl.col("split") == "test"))
    if hidden.is_empty():
        raise InputError(
            "the data set has no test clips of an evaluation subset, so there is nothing to label; add its "
            "evaluation data first, for example with 'asdbench data get CHALLENGE --subset eval'"
        )
    machine_types = set(hidden["machine_type"])
    finders = {machine: _Finder(rows) for (machine,), rows in truth.group_by("machine_type")}
    if not machine_types & set(finders):
        raise InputError(
            f"the ground truth has the machine types {', '.join(sorted(finders))}, the evaluation clips"
            f" {', '.join(sorted(machine_types))}; give the ground truth of the same challenge"
        )
    labels, bad = [], []
    names: dict[str, list[bool]] = {}
    for clip_id, path, machine, domain in hidden.select(
        "clip_id", "path", "machine_type", "domain"
    ).iter_rows():
        file = PurePosixPath(path).name
        row = finders[machine].find(file) if machine in finders else None
        if row is None:
            bad.append(BadFile(path, "the ground truth does not list it"))
            continue
        labels.append({"clip_id": clip_id, "anomaly": row["anomaly"], "domain": row["domain"] or domain})
        if (name := _parsed(file)) and name.anomaly is not None:
            names.setdefault(machine, []).append(name.anomaly != row["anomaly"])
    for machine in sorted(machine_types & set(finders)):
        for row in finders[machine].left.values():
            reason = "the ground truth lists it, but it does not exist"
            bad.append(BadFile(f"{machine}/{row['file']}", reason))
    if bad:
        raise Mismatch(
            f"ground truth and evaluation clips differ in {len(bad)} clips (the first: {bad[0].path}:"
            f" {bad[0].reason}); give the ground truth of the same challenge, or download the clips again",
            bad,
        )
    return Labels(
        pl.DataFrame(labels, schema=LABEL_SCHEMA),
        {machine: (sum(wrong), len(wrong)) for machine, wrong in sorted(names.items()) if any(wrong)},
        tuple(sorted(set(finders) - machine_types)),
    )


@dataclass(frozen=True)
class _Name:
    """The parts of an evaluation clip's name."""

    section: str
    number: str
    domain: str | None
    anomaly: bool | None


class _Finder:
    """The ground truth of a machine type by clip name; each row is found once."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.left: dict[str, _TruthRow] = {}
        self._renamed: dict[str, str] = {}
        for row in rows.iter_rows(named=True):
            stem = _plain_stem(row["file"])
            self.left[stem] = cast(_TruthRow, row)
            if row["renamed"]:
                self._renamed[_plain_stem(row["renamed"])] = stem

    def find(self, file: str) -> _TruthRow | None:
        """Return the row of a clip, or None."""
        stem = _plain_stem(file)
        if self._renamed:
            return self.left.pop(self._renamed.get(stem, stem), None)
        return self.left.pop(stem, None) or self._by_number(file)

    def _by_number(self, file: str) -> _TruthRow | None:
        name = _parsed(file)
        if name is None or name.anomaly is None:
            return None
        stems = [
            stem
            for stem, row in self.left.items()
            if (other := _parsed(row["file"]))
            and (other.section, other.number) == (name.section, name.number)
        ]
        if len(stems) > 1:
            stems = [stem for stem in stems if self.left[stem]["domain"] == name.domain]
        return self.left.pop(stems[0]) if len(stems) == 1 else None


def _parsed(file: str) -> _Name | None:
    match = _CLIP.fullmatch(file)
    if match is None:
        return None
    label = match["label"] or match["inner_label"]
    return _Name(
        match["section"], match["number"], match["domain"], None if label is None else label == "anomaly"
    )


def _plain_stem(file: str) -> str:
    return file.removesuffix(".wav").removesuffix(".flac").rstrip("_")


def _table_rows(table: Path, root: Path) -> Iterator[_TruthRow]:
    """Yield the rows of one file of ``ground_truth_data``, with those of its domain and attribute files."""
    match = _TABLE.fullmatch(table.name)
    if match is None:
        raise InputError(
            f"{str(table)!r} is not called ground_truth_<machine type>_section_<NN>_test.csv;"
            f" rename or remove it"
        )
    anomalies = _flags(table)
    domains = root / "ground_truth_domain" / table.name
    if domains.is_file():
        in_target = _flags(domains)
        if in_target.keys() != anomalies.keys():
            raise InputError(f"{str(domains)!r} lists other clips than {str(table)!r}; download both again")
        domain_of = {file: "target" if target else "source" for file, target in in_target.items()}
    elif match["domain"]:
        domain_of = dict.fromkeys(anomalies, match["domain"])
    else:
        raise InputError(f"{str(table)!r} lacks its domains, {str(domains)!r}; download the evaluator again")
    names = root / "ground_truth_attributes" / table.name
    renamed = dict(_csv_rows(names, columns=2)) if names.is_file() else {}
    for file, anomaly in anomalies.items():
        yield {
            "machine_type": match["machine"],
            "section": match["section"],
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
            raise InputError(
                f"{str(table)!r} has the value {value!r} for {file!r}, neither 0 nor 1; download it again"
            )
        if file in flags:
            raise InputError(f"{str(table)!r} lists {file!r} twice; download it again")
        flags[file] = float(value) == 1.0
    return flags


def _list_rows(path: Path, *, columns: int) -> Iterator[_TruthRow]:
    """Yield the rows of a list of renamed clips; the label is in the third column or in the new name."""
    shape = "<file>,<new name>,0|1" if columns == 3 else "<file>,<new name with domain and label>"
    cure = f"expected are a line with a machine type, then {shape} for each of its clips; download it again"
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
        if (
            machine_type is None
            or anomaly is None
            or name is None
            or renamed is None
            or len(line) != columns
            or (machine_type, line[0]) in seen
        ):
            problem = f"has the line {','.join(line)!r}, which is invalid or a duplicate"
            raise InputError(f"{str(path)!r} {problem}; {cure}")
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
        raise InputError(f"{str(path)!r} lists no clip; {cure}")


def _csv_rows(path: Path, *, columns: int | None) -> Iterator[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            lines = [[field.strip() for field in line] for line in csv.reader(text, strict=True) if any(line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{str(path)!r} cannot be read as CSV text ({error}); download it again") from error
    for line in lines:
        if columns is not None and len(line) != columns:
            raise InputError(
                f"{str(path)!r} has the line {','.join(line)!r}, which does not have {columns} fields;"
                f" download it again"
            )
        yield line


def _frame(rows: Iterable[_TruthRow]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=GROUND_TRUTH_SCHEMA).sort("machine_type", "section", "file")
