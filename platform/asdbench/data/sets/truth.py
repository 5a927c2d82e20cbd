"""What tells labels, kept apart from all that a system may see: the truth table, and paths of recordings.

The clip table has no label column. Labels are in a separate table, written when a folder is indexed and read
only by evaluation; a system never imports this module. Names of recordings may contain labels, so that their
paths are stored with the labels.

Such tables are Parquet files whose bits are inverted. That hides nothing from whoever may read them; it keeps
a library from opening one by its path in a thread of its own, which the guard of a task does not bind (see
`asdbench.engine.guard`): they are opened by Python here.
"""

import io
from pathlib import Path

import numpy as np
import polars as pl

from asdbench.errors import InputError
from asdbench.io.files import replacing

TRUTH_SCHEMA = pl.Schema({"clip_id": pl.Int64, "anomaly": pl.Boolean})
PATHS_SCHEMA = pl.Schema({"clip_id": pl.Int64, "path": pl.Utf8})


def save_truth(path: Path, truth: pl.DataFrame) -> None:
    """Write a truth table (columns of ``TRUTH_SCHEMA``) atomically, for this user alone."""
    save_private(path, truth.select(pl.col(name).cast(kind) for name, kind in TRUTH_SCHEMA.items()))


def load_truth(path: Path) -> pl.DataFrame:
    """Read a truth table: one row for each test clip whose label is known.

    Raises
    ------
    InputError
        The file is missing, damaged or not a truth table.
    """
    return load_private(path, TRUTH_SCHEMA, "truth table")


def save_private(path: Path, table: pl.DataFrame) -> None:
    """Write a table that tells labels atomically, for this user alone."""
    content = io.BytesIO()
    table.write_parquet(content)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_bytes(_inverted(content.getvalue()))


def load_private(path: Path, schema: pl.Schema, kind: str) -> pl.DataFrame:
    """Read what `save_private` has written; ``kind`` names it in messages. Raises as `load_truth` does."""
    try:
        table = pl.read_parquet(io.BytesIO(_inverted(path.read_bytes())))
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"the {kind} {str(path)!r} cannot be read: {reason}") from error
    if table.schema != schema:
        raise InputError(f"{str(path)!r} is not a {kind}: its columns are {', '.join(table.columns)}")
    return table


def _inverted(content: bytes) -> bytes:
    return np.bitwise_not(np.frombuffer(content, np.uint8)).tobytes()
