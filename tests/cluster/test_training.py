"""The queue of works and the placement of workers, without starting Ray."""

import pytest

from asdbench.cluster.board import Board
from asdbench.cluster.placement import Placement
from asdbench.engine.events import Failure
from asdbench.errors import InputError


def test_a_board_hands_each_work_out_once_in_order() -> None:
    board = Board(3)
    assert [board.take("first") for _ in range(4)] == [0, 1, 2, None]


def test_a_new_attempt_gets_what_was_not_finished_and_did_not_fail() -> None:
    board = Board(4)
    for _ in range(3):
        board.take("first")
    board.finish(0, [])
    board.finish(1, [Failure(1, ("a",), "no", bad_input=False)])
    assert [board.take("second") for _ in range(3)] == [2, 3, None]
    assert board.failures() == [Failure(1, ("a",), "no", bad_input=False)]


def test_work_that_kills_its_workers_is_given_up_and_work_that_goes_on_is_not() -> None:
    board = Board(2)
    for attempt in range(5):
        while (work := board.take(str(attempt))) is not None:
            board.tell({"work": work, "step": 10 * attempt if work else 7})
    assert [failure.work for failure in board.failures()] == [0]
    assert "died 3 times" in board.failures()[0].message
    assert board.unfinished() == [1]


def test_events_are_handed_over_once() -> None:
    board = Board(1)
    board.tell({"work": 0, "step": 1})
    board.finish(0, [])
    assert board.listen() == [{"work": 0, "step": 1}, {"work": 0, "done": True}]
    assert board.listen() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 3, "workers_per_type": 2}, "--workers 3 is not a multiple of --workers-per-type 2"),
        ({"workers": 0}, "--workers 0"),
        ({"workers_per_type": 0}, "--workers-per-type 0 must be at least 1"),
        ({"gpus_per_worker": 0.0}, "--gpus-per-worker 0"),
        ({"gpus_per_worker": 0.5, "workers_per_type": 2}, "exactly 1 with more than one"),
    ],
)
def test_a_placement_that_cannot_be_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Placement(**arguments)  # type: ignore[arg-type]
