import pickle
from typing import Any

import msgspec
import pytest

from asdbench.io.records import RecordError, record_from_json, record_to_json


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    x: float
    tags: tuple[str, ...] = ()
    schema_version: int = 2


def read(content: bytes) -> Point:
    return record_from_json(content, Point, schema_version=2, path="points/a.json", cure="remove it")


def test_a_record_comes_back_as_it_was_written() -> None:
    point = Point(0.1 + 0.2, ("a", "ä"))
    assert read(record_to_json(point)) == point


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"x": 1.0, "schema_version": 1}', "has schema version 1; expected version 2"),
        (b'{"x": 1.0}', "has no schema version"),
        (b'{"schema_version": 2}', "missing required field `x`"),
        (b'{"x": 1.0, "y": 2, "schema_version": 2}', "unknown field `y`"),
        (b'{"x": "one", "schema_version": 2}', "Expected `float`, got `str`"),
        (b'{"x": 1.0, "schema', "cannot be read"),
        (b"[1]", "cannot be read"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_record_that_does_not_fit_is_reported_with_its_path(content: bytes, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        read(content)
    assert caught.value.path == "points/a.json"
    assert str(caught.value).startswith("points/a.json ")
    assert reason in str(caught.value)
    assert str(caught.value).endswith(": remove it")
    assert pickle.loads(pickle.dumps(caught.value)).path == "points/a.json"


def test_numbers_that_json_lacks_are_refused() -> None:
    broken: Any = Point(float("nan"))
    with pytest.raises(ValueError, match="nan"):
        record_to_json(broken)
