"""A result in a folder of its own, as others can send it: submission CSV files and ``result.json``.

Layout: ``<folder>/<data>/<name>/`` holds ``result.json`` and the score and decision files of the challenge,
``anomaly_score_<type>_section_<nn>_test.csv`` and ``decision_result_...csv``; a result with known seeds has
them in ``seed-<k>/``. Imported results, exported ones and results repositories have this layout.
`ResultFile` is the schema of ``result.json``; ``docs/result.schema.json`` has it as JSON Schema.
"""

import csv
import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from asdbench.errors import InputError
from asdbench.io.records import RecordError, record_from_json, record_to_json
from asdbench.report.formatting import format_amount
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Report, Row

RESULT_FILE = "result.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
SEED_FOLDER = re.compile(r"seed-(0|[1-9][0-9]{0,17})")
_CSV = re.compile(rf"({SEED_FOLDER.pattern}/)?(anomaly_score|decision_result)_[^/]+\.csv")
_SUBSETS = ("dev", "eval")
_MOST_SHOWN = 10  # of the problems of one file


class ResultFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``result.json`` says.

    Attributes
    ----------
    name, data : of the result, and of the data set; both are the names of its folders
    subsets : the subsets whose test clips it scores
    files : the SHA-256 of each CSV file, by path within the folder
    seeds : the seeds of its runs; empty for a single run of unknown seed
    source, license : where it comes from, and how it may be used
    marks : what a reader must know before comparing it, such as that labels chose its settings
    """

    name: str
    data: str
    subsets: tuple[str, ...]
    files: dict[str, str]
    seeds: tuple[int, ...] = ()
    source: str | None = None
    license: str | None = None
    marks: tuple[str, ...] = ()
    schema_version: int = 1

    @property
    def run_folders(self) -> tuple[str, ...]:
        """The folder of each run within that of the result."""
        return tuple(f"seed-{seed}" for seed in self.seeds) or (".",)


def check_name(name: str) -> None:
    """Raise :class:`InputError` if a result cannot have a name.

    >>> check_name("Zhang_DKU_task2_1")
    """
    if not _is_name(name):
        raise InputError(
            f"{name!r} cannot name a result; use up to 80 letters, digits, '-', '_', '.', as in Zhang_DKU, "
            f"and not digits only, which is the number of a row"
        )


def _is_name(name: str) -> bool:
    return NAME.fullmatch(name) is not None and not name.isdecimal()


def write_result_file(
    folder: Path,
    name: str,
    data: str,
    subsets: Iterable[str],
    *,
    seeds: Iterable[int] = (),
    source: str | None = None,
    license: str | None = None,
    marks: Iterable[str] = (),
) -> ResultFile:
    """Write ``result.json`` for the CSV files in a folder, with their checksums.

    Raises :class:`InputError` if ``source`` or ``license`` has a line break or a control character.
    """
    for text in filter(None, (source, license)):
        if not text.isprintable():
            raise InputError(f"{text!r} has a line break or a control character; write it in one plain line")
    files = {path: _sha256(folder / path) for path in csv_paths(folder)}
    record = ResultFile(name, data, tuple(subsets), files, tuple(seeds), source, license, tuple(marks))
    (folder / RESULT_FILE).write_bytes(record_to_json(record))
    return record


def read_result_file(folder: Path) -> ResultFile:
    """Return what ``result.json`` of a folder says; :class:`InputError` if it cannot be read."""
    path = folder / RESULT_FILE
    cure = "restore the file, or export the result again"
    try:
        return record_from_json(path.read_bytes(), ResultFile, schema_version=1, path=str(path), cure=cure)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror or error}): {cure}") from error


def csv_paths(folder: Path) -> list[str]:
    """Return the paths of all CSV files within a folder, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.csv"))


def changed_files(folder: Path, record: ResultFile) -> list[str]:
    """Return what is wrong with the files of a result: missing, changed, or not listed."""
    found = csv_paths(folder)
    problems = [f"{path} is missing" for path in record.files if path not in found]
    problems += [f"{path} is not listed in {RESULT_FILE}" for path in found if path not in record.files]
    problems += [
        f"{path} has changed: its SHA-256 is not that of {RESULT_FILE}"
        for path in found
        if path in record.files and _sha256(folder / path) != record.files[path]
    ]
    return problems


@dataclass(frozen=True)
class CheckedResults(Report):
    """What a check of a repository of results has found.

    Attributes
    ----------
    n_results : the number of results that were checked
    rows : one dict for each problem: ``result``, as ``data/name``, and ``problem``
    """

    n_results: int
    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.rows

    @property
    def problems(self) -> list[str]:
        """Each problem as a line that names its result."""
        return [f"{row['result']}: {row['problem']}" for row in self.rows]

    def tables(self) -> list[DisplayTable]:
        """Return a table with a row for each problem."""
        rows = [DisplayRow([row["result"], row["problem"]]) for row in self.rows]
        caption = f"{format_amount(len(rows), 'problem')} in {format_amount(self.n_results, 'result')}."
        columns = [Column("result", no_wrap=True), Column("problem")]
        return [DisplayTable(columns, rows, "Checked results", caption)]


