"""Results of others on the leaderboard: submission CSV files, scored by this platform with known labels.

Idea: the score files of any system become a row with intervals, which `asdbench compare` takes. They are kept
as they came in ``imported/<data>/<name>/`` of the data home, in the layout of
`asdbench.report.result_folder`, with checksum, source and license. A folder ``seed-<k>`` is a run of its own;
without such folders there is one run of unknown seed.
"""

import shutil
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from asdbench import registry
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import labeled_clips
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.metrics import Rule, section_metrics, summary
from asdbench.report.import_files import opened_result, own_record, run_folders
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Report, Row
from asdbench.report.result_folder import (
    RESULT_FILE,
    ResultFile,
    changed_files,
    check_name,
    read_result_file,
    write_result_file,
)

if TYPE_CHECKING:
    from asdbench.report.official_evaluation import TrueSection


@dataclass(frozen=True)
class ImportedResult(Report):
    """An imported result.

    Attributes
    ----------
    record : what its ``result.json`` says
    folder : where its files are in the data home
    """

    record: ResultFile
    folder: Path

    @property
    def rows(self) -> list[Row]:
        """One dict: ``data``, ``name``, ``subsets``, ``seeds``, ``files`` (their number), ``source``,
        ``license`` and ``folder``.
        """
        record = self.record
        return [
            {
                "data": record.data,
                "name": record.name,
                "subsets": list(record.subsets),
                "seeds": list(record.seeds),
                "files": len(record.files),
                "source": record.source,
                "license": record.license,
                "folder": str(self.folder),
            }
        ]

    def tables(self) -> list[DisplayTable]:
        """Return a table with one row."""
        (row,) = self.rows
        cells = [
            row["data"],
            row["name"],
            " ".join(row["subsets"]),
            " ".join(map(str, row["seeds"])) or "unknown",
            str(row["files"]),
            row["source"] or "",
            row["license"] or "",
        ]
        names = ("data set", "name", "subset", "seeds", "files", "source", "license")
        return [DisplayTable(list(map(Column, names)), [DisplayRow(cells)], "Imported result")]

    def run_tables(self, data: DataSet, *, subset: str) -> list[dict[str, pl.DataFrame]]:
        """Return the judged clips of each run by machine type: those of `labeled_clips`, with ``score``."""
        return run_tables_of(self.folder, self.record.run_folders, data, subset)


def import_result(
    source_path: Path,
    workspace: Workspace,
    *,
    name: str,
    data: str,
    source: str | None = None,
    license: str | None = None,
    replace: bool = False,
) -> ImportedResult:
    """Store the submission CSV files in a folder or a zip as a result of a data set, wholly or not at all.

    Parameters
    ----------
    source_path
        A folder or a zip with ``anomaly_score_*.csv``, in ``seed-<k>`` folders if there are several runs.
    workspace
        The data sets; the result is stored in its data home.
    name, data
        The name that the row has, and the name of a registered data set.
    source, license
        Where the scores come from, and how they may be used; by default as a ``result.json`` beside the files
        says. Its marks are kept.
    replace
        Whether an imported result of that name is replaced.

    Raises
    ------
    InputError
        The name is taken or not allowed; a file, a clip or a label is missing; a clip is unknown or listed
        twice; a score is not finite; the zip is damaged, too large, or has a path out of it.
    """
    from asdbench.report.official_evaluation import truth_of  # here, because a leaderboard does without it

    check_name(name)
    if name in registry.names():
        raise InputError(f"{name!r} is the name of a system; choose another name")
    target = _folder(workspace, data) / name
    if target.exists() and not replace:
        raise InputError(
            f"{data} has an imported result {name!r} already; choose another name, or add --replace"
        )
    sections, _ = truth_of(data, workspace)
    with opened_result(source_path) as opened:
        own = own_record(opened)
        runs = run_folders(opened)
        subsets = _check_runs(runs, sections)
        workspace.check_home()
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=target.parent) as temporary:
            written = Path(temporary) / name
            seeds = _copy(runs, written)
            record = write_result_file(
                written,
                name,
                data,
                subsets,
                seeds=seeds,
                source=source or (own.source if own else None),
                license=license or (own.license if own else None),
                marks=own.marks if own else (),
            )
            if target.exists():
                target.rename(Path(temporary) / "replaced")
            written.rename(target)
    return ImportedResult(record, target)


def imported_results(workspace: Workspace, data: str) -> tuple[list[ImportedResult], list[str]]:
    """Return the imported results of a data set, and notes on those whose files have changed."""
    results, notes = [], []
    for path in sorted(_folder(workspace, data).glob(f"*/{RESULT_FILE}")):
        try:
            record = read_result_file(path.parent)
            problems = changed_files(path.parent, record)
        except InputError as error:
            record, problems = None, [str(error)]
        if record is None or problems:
            notes.append(
                f"the imported result {path.parent.name} is left out: {problems[0]}; import it again"
            )
        else:
            results.append(ImportedResult(record, path.parent))
    return results, notes


