"""What is recorded, before MLflow sees it."""

import math
from typing import Any

import msgspec
import pytest

from asdbench.engine.task_records import CurvePoint
from asdbench.tracking.records import (
    MODEL_GROUP,
    BoardEntry,
    DatasetRecord,
    Entry,
    RowEntry,
    RunRecord,
    TrialEntry,
    from_bytes,
    losses,
    run_name,
    texts,
    to_bytes,
)
from tests.tracking.boards import model_entry

RECORD = RunRecord(
    "r", {"asdbench.key": "k"}, {"epochs": "2"}, [("score", 0.5, 1), ("score", 0.7, 3)], 10, 20
)
DATASET = DatasetRecord("demo", "f1f2", "/recordings", {"path": "string"}, {"clips": 3})
FULL = RunRecord("r", {"asdbench.key": "k"}, {}, [], 0, 1, files={"a/b": b"\x00\xff"}, dataset=DATASET)


def test_the_last_value_of_a_metric_is_that_of_the_highest_step() -> None:
    assert RECORD.last("score") == 0.7
    assert RECORD.last("loss") is None


@pytest.mark.parametrize(
    "entry",
    [
        RowEntry("demo", FULL, [RECORD]),
        BoardEntry("demo", "store", 7, ["k"], {"mlflow.note.content": "# Leaderboard"}),
        TrialEntry("demo/searches", RECORD, RECORD, {"tag": "value"}),
    ],
    ids=["row", "board", "trial"],
)
def test_an_entry_survives_its_file(entry: Entry) -> None:
    again = from_bytes(to_bytes(entry))
    assert again == entry
    assert again.group == entry.group


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_losses_that_are_not_finite_survive(value: float) -> None:
    record = msgspec.structs.replace(RECORD, metrics=[("loss", value, 0)])
    entry = from_bytes(to_bytes(RowEntry("demo", record, [])))
    assert isinstance(entry, RowEntry)
    assert repr(entry.row.metrics[0][1]) == repr(value)


@pytest.mark.parametrize("content", [b"", b"words", b"{}", b"\x80", msgspec.msgpack.encode({"type": "run"})])
def test_a_content_that_is_no_entry_raises(content: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        from_bytes(content)


def test_entries_of_different_rows_boards_and_searches_are_of_different_groups() -> None:
    other = msgspec.structs.replace(RECORD, tags={"asdbench.key": "other"})
    groups = {
        RowEntry("demo", RECORD, []).group,
        RowEntry("demo", other, []).group,
        RowEntry("demo/eval", RECORD, []).group,
        BoardEntry("demo", "store", 7, [], {}).group,
        BoardEntry("demo/eval", "store", 7, [], {}).group,
    }
    assert len(groups) == 5
    assert TrialEntry("d", RECORD, other).group == TrialEntry("d", RECORD, RECORD).group


def test_names_that_mlflow_refuses_are_changed() -> None:
    curve = [CurvePoint("main", 3, {"own type: right": 0.25})]
    assert list(losses(curve, "curves/fan")) == [("curves/fan/main own type_ right", 0.25, 3)]


def test_a_name_that_is_too_long_is_cut_in_its_settings() -> None:
    name = run_name("trial 1", {"width": "9" * 300}, ", the end")
    assert len(name) == 250
    assert name.endswith("9…, the end")
    assert run_name("trial 1", {"width": 9}) == "trial 1 width=9"


def test_values_are_written_as_set_takes_them() -> None:
    assert texts({"epochs": 2, "bf16": False, "cap": None}) == {"epochs": "2", "bf16": "false", "cap": "none"}


def test_an_entry_of_a_model_is_restored_and_its_state_follows_what_is_recorded() -> None:
    entry = msgspec.structs.replace(model_entry(), settings={"members": ("a", "b"), "epochs": 2})
    assert from_bytes(to_bytes(entry)) == entry
    assert entry.group.startswith(MODEL_GROUP)
    changes: list[dict[str, Any]] = [{"leads": False}, {"weights": "x"}, {"results": "x"}, {"key": "x"}]
    states = {msgspec.structs.replace(entry, **change).state for change in changes}
    assert len(states | {entry.state}) == 5
    assert msgspec.structs.replace(entry, as_of_ns=1).state == entry.state
