"""Rows of the leaderboard as results in folders of their own, which others can import."""

import re
import tempfile
from pathlib import Path

from asdbench.data.sets import catalog
from asdbench.engine.job_store import JobStore
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.metrics import DEFAULT_THRESHOLD
from asdbench.report.leaderboard_table import choice_labels
from asdbench.report.leaderboard_view import load_leaderboard
from asdbench.report.rendering import Row
from asdbench.report.result_folder import check_name, write_result_file
from asdbench.report.row_scores import row_jobs
from asdbench.report.row_selectors import label, select_rows
from asdbench.report.submissions import subset_clips, write_type


def export_result(
    selector: str | int,
    workspace: Workspace,
    *,
    data: str,
    folder: Path,
    name: str | None = None,
    subset: str | None = None,
    threshold: str = DEFAULT_THRESHOLD,
    source: str | None = None,
    license: str | None = None,
) -> Path:
    """Write a row's scores to ``<folder>/<data>/<name>/``, wholly or not at all, and return that folder.

    Parameters
    ----------
    selector
        A row, as `asdbench.report.row_selectors` describes.
    workspace
        The data sets and stored results.
    data
        The name of a registered data set.
    folder
        The folder of results, such as ``results`` of a repository.
    name
        The name of the result; by default the row's, with its changed settings.
    subset
        ``"dev"`` or ``"eval"``; by default that of the leaderboard.
    threshold
        Method of the decision threshold.
    source, license
        Where the scores come from, and how they may be used.

    Raises
    ------
    InputError
        The row does not exist, is not ours or lacks scores; or the folder exists or cannot be written.
    """
    board = load_leaderboard(data, workspace, subset=subset)
    (row,) = select_rows([selector], board.rows, data=data)
    if row.get("imported") or not row["seeds"]:
        why = "is imported" if row.get("imported") else "has no score over all machine types"
        raise InputError(f"{label(row)!r} {why}; export another row")
    name = name or default_name(row)
    check_name(name)
    target = folder / data / name
    if target.exists():
        raise InputError(f"{str(target)!r} exists already; remove it, or give another --name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=target.parent) as temporary:
            written = Path(temporary) / name
            _write_runs(row, written, workspace, data, threshold)
            write_result_file(
                written,
                name,
                data,
                [board.subset],
                seeds=row["seeds"],
                source=source,
                license=license,
                marks=choice_labels(row),
            )
            written.rename(target)
    except OSError as error:
        raise InputError(f"the result cannot be written to {str(target)!r} ({error})") from error
    return target


def default_name(row: Row) -> str:
    """Return the name that a row's result has where none is given.

    >>> default_name({"system": "mine", "settings": {"epochs": 3}, "tuned": None})
    'mine-epochs-3'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", label(row))[:80].strip("-")


def _write_runs(row: Row, folder: Path, workspace: Workspace, data_name: str, threshold: str) -> None:
    data, store = catalog.load(workspace, data_name), JobStore.from_workspace(workspace)
    clips = subset_clips(data, row["subset"])
    for seed, jobs in row_jobs(row, data).items():
        run = folder / f"seed-{seed}"
        run.mkdir(parents=True)
        for resolved in jobs.values():
            write_type(run, resolved, clips, store, method=threshold)
