"""The truth table: labels of test clips, kept apart from everything that a system may see.

The clip table has no label column. Labels are in a separate table, written when a folder is indexed and read
only by evaluation; a system never imports this module.
"""

from pathlib import Path

import polars as pl

from asdbench.errors import InputError
from asdbench.io.files import replacing

TRUTH_SCHEMA = pl.Schema({"clip_id": pl.Int64, "anomaly": pl.Boolean})


def save_truth(path: Path, truth: pl.DataFrame) -> None:
    """Write a truth table (columns of ``TRUTH_SCHEMA``) atomically as Parquet."""
    with replacing(path) as temporary:
        truth.select(pl.col(name).cast(kind) for name, kind in TRUTH_SCHEMA.items()).write_parquet(temporary)


def load_truth(path: Path) -> pl.DataFrame:
    """Read a truth table: one row for each test clip whose label is known.

    Raises
    ------
    InputError
        The file is missing, damaged or not a truth table.
    """
    try:
        truth = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"the truth table {str(path)!r} cannot be read: {error}") from error
    if truth.schema != TRUTH_SCHEMA:
        raise InputError(f"{str(path)!r} is not a truth table: its columns are {', '.join(truth.columns)}")
    return truth
