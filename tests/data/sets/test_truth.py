"""The truth table on the disk."""

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from asdbench.data.sets.truth import TRUTH_SCHEMA, load_truth, save_private, save_truth
from asdbench.errors import InputError

TRUTH = pl.DataFrame({"clip_id": [3, 5], "anomaly": [True, False]}, schema=TRUTH_SCHEMA)


def test_a_table_is_read_as_written_without_other_columns(tmp_path: Path) -> None:
    save_truth(tmp_path / "truth.parquet", TRUTH.with_columns(path=pl.lit("a.wav")))
    assert_frame_equal(load_truth(tmp_path / "truth.parquet"), TRUTH)


def test_a_missing_table_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the truth table '.*truth.parquet' cannot be read: No such file"):
        load_truth(tmp_path / "truth.parquet")


def test_another_table_is_rejected(tmp_path: Path) -> None:
    save_private(tmp_path / "truth.parquet", TRUTH.rename({"anomaly": "label"}))
    with pytest.raises(InputError, match="is not a truth table: its columns are clip_id, label"):
        load_truth(tmp_path / "truth.parquet")