def check_repository(folder: Path) -> CheckedResults:
    """Return everything that is wrong with the results in a results repository.

    Parameters
    ----------
    folder
        A folder with results as ``<data>/<name>/``, or one that holds such a folder as ``results``.

    Raises
    ------
    InputError
        There is no such folder, or no result in it.
    """
    inner = folder / "results"
    base = inner if inner.is_dir() else folder
    results = sorted(path for path in base.glob("*/*") if path.is_dir())
    if not results:
        raise InputError(
            f"{str(folder)!r} holds no results; a result is a folder such as results/dcase2023/NAME"
        )
    problems = ((path.relative_to(base).as_posix(), text) for path in results for text in _problems(path))
    return CheckedResults(len(results), tuple({"result": path, "problem": text} for path, text in problems))


def _problems(folder: Path) -> list[str]:
    try:
        record = read_result_file(folder)
    except (InputError, RecordError) as error:
        return [str(error)]
    problems = [
        f"{RESULT_FILE} says {key} {value!r}, and the folder is {expected!r}"
        for key, value, expected in (
            ("data", record.data, folder.parent.name),
            ("name", record.name, folder.name),
        )
        if value != expected
    ]
    problems += _problems_of_record(record)
    links = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink()]
    if links or folder.is_symlink():  # what a link points to may be anything; it is not read
        return problems + [f"{path} is a link; put the file itself there" for path in links or ["the folder"]]
    problems += changed_files(folder, record)
    for run in record.run_folders:
        problems += _problems_of_run(folder / run)
    scored = {
        run: {path.name for path in (folder / run).glob("anomaly_score_*.csv")} for run in record.run_folders
    }
    first = record.run_folders[0]
    return problems + [
        f"{run} has other score files than {first}" for run, names in scored.items() if names != scored[first]
    ]


def _problems_of_record(record: ResultFile) -> list[str]:
    """Return what ``result.json`` says that cannot be, of its own."""
    problems = [] if _is_name(record.name) else [f"{record.name!r} cannot name a result"]
    problems += [f"{path} is no score or decision file" for path in record.files if not _CSV.fullmatch(path)]
    listed = {path.rpartition("/")[0] or "." for path in record.files}
    if set(record.run_folders) != listed or len(set(record.seeds)) != len(record.seeds):
        seeds = ", ".join(map(str, record.seeds)) or "none"
        problems.append(
            f"{RESULT_FILE} says the seeds {seeds}, and its files are in {', '.join(sorted(listed))}"
        )
    if not record.subsets or not set(record.subsets) <= set(_SUBSETS):
        problems.append(f"{RESULT_FILE} says subsets {list(record.subsets)}; there are dev and eval")
    texts = (record.source or "", record.license or "", *record.marks)
    problems += [
        f"{text!r} has a line break or a control character" for text in texts if not text.isprintable()
    ]
    return problems


def _problems_of_run(folder: Path) -> list[str]:
    problems: list[str] = []
    scored = sorted(folder.glob("anomaly_score_*.csv"))
    if not scored:
        return [f"{folder.name or '.'} has no file anomaly_score_*.csv"]
    names = {path.name.replace("anomaly_score", "decision_result", 1) for path in scored}
    problems += [
        f"{path.name} decides on what has no score"
        for path in sorted(folder.glob("decision_result_*.csv"))
        if path.name not in names
    ]
    for path in scored:
        clips, of_scores = _rows(path)
        problems += of_scores
        decided = path.with_name(path.name.replace("anomaly_score", "decision_result", 1))
        if decided.exists():
            others, of_decisions = _rows(decided, is_decision=True)
            problems += of_decisions
            if others != clips:
                problems.append(f"{decided.name} has other clips than {path.name}")
    return problems


def _rows(path: Path, *, is_decision: bool = False) -> tuple[set[str], list[str]]:
    """Return the clips of a file, and what is wrong with its rows."""
    clips: set[str] = set()
    problems: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            rows = list(csv.reader(text))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return clips, [f"{path.name} cannot be read as CSV text ({error})"]
    for line, fields in enumerate(rows, start=1):
        if not fields:
            continue
        if len(fields) != 2 or not _is_value(fields[1], is_decision):
            problems.append(f"{path.name} line {line}: {','.join(fields)!r} is not a file name and a value")
        elif fields[0] in clips:
            problems.append(f"{path.name} line {line}: {fields[0]!r} has a row already")
        clips.add(fields[0])
    more = len(problems) - _MOST_SHOWN
    return clips, problems[:_MOST_SHOWN] + (
        [f"{path.name}: {more} more lines like these"] if more > 0 else []
    )


def _is_value(text: str, is_decision: bool) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return value in (0, 1) if is_decision else math.isfinite(value)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
