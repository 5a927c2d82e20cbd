"""The queue: its order, what is shared, what excludes each other, and what a task costs."""

import time

from asdbench.cluster.messages import TaskRequest
from asdbench.cluster.task_queue import Entry, TaskQueue


def request(key: str, *priority: float, training: str | None = None, stack: str | None = None) -> TaskRequest:
    return TaskRequest(key, training or key, key, ("mse",), priority or (0.0,), b"", stack=stack)


def queue_of(*requests: TaskRequest, owner: str = "run") -> TaskQueue:
    queue = TaskQueue()
    for one in requests:
        entry, is_new = queue.add(owner, one)
        if is_new:
            queue.push(entry)
    return queue


def drained(queue: TaskQueue) -> list[str]:
    keys = []
    while (entry := queue.pop()) is not None:
        keys.append(entry.request.key)
    return keys


def test_the_lowest_priority_comes_first_and_equal_ones_in_the_order_they_were_asked_for() -> None:
    queue = queue_of(request("late", 2, 0), request("a", 1, 3), request("b", 1, 3), request("first", 0))
    assert len(queue) == 4
    assert drained(queue) == ["first", "a", "b", "late"]
    assert len(queue) == 0


def test_a_task_that_two_ask_for_is_one_and_has_the_better_priority() -> None:
    queue = queue_of(request("x", 5), request("y", 3))
    entry, is_new = queue.add("trial", request("x", 1))
    assert not is_new
    assert entry.owners == {"run", "trial"}
    assert drained(queue) == ["x", "y"]


def test_two_tasks_of_one_training_never_run_together() -> None:
    queue = queue_of(request("a", 0, training="t"), request("b", 1, training="t"), request("c", 2))
    first = queue.pop()
    assert first is not None
    assert first.request.key == "a"
    assert drained(queue) == ["c"]
    queue.end_attempt(first)
    queue.finish(first)
    assert drained(queue) == ["b"]


def test_what_nobody_waits_for_any_longer_is_taken_out() -> None:
    queue = queue_of(request("mine"), request("shared"), owner="trial")
    queue.add("run", request("shared"))
    assert [entry.request.key for entry in queue.release("trial")] == ["mine"]
    assert queue.release("trial") == []
    assert drained(queue) == ["shared"]


def test_a_running_task_is_not_taken_out() -> None:
    queue = queue_of(request("a"), owner="trial")
    entry = queue.pop()
    assert entry is not None
    assert queue.release("trial") == []
    assert queue.entry("a") is entry


def test_all_that_waits_can_be_given_up() -> None:
    queue = queue_of(request("a"), request("b"), request("c"))
    running = queue.pop()
    assert sorted(entry.request.key for entry in queue.drain()) == ["b", "c"]
    assert queue.pop() is None
    assert running is not None


def test_tasks_of_a_stack_are_taken_out_together_in_their_order_and_of_one_rung() -> None:
    queue = queue_of(
        request("d", 1, 4, stack="s"),
        request("a", 1, 1, stack="s"),
        request("other", 1, 2, stack="t"),
        request("c", 1, 3, stack="s"),
        request("b", 1, 2, stack="s"),
        request("later", 2, 0, stack="s"),
    )
    first = queue.pop()
    assert first is not None
    assert (first.request.key, queue.n_stackable("s"), queue.n_stackable("t")) == ("a", 4, 1)
    assert [entry.request.key for entry in queue.pop_beside(first, 2)] == ["b", "c"]
    assert [entry.request.key for entry in queue.pop_beside(first, 9)] == ["d"]
    assert drained(queue) == ["other", "later"]
    assert queue.n_stackable("s") == 0


def test_a_task_that_runs_alone_is_in_no_stack() -> None:
    queue = queue_of(request("a", stack="s"), request("b", stack="s"), request("c", stack="s"))
    alone = queue.pop()
    assert alone is not None
    queue.end_attempt(alone)
    alone.is_alone = True
    queue.push(alone)
    first = queue.pop()
    assert first is not None
    assert first.request.key == "b"
    assert [entry.request.key for entry in queue.pop_beside(first, 9)] == ["c"]
    assert drained(queue) == ["a"]


def test_many_tasks_of_one_training_cost_what_many_of_others_do_where_they_stack() -> None:
    queue = queue_of(*(request(f"k{n}", n, training="t", stack="s") for n in range(60)))
    for number in range(60):
        entry = queue.pop()
        assert entry is not None
        assert entry.request.key == f"k{number}"
        assert queue.pop_beside(entry, 9) == []
        queue.end_attempt(entry)
        queue.finish(entry)
    assert len(queue) == 0


def test_progress_forgives_deaths_and_tells_the_time_that_is_left(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    entry = Entry(request("a"), {"run"}, (0.0,), deaths=2)
    entry.note_progress(10, 100)
    assert entry.deaths == 0
    assert entry.remaining_s() is None
    now[0] += 5.0
    entry.note_progress(20, 100)
    assert entry.remaining_s() == 40.0  # 80 steps at 2 a second


def test_a_task_costs_the_same_however_many_wait() -> None:
    def seconds_a_task(size: int) -> float:
        queue = TaskQueue()
        began = time.process_time()
        for number in range(size):
            wanted = request(f"k{number}", number % 7, number % 50, stack=f"s{number % 9}")
            entry, _ = queue.add(f"trial {number % 50}", wanted)
            queue.push(entry)
        while (popped := queue.pop()) is not None:
            queue.end_attempt(popped)
            queue.finish(popped)
        return (time.process_time() - began) / size

    small = min(seconds_a_task(2_000) for _ in range(3))
    large = min(seconds_a_task(100_000) for _ in range(2))
    assert (
        large < 10 * small
    )  # it would be 50 times as much if a task cost in proportion to the number waiting
