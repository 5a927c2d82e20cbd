"""What is attached to a row of the leaderboard in MLflow: its scores, and figures of them."""

import io
import json
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.job_store import DamagedFileError, JobStore
from asdbench.report.clip_scores import decided_in_words
from asdbench.report.rendering import Row
from asdbench.report.row_scores import TypeScores, row_jobs, type_scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT = "report.html"
SCORES_TABLE = "scores.json"
_DOTS_PER_INCH = 110


def row_files(row: Row, data: DataSet, store: JobStore, *, subset: str) -> dict[str, bytes]:
    """Return the content of the files of a row by path.

    ``scores.parquet`` and ``scores.json``, which MLflow shows as a table, have a line for each seed and test
    clip with a known label; ``report.html`` is the report on the row; ``plots/`` has the figures of
    `asdbench.report.row_figures.row_figures`. A row without a complete seed has no files, nor has one whose
    scores can no longer be read.
    """
    from asdbench.driver.report import row_page
    from asdbench.report.row_figures import row_figures

    if not row["seeds"]:
        return {}
    try:
        scores = pl.concat(map(_table, type_scores(row_jobs(row, data), data, store, subset=subset)))
        figures = row_figures(row, data, store, subset=subset)
        report = row_page(row, data, store, subset=subset)
    except (DamagedFileError, FileNotFoundError):
        return {}
    return {
        REPORT: report,
        "scores.parquet": _parquet(scores),
        SCORES_TABLE: json.dumps({"columns": scores.columns, "data": scores.rows()}).encode(),
        **{f"plots/{name}.png": _png(figure) for name, figure in figures.items()},
    }


def _table(of_type: TypeScores) -> pl.DataFrame:
    """Return the scores of a machine type, one line for each seed and clip."""
    columns = ("path", "machine_type", "section", "domain", "anomaly")
    n_clips = of_type.clips.height
    repeated = pl.concat([of_type.clips.select(columns)] * len(of_type.seeds))
    return repeated.with_columns(
        seed=pl.Series(np.repeat(np.asarray(of_type.seeds, dtype=np.int64), n_clips)),
        score=pl.Series(of_type.scores.ravel().astype(np.float64)),
        threshold=pl.Series(np.repeat(of_type.thresholds.astype(np.float64), n_clips)).fill_nan(None),
    ).with_columns(decision=decided_in_words(pl.col("score"), pl.col("threshold")))


def _parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()
