"""The queue of works, without Ray: what is handed out, put back, given up, and what waits."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from asdbench.cluster.board import Board
from asdbench.engine.events import Failure, TaskFinished, TaskReport, TrainingProgress


def tasks(*numbers: int, excludes: str = "") -> list[tuple[int, Sequence[float], str, Any]]:
    return [(number, (0, number), excludes or str(number), f"content {number}") for number in numbers]


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, timeout=10))


def test_works_are_handed_out_once_the_lowest_priority_first() -> None:
    async def scenario() -> None:
        board = Board()
        await board.put([(0, (1, 5), "a", "late"), (1, (1, 2), "b", "early"), (2, (0, 9), "c", "first")])
        await board.close()
        taken = [await board.take(group, "x") for group in range(4)]
        assert taken == [(2, "first"), (1, "early"), (0, "late"), None]

    run(scenario())


def test_a_group_waits_for_work_and_goes_when_the_board_is_closed() -> None:
    async def scenario() -> None:
        board = Board()
        waiting = asyncio.create_task(board.take(0, "x"))
        other = asyncio.create_task(board.take(1, "y"))
        await asyncio.sleep(0)
        await board.put(tasks(7))
        assert await waiting == (7, "content 7")
        assert not other.done()
        await board.close()
        assert await other is None

    run(scenario())


def test_works_of_one_training_are_never_out_together() -> None:
    async def scenario() -> None:
        board = Board()
        await board.put(tasks(0, 1, excludes="one training"))
        first = await board.take(0, "x")
        assert first is not None
        second = asyncio.create_task(board.take(1, "y"))
        await asyncio.sleep(0.01)
        assert not second.done()
        await board.finish(0, first[0], [])
        assert await second == (1, "content 1")

    run(scenario())


def test_the_work_of_a_lost_group_goes_to_another_at_once() -> None:
    async def scenario() -> None:
        board = Board()
        await board.put(tasks(0))
        assert await board.take(0, "x") == (0, "content 0")
        waiting = asyncio.create_task(board.take(1, "y"))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert await board.release(0)
        assert await waiting == (0, "content 0")
        assert not await board.release(5)  # it had taken nothing

    run(scenario())


def test_a_group_that_starts_anew_gets_its_work_back() -> None:
    async def scenario() -> None:
        board = Board()
        await board.put(tasks(0, 1))
        assert await board.take(0, "first life") == (0, "content 0")
        assert await board.take(0, "second life") == (0, "content 0")

    run(scenario())


def test_a_group_that_was_released_while_it_waited_gets_nothing() -> None:
    async def scenario() -> None:
        board = Board()
        ghost = asyncio.create_task(board.take(0, "x"))
        await asyncio.sleep(0.01)
        await board.release(0)
        await board.put(tasks(3))
        assert await ghost is None
        assert await board.take(1, "y") == (3, "content 3")

    run(scenario())


def test_work_that_kills_its_workers_is_given_up_and_work_that_goes_on_is_not() -> None:
    async def scenario() -> None:
        board = Board()
        await board.put(tasks(0, 1))
        for life in range(5):
            for _ in range(2):
                group = 2 * life + _
                taken = await board.take(group, str(group)) if life < 3 or not _ else None
                if taken is not None and taken[0] == 1:
                    await board.tell(TaskReport(1, TrainingProgress(10 * (life + 1), 100, 1, {})))
            for _ in range(2):
                await board.release(2 * life + _)
        events = await board.listen()
        over = [event for event in events if isinstance(event, TaskFinished)]
        assert [event.task for event in over] == [0]
        assert "died 3 times" in over[0].failures[0].message
        assert await board.take(99, "last") == (1, "content 1")

    run(scenario())


def test_withdrawn_work_is_not_handed_out_and_work_under_way_stays() -> None:
    async def scenario() -> None:
        board = Board()
        await board.put(tasks(0, 1, 2))
        assert await board.take(0, "x") == (0, "content 0")
        assert await board.withdraw([0, 1]) == [1]
        assert await board.take(1, "y") == (2, "content 2")

    run(scenario())


def test_events_are_handed_over_once() -> None:
    async def scenario() -> None:
        board = Board()
        await board.put(tasks(0))
        await board.take(0, "x")
        await board.tell(TaskReport(0, TrainingProgress(1, 100, 1, {})))
        failure = Failure(0, ("a",), "no", bad_input=False)
        await board.finish(0, 0, [failure])
        assert await board.listen() == [
            TaskReport(0, TrainingProgress(1, 100, 1, {})),
            TaskFinished(0, (failure,)),
        ]
        assert await board.listen() == []

    run(scenario())


def test_a_trial_waits_for_the_score_of_its_rung() -> None:
    async def scenario() -> None:
        board = Board()
        waiting = asyncio.create_task(board.rung("t", 1))
        await board.score("t", [0.25])
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await board.score("t", [0.25, 0.5])
        assert await waiting == 0.5
        assert await board.rung("t", 0) == 0.25
        waiting = asyncio.create_task(board.rung("t", 2))
        await asyncio.sleep(0.01)
        await board.end_trials()
        assert await waiting is None

    run(scenario())