def imported_rows(
    results: Sequence[ImportedResult], data: DataSet, *, subset: str, by_type: bool
) -> tuple[list[Row], list[str]]:
    """Return the rows of imported results on a subset, and notes on those that do not fit the data set.

    The rows are as `asdbench.report.leaderboard.rows` has them. A result does not fit, for example, if clips
    were added to the data set after it was imported.
    """
    rows: list[Row] = []
    notes = []
    for result in results:
        if subset in result.record.subsets:
            try:
                rows += list(_rows(result, data, subset, by_type))
            except InputError as error:
                notes.append(f"the imported result {result.record.name} is left out: {error}")
    return rows, notes


def run_tables_of(
    folder: Path, run_folders: Sequence[str], data: DataSet, subset: str
) -> list[dict[str, pl.DataFrame]]:
    """Return the judged clips of each run of a result by machine type."""
    from asdbench.report.official_evaluation import TrueSection

    labeled = labeled_clips(data, subset=subset).with_columns(file=pl.col("path").str.split("/").list.last())
    sections = [
        TrueSection(
            str(machine_type),
            str(section),
            tuple(sorted(clips["file"])),
            np.zeros(clips.height, bool),
            np.zeros(clips.height, bool),
            subset,
        )
        for (machine_type, section), clips in labeled.group_by("machine_type", "section", maintain_order=True)
    ]
    return [_tables(folder / run, sections, labeled) for run in run_folders]


def row_tables(row: Row, data: DataSet, subset: str | None) -> list[dict[str, pl.DataFrame]]:
    """Return the judged clips of each run of an imported row, by machine type."""
    folder = _folder(data.workspace, data.name) / row["system"]
    tables = run_tables_of(folder, read_result_file(folder).run_folders, data, subset or row["subset"])
    only = row.get("machine_type")
    return [{name: table for name, table in run.items() if only in (None, name)} for run in tables]


def _tables(
    folder: Path, sections: Sequence["TrueSection"], labeled: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    from asdbench.report.official_evaluation import submitted_scores

    scores = pl.concat(
        pl.DataFrame({"file": list(section.clips), "score": values}).with_columns(
            machine_type=pl.lit(section.machine_type), section=pl.lit(section.section)
        )
        for section, values in submitted_scores(folder, sections)
    )
    judged = labeled.join(scores, on=["machine_type", "section", "file"]).drop("file").sort("clip_id")
    return {
        str(name): table
        for (name,), table in sorted(judged.group_by("machine_type"), key=lambda item: str(item[0]))
    }


def _rows(result: ImportedResult, data: DataSet, subset: str, by_type: bool) -> Iterator[Row]:
    tables = result.run_tables(data, subset=subset)
    metrics = [{name: _metrics(table, data.rule) for name, table in run.items()} for run in tables]
    machine_types = list(metrics[0])
    for names in [[name] for name in machine_types] if by_type else [machine_types]:
        means = [
            summary([section for name in names for section in of_run[name]], rule=data.rule)
            for of_run in metrics
        ]
        scores = [of_run["score"] for of_run in means]
        yield {
            **({"machine_type": names[0]} if by_type else {}),
            "system": result.record.name,
            "settings": {},
            "tuned": None,
            "subset": subset,
            "official_score": statistics.fmean(scores),
            "official_score_std": statistics.stdev(scores) if len(scores) > 1 else None,
            **{
                metric: statistics.fmean(of_run[f"{data.rule.mean}_mean_{metric}"] for of_run in means)
                for metric in data.rule.metrics
            },
            "seeds": list(result.record.seeds),
            "machine_types": len(machine_types),
            "machine_types_done": machine_types,
            "machine_types_missing": [],
            "complete": True,
            "tier": "imported",
            "imported": {
                "source": result.record.source,
                "license": result.record.license,
                "marks": list(result.record.marks),
            },
        }


def _metrics(table: pl.DataFrame, rule: Rule) -> list[Mapping[str, float]]:
    target = (table["domain"] == "target").fill_null(False).to_numpy()
    sections, scores, anomalous = (table[name].to_numpy() for name in ("section", "score", "anomaly"))
    return [
        section_metrics(scores[mask], anomalous[mask], target[mask], rule=rule)
        for mask in (sections == section for section in np.unique(sections))
    ]


def _folder(workspace: Workspace, data: str) -> Path:
    return workspace.home / "imported" / data


def _check_runs(runs: Mapping[int | None, Path], sections: Sequence["TrueSection"]) -> list[str]:
    """Return the subsets that all runs score."""
    from asdbench.report.official_evaluation import submitted_scores

    covered = [
        sorted({str(section.subset) for section, _ in submitted_scores(path, sections)})
        for path in runs.values()
    ]
    if any(subsets != covered[0] for subsets in covered):
        raise InputError("the runs score different subsets; give runs of the same test clips")
    return covered[0]


def _copy(runs: Mapping[int | None, Path], target: Path) -> list[int]:
    """Copy the score and decision files of runs; return their seeds, none if unknown."""
    for seed, path in runs.items():
        folder = target if seed is None else target / f"seed-{seed}"
        folder.mkdir(parents=True)
        for kind in ("anomaly_score", "decision_result"):
            for file in path.glob(f"{kind}_*.csv"):
                shutil.copyfile(file, folder / file.name)
    return [seed for seed in runs if seed is not None]
