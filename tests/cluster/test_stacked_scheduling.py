"""Tasks that share a GPU: which ones train together, and that each ends as if it were alone."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from ray.exceptions import WorkerCrashedError

from asdbench.cluster import scheduler as scheduler_module
from asdbench.cluster.messages import GpuUse, Outcome, TaskRequest
from asdbench.cluster.placement import Placement, WorkerShape
from asdbench.cluster.scheduler import TrainingScheduler
from asdbench.cluster.task_queue import Entry
from asdbench.engine.events import Failure, Note, TaskFinished, TaskReport, TaskStarted, TrainingProgress
from tests.cluster.played_nodes import kinds, play, requests

OUT_OF_MEMORY = Outcome("infrastructure", message="CUDA out of memory", is_memory=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "_PAUSE_S", 0.001)
    monkeypatch.setattr(scheduler_module, "_CLAIMED_S", 0.01)


@dataclass(frozen=True)
class Attempt:
    """What a process was asked to train, and how much of a GPU it was given."""

    keys: tuple[str, ...]
    gpus: float


class Gpus:
    """A node with GPUs whose processes end as told; one that dies raises, as Ray does."""

    def __init__(self, *, gpus: int = 1, hosts: Sequence[str] = ("a",)) -> None:
        self.resources = {"CPU": 16.0, "GPU": float(gpus)}
        self.hosts = list(hosts)
        self.attempts: list[Attempt] = []
        self.used = self.most_used = 0.0
        self.processes = self.most_processes = 0
        self.scheduler: TrainingScheduler | None = None

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": host, "Alive": True, "Resources": self.resources} for host in self.hosts]

    def outcome(self, key: str, attempt: Attempt) -> Outcome:
        """Return how a task ends."""
        return Outcome("ok")

    async def train(
        self, entry: Entry, copies: list[bytes], shape: WorkerShape, excluded: set[str]
    ) -> Outcome:
        (outcome,) = await self.train_stack([entry], copies, shape, excluded)
        return outcome

    async def train_stack(
        self, entries: Sequence[Entry], copies: list[bytes], shape: WorkerShape, excluded: set[str]
    ) -> list[Outcome]:
        attempt = Attempt(tuple(entry.request.key for entry in entries), shape.gpus)
        self.attempts.append(attempt)
        node = next(host for host in self.hosts if host not in excluded)
        self.used += shape.gpus
        self.processes += 1
        self.most_used = max(self.most_used, self.used)
        self.most_processes = max(self.most_processes, self.processes)
        assert self.scheduler is not None
        for entry in entries:
            request = entry.request
            began = TaskStarted(request.key, request.label, node, f"host {node}", entry.attempt)
            assert await self.scheduler.report(began)
        await asyncio.sleep(0.002)
        self.used -= shape.gpus
        self.processes -= 1
        return [replace(self.outcome(k, attempt), node=node, host=f"host {node}") for k in attempt.keys]


def stackable(keys: Iterable[str], stack: str | None = "conformer", *, rung: int = 0) -> list[TaskRequest]:
    return [replace(each, stack=stack, priority=(rung, place)) for place, each in enumerate(requests(*keys))]


def notes(events: Iterable[Any]) -> list[str]:
    return [event.message for event in events if isinstance(event, Note)]


async def run_and_tell(
    scheduler: TrainingScheduler, wanted: list[TaskRequest]
) -> tuple[list[Outcome], list[Any]]:
    return await scheduler.run("run", wanted), await scheduler.events()


def test_tasks_that_stack_train_in_one_process_and_each_ends_by_itself() -> None:
    nodes = Gpus()
    outcomes, events = play(nodes, lambda s: run_and_tell(s, stackable("abcdef")))
    assert kinds(outcomes) == ["ok"] * 6
    assert nodes.attempts == [Attempt(tuple("abcdef"), 1.0)]
    assert [e.task for e in events if isinstance(e, TaskFinished)] == list("abcdef")


def test_all_gpus_get_a_part_of_what_stacks() -> None:
    nodes = Gpus(gpus=3)
    play(nodes, lambda s: s.run("run", stackable("abcdefgh")))
    assert [attempt.keys for attempt in nodes.attempts] == [tuple("abc"), tuple("def"), tuple("gh")]


def test_only_tasks_of_one_architecture_and_rung_train_together() -> None:
    nodes = Gpus()
    wanted = [
        *stackable("ab"),
        *stackable("cd", "autoencoder"),
        *stackable("ef", rung=1),
        *stackable("gh", None),
    ]
    play(nodes, lambda s: s.run("run", wanted), Placement(jobs_per_gpu=8))
    assert {attempt.keys for attempt in nodes.attempts} == {
        tuple("ab"), tuple("cd"), tuple("ef"), ("g",), ("h",)
    }  # fmt: skip


def test_two_tasks_of_one_training_do_not_train_together() -> None:
    nodes = Gpus()
    wanted = [replace(each, training="same" if each.key in "ab" else each.key) for each in stackable("abc")]
    assert kinds(play(nodes, lambda s: s.run("run", wanted))) == ["ok"] * 3
    assert [attempt.keys for attempt in nodes.attempts] == [("a", "c"), ("b",)]


@pytest.mark.parametrize("placement", [Placement(jobs_per_gpu=1), Placement(workers_per_type=2)])
def test_who_wants_one_job_on_a_gpu_gets_that(placement: Placement) -> None:
    nodes = Gpus(gpus=2)
    play(nodes, lambda s: s.run("run", stackable("abcd")), placement)
    assert [attempt.keys for attempt in nodes.attempts] == [("a",), ("b",), ("c",), ("d",)]


def test_cpus_are_not_shared() -> None:
    nodes = Gpus()
    nodes.resources = {"CPU": 2.0}
    play(nodes, lambda s: s.run("run", stackable("abcd")), Placement(jobs_per_gpu=4))
    assert [attempt.keys for attempt in nodes.attempts] == [("a",), ("b",), ("c",), ("d",)]


def test_of_a_stack_one_task_fails_alone() -> None:
    class Diverging(Gpus):
        def outcome(self, key: str, attempt: Attempt) -> Outcome:
            diverged = Failure("b", "training diverged", bad_input=True)
            return Outcome("user", failures=(diverged,)) if key == "b" else Outcome("ok")

    nodes = Diverging()
    assert kinds(play(nodes, lambda s: s.run("run", stackable("abc")))) == ["ok", "user", "ok"]
    assert nodes.attempts == [Attempt(tuple("abc"), 1.0)]


def test_of_a_stack_one_task_that_another_run_works_on_waits() -> None:
    class Claimed(Gpus):
        def outcome(self, key: str, attempt: Attempt) -> Outcome:
            return Outcome("claimed") if (key, len(attempt.keys)) == ("b", 3) else Outcome("ok")

    nodes = Claimed()
    assert kinds(play(nodes, lambda s: s.run("run", stackable("abc")))) == ["ok"] * 3
    assert [attempt.keys for attempt in nodes.attempts] == [tuple("abc"), ("b",)]


def test_a_task_that_kills_its_process_is_found_and_ends_no_other() -> None:
    class Poisoned(Gpus):
        def outcome(self, key: str, attempt: Attempt) -> Outcome:
            if "c" in attempt.keys:
                raise WorkerCrashedError
            return Outcome("ok")

    nodes = Poisoned(hosts=("a", "b"))
    outcomes, events = play(nodes, lambda s: run_and_tell(s, stackable("abcdef")))
    assert kinds(outcomes) == ["ok", "ok", "death", "ok", "ok", "ok"]
    together = [attempt.keys for attempt in nodes.attempts if len(attempt.keys) > 1]
    assert together == [tuple("abc"), tuple("def")]
    assert sum(attempt.keys == ("c",) for attempt in nodes.attempts) == 2  # and once with the others
    said = [note for note in notes(events) if "is tried again" in note]
    assert "task a with 2 more of its stack is tried again" in said[0]
    assert not any("gets no more tasks" in note for note in notes(events))  # three tasks, but one death


def test_a_task_that_makes_a_gpu_unusable_is_found_and_ends_no_other() -> None:
    class Poisoned(Gpus):
        def outcome(self, key: str, attempt: Attempt) -> Outcome:
            assertion = Outcome("infrastructure", message="CUDA error: device-side assert triggered")
            return assertion if "c" in attempt.keys else Outcome("ok")

    outcomes = play(Poisoned(), lambda s: s.run("run", stackable("abcd")))
    assert kinds(outcomes) == ["ok", "ok", "infrastructure", "ok"]


def test_an_error_of_the_whole_stack_is_found_by_trying_each_alone() -> None:
    class Failing(Gpus):
        def outcome(self, key: str, attempt: Attempt) -> Outcome:
            if "c" not in attempt.keys:
                return Outcome("ok")
            return Outcome("user" if len(attempt.keys) == 1 else "inseparable", message="an exception")

    nodes = Failing()
    outcomes, events = play(nodes, lambda s: run_and_tell(s, stackable("abcd")))
    assert kinds(outcomes) == ["ok", "ok", "user", "ok"]
    assert sum("is tried again" in note for note in notes(events)) == 1


def test_a_stack_that_memory_does_not_hold_is_halved_until_it_does() -> None:
    class Small(Gpus):
        def outcome(self, key: str, attempt: Attempt) -> Outcome:
            return OUT_OF_MEMORY if len(attempt.keys) > 3 else Outcome("ok")

    nodes = Small()
    outcomes, events = play(nodes, lambda s: run_and_tell(s, stackable("abcdefghij")))
    assert kinds(outcomes) == ["ok"] * 10
    assert [len(attempt.keys) for attempt in nodes.attempts] == [10, 5, 2, 2, 2, 2, 2]
    halved = [note for note in notes(events) if "used up the memory" in note]
    assert len(halved) == 2
    assert "of a GPU that 10 jobs shared; it is tried again in stacks of at most 5" in halved[0]


def test_what_a_stack_took_decides_how_large_the_next_is() -> None:
    class Measured(Gpus):
        def outcome(self, key: str, attempt: Attempt) -> Outcome:
            jobs = len(attempt.keys)
            return Outcome("ok", gpu=GpuUse(80 << 30, jobs * 10 << 30, 0.9, jobs))

    nodes = Measured()

    async def story(scheduler: TrainingScheduler) -> None:
        await scheduler.run("run", stackable("ab"))
        await scheduler.run("run", stackable("cdefghijklmn"))

    play(nodes, story)
    assert [len(attempt.keys) for attempt in nodes.attempts] == [2, 7, 5]


def test_a_process_of_a_stack_that_ends_itself_has_told_all_outcomes() -> None:
    class Ending(Gpus):
        async def train_stack(self, entries: Sequence[Entry], *more: Any) -> list[Outcome]:
            outcomes = await super().train_stack(entries, *more)
            assert self.scheduler is not None
            if len(entries) > 1:
                for entry, outcome in zip(entries, outcomes, strict=True):
                    await self.scheduler.end(entry.request.key, outcome)
                raise WorkerCrashedError
            return outcomes

        def outcome(self, key: str, attempt: Attempt) -> Outcome:
            is_broken = key == "b" and len(attempt.keys) > 1
            return Outcome("infrastructure", message="disk full") if is_broken else Outcome("ok")

    nodes = Ending()
    assert kinds(play(nodes, lambda s: s.run("run", stackable("abc")))) == ["ok"] * 3
    assert [attempt.keys for attempt in nodes.attempts] == [tuple("abc"), ("b",)]


def test_a_stack_does_not_move_to_idle_gpus() -> None:
    class Long(Gpus):
        async def train_stack(self, entries: Sequence[Entry], *more: Any) -> list[Outcome]:
            assert self.scheduler is not None
            go_on = []
            for step in range(1, 4):
                await asyncio.sleep(0.01)
                for entry in entries:
                    progress = TrainingProgress(step, 1_000_000, 1, {})
                    report = TaskReport(entry.request.key, entry.request.label, progress)
                    go_on.append(await self.scheduler.report(report))
            assert all(go_on)
            return await super().train_stack(entries, *more)

    nodes = Long(gpus=4)

    async def story(scheduler: TrainingScheduler) -> list[Outcome]:
        wanted = stackable("abcdefgh")
        run = asyncio.ensure_future(scheduler.run("run", wanted))
        return await run

    assert kinds(play(nodes, story)) == ["ok"] * 8
    assert [len(attempt.keys) for attempt in nodes.attempts] == [2, 2, 2, 2]


# Processes that share a GPU


def test_as_many_processes_share_a_gpu_as_the_user_wants() -> None:
    nodes = Gpus(gpus=2)
    play(nodes, lambda s: s.run("run", stackable("abcdefgh", None)), Placement(jobs_per_gpu=2))
    assert [attempt.gpus for attempt in nodes.attempts[:7]] == [0.5] * 7
    assert nodes.most_used == 2.0


def test_no_gpu_is_shared_while_another_is_idle() -> None:
    """Ray puts parts of a GPU on one, and leaves the others of its node idle."""
    nodes = Gpus(gpus=3)
    play(nodes, lambda s: s.run("run", stackable("abcd", None)), Placement(jobs_per_gpu=4))
    assert [attempt.gpus for attempt in nodes.attempts] == [0.5, 0.5, 1.0, 1.0]


def test_workers_are_a_ceiling_on_shared_gpus_too() -> None:
    nodes = Gpus(gpus=2)
    play(nodes, lambda s: s.run("run", stackable("abcdef", None)), Placement(workers=3, jobs_per_gpu=4))
    assert nodes.most_processes == 3


def test_the_first_task_of_a_system_measures_how_many_share_a_gpu() -> None:
    class Measured(Gpus):
        def outcome(self, key: str, attempt: Attempt) -> Outcome:
            return Outcome("ok", gpu=GpuUse(80 << 30, 2 << 30, 0.3, 1))

    nodes = Measured()
    play(nodes, lambda s: s.run("run", stackable("abcdefg", None)))
    assert [attempt.gpus for attempt in nodes.attempts] == [1.0, *[0.333] * 6]


def test_a_process_that_finds_no_memory_on_a_shared_gpu_gets_one_to_itself() -> None:
    class Small(Gpus):
        def outcome(self, key: str, attempt: Attempt) -> Outcome:
            return OUT_OF_MEMORY if attempt.gpus < 0.5 else Outcome("ok")

    nodes = Small()
    outcomes, events = play(
        nodes, lambda s: run_and_tell(s, stackable("abcdefgh", None)), Placement(jobs_per_gpu=4)
    )
    assert kinds(outcomes) == ["ok"] * 8
    alone = {attempt.keys for attempt in nodes.attempts if attempt.gpus == 1.0}
    assert alone == {("a",), ("b",), ("c",), ("d",)}
    assert sum("used up the memory of a GPU that 4 jobs shared" in note for note in notes(events)) == 1
    assert {attempt.gpus for attempt in nodes.attempts if attempt.keys == ("h",)} == {0.5}
    assert nodes.most_used <= 1.0


def test_a_task_that_dies_on_a_shared_gpu_is_tried_alone() -> None:
    class Dying(Gpus):
        def outcome(self, key: str, attempt: Attempt) -> Outcome:
            if key == "b" and attempt.gpus < 1:
                raise WorkerCrashedError
            return Outcome("ok")

    nodes = Dying()
    play(nodes, lambda s: s.run("run", stackable("abc", None)), Placement(jobs_per_gpu=2))
    assert [attempt.gpus for attempt in nodes.attempts if attempt.keys == ("b",)] == [0.5, 1.0]
