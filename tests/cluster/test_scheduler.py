"""The scheduler with nodes that are played: what it submits, where, how often, and what it says."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from asdbench.cluster import scheduler as scheduler_module
from asdbench.cluster.messages import FeatureRequest, Outcome
from asdbench.cluster.placement import Placement, WorkerShape
from asdbench.cluster.scheduler import TrainingScheduler
from asdbench.cluster.task_queue import Entry
from asdbench.driver.run_status import status_from
from asdbench.engine.events import (
    Failure,
    Note,
    TaskFinished,
    TaskReport,
    TasksQueued,
    TaskStarted,
    TrainingProgress,
)
from asdbench.engine.run_record import RunStatus
from tests.cluster.played_nodes import Behavior, Nodes, broken, kinds, ok, play, requests


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "_PAUSE_S", 0.001)
    monkeypatch.setattr(scheduler_module, "_CLAIMED_S", 0.01)
    monkeypatch.setattr(scheduler_module, "_WATCH_S", 0.01)


def test_all_tasks_are_run_in_order_and_no_more_at_a_time_than_the_nodes_hold() -> None:
    nodes = Nodes(ok)
    keys = [f"k{number}" for number in range(20)]
    outcomes = play(nodes, lambda scheduler: scheduler.run("run", requests(*keys)))
    assert kinds(outcomes) == ["ok"] * 20
    assert [key for key, _ in nodes.attempts] == keys
    assert nodes.most == 3


def test_workers_are_a_ceiling() -> None:
    nodes = Nodes(ok)
    play(nodes, lambda s: s.run("run", requests(*"abcdef")), Placement(workers=2))
    assert nodes.most == 2
    more = Nodes(ok)
    play(more, lambda s: s.run("run", requests(*"abcdef")), Placement(workers=64))
    assert more.most == 3


def test_the_same_task_asked_for_twice_is_run_once() -> None:
    nodes = Nodes(ok)

    async def story(scheduler: TrainingScheduler) -> list[list[Outcome]]:
        return list(
            await asyncio.gather(
                scheduler.run("trial 1", requests("x", "y")), scheduler.run("trial 2", requests("x", "z"))
            )
        )

    first, second = play(nodes, story)
    assert kinds(first + second) == ["ok"] * 4
    assert sorted(key for key, _ in nodes.attempts) == ["x", "y", "z"]


def test_a_node_whose_disk_is_full_costs_a_few_attempts_and_no_task() -> None:
    nodes = Nodes(lambda key, node: broken() if node == "a" else Outcome("ok"))

    async def story(scheduler: TrainingScheduler) -> tuple[list[Outcome], list[Any], dict[str, Any]]:
        outcomes = await scheduler.run("run", requests(*(f"k{n}" for n in range(24))))
        return outcomes, await scheduler.events(), await scheduler.status()

    outcomes, events, status = play(nodes, story)
    assert kinds(outcomes) == ["ok"] * 24
    bad = [key for key, node in nodes.attempts if node == "a"]
    assert len(bad) == len(set(bad)) == 3
    notes = [event.message for event in events if isinstance(event, Note)]
    assert sum("host a gets no more tasks" in note and "the disk is full" in note for note in notes) == 1
    (out,) = [node for node in status["nodes"] if node["quarantined_unix_s"] is not None]
    assert (out["host"], out["reason"]) == ("host a", "the disk is full")
    assert [retry["host"] for retry in status["retries"]] == ["host a"] * 3


def test_a_node_that_kills_its_workers_does_not_end_the_healthy_ones() -> None:
    nodes = Nodes(lambda key, node: Outcome("death", message="killed") if node == "a" else Outcome("ok"))
    outcomes = play(nodes, lambda scheduler: scheduler.run("run", requests(*(f"k{n}" for n in range(24)))))
    assert kinds(outcomes) == ["ok"] * 24
    assert sum(node == "a" for _, node in nodes.attempts) == 3


def test_a_task_that_kills_every_worker_is_given_up_and_stops_no_other() -> None:
    nodes = Nodes(lambda key, node: Outcome("death", message="killed") if key == "bad" else Outcome("ok"))

    async def story(scheduler: TrainingScheduler) -> tuple[list[Outcome], list[Any], dict[str, Any]]:
        outcomes = await scheduler.run("run", requests("bad", *"bcdefg"))
        return outcomes, await scheduler.events(), await scheduler.status()

    outcomes, events, status = play(nodes, story)
    assert kinds(outcomes) == ["death"] + ["ok"] * 6
    assert [node for key, node in nodes.attempts if key == "bad"] == ["a", "b", "c"]
    notes = [event.message for event in events if isinstance(event, Note)]
    assert sum("task bad is tried again" in note for note in notes) == len(status["retries"]) == 2
    assert "died 3 times without getting further" in outcomes[0].failures[0].message


def test_progress_between_deaths_is_forgiven() -> None:
    deaths = iter(range(5))

    def behavior(key: str, node: str) -> Outcome:
        step = next(deaths, None)
        assert nodes.scheduler is not None
        if step is None:
            return Outcome("ok")
        entry = nodes.scheduler._queue.entry(key)
        assert entry is not None
        entry.note_progress(step + 1, 10)
        return Outcome("death", message="the host is gone")

    nodes = Nodes(behavior)
    (outcome,) = play(nodes, lambda scheduler: scheduler.run("run", requests("a")))
    assert outcome.kind == "ok"
    assert len(nodes.attempts) == 6


def test_bad_input_is_not_tried_again_nor_by_another_trial() -> None:
    refusal = Outcome("user", failures=(Failure("x", "training diverged", bad_input=True),))
    nodes = Nodes(lambda key, node: refusal)

    async def story(scheduler: TrainingScheduler) -> list[Outcome]:
        return await scheduler.run("t1", requests("a")) + await scheduler.run("t2", requests("a"))

    assert kinds(play(nodes, story)) == ["user", "user"]
    assert len(nodes.attempts) == 1


def test_if_every_node_fails_the_run_ends_and_says_why() -> None:
    nodes = Nodes(lambda key, node: broken(f"no room on {node}"))
    outcomes = play(nodes, lambda scheduler: scheduler.run("run", requests(*(f"k{n}" for n in range(50)))))
    assert set(kinds(outcomes)) == {"infrastructure"}
    assert len(nodes.attempts) < 20
    last = outcomes[-1].failures[0].message
    assert "no node is left" in last
    assert "host b: no room on b" in last


def test_no_task_excludes_all_nodes_if_the_last_ones_are_taken_out_at_the_same_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = Nodes(ok)
    running: dict[str, asyncio.Future[Outcome]] = {}
    excluded: list[set[str]] = []

    async def train(entry: Entry, copies: list[bytes], shape: WorkerShape, without: set[str]) -> Outcome:
        excluded.append(without)
        running[entry.request.key] = asyncio.get_running_loop().create_future()
        return await running[entry.request.key]

    async def fail(**on: str) -> None:
        for key, node in on.items():
            running.pop(key).set_result(Outcome("infrastructure", node, node, message="the disk is full"))
        await asyncio.sleep(0.01)

    async def story(scheduler: TrainingScheduler) -> list[Outcome]:
        run = asyncio.ensure_future(scheduler.run("run", requests(*"tuvwxyz")))
        await asyncio.sleep(0.01)
        await fail(t="a", u="a", v="b", w="b", x="c", y="c")
        await fail(v="b", z="a", t="b", u="c")  # v is submitted again, and each node fails its third task
        while not run.done():
            await fail(**dict.fromkeys(running, "b"))
        return run.result()

    monkeypatch.setattr(nodes, "train", train)
    assert set(kinds(play(nodes, story, may_grow=True))) == {"infrastructure"}
    assert {"b"} in excluded
    assert {"a", "b", "c"} not in excluded


def test_a_single_node_is_tried_again_before_a_task_is_given_up() -> None:
    faults = iter([True, True, False])
    nodes = Nodes(lambda key, node: broken() if next(faults) else Outcome("ok"), hosts=("a",))
    (outcome,) = play(nodes, lambda scheduler: scheduler.run("run", requests("only")))
    assert outcome.kind == "ok"
    hopeless = Nodes(lambda key, node: broken(), hosts=("a",))
    (outcome,) = play(hopeless, lambda scheduler: scheduler.run("run", requests("only")))
    assert outcome.kind == "infrastructure"
    assert len(hopeless.attempts) == 5


def test_what_a_pruned_trial_still_waits_for_is_withdrawn() -> None:
    nodes = Nodes(ok, hosts=("a",))

    async def story(scheduler: TrainingScheduler) -> tuple[list[Outcome], list[Any]]:
        pruned = asyncio.ensure_future(scheduler.run("pruned", requests(*"abc")))
        other = asyncio.ensure_future(scheduler.run("other", requests("c", "d")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await scheduler.release("pruned")
        return await pruned + await other, await scheduler.events()

    outcomes, events = play(nodes, story)
    assert kinds(outcomes) == ["ok", "released", "ok", "ok", "ok"]  # the first one ran already
    assert sum(event.count for event in events if isinstance(event, TasksQueued)) == 3


def test_a_training_of_another_run_is_waited_for() -> None:
    claimed = Outcome("claimed", message="host9 (pid 7) trains it")
    answers = iter([claimed, claimed, Outcome("ok")])
    nodes = Nodes(lambda key, node: next(answers) if key == "a" else Outcome("ok"))

    async def story(scheduler: TrainingScheduler) -> tuple[list[Outcome], list[Any]]:
        return await scheduler.run("run", requests(*"abc")), await scheduler.events()

    outcomes, events = play(nodes, story)
    assert kinds(outcomes) == ["ok"] * 3
    assert [key for key, _ in nodes.attempts].count("a") == 3
    notes = [event.message for event in events if isinstance(event, Note)]
    assert notes == ["task a waits: host9 (pid 7) trains it"]


def test_a_mistake_of_ours_fails_a_task_and_is_not_lost() -> None:
    nodes = Nodes(lambda key, node: Outcome("ok") if key == "a" else {}["no such key"])
    first, second = play(nodes, lambda scheduler: scheduler.run("run", requests(*"ab")))
    assert first.kind == "ok"
    assert second.kind == "infrastructure"
    assert "KeyError: 'no such key'" in second.failures[0].message


def test_a_task_waits_for_its_own_features_alone() -> None:
    slow = FeatureRequest("slow", "fan features", b"", on_driver=True)
    nodes = Nodes(ok)

    async def story(scheduler: TrainingScheduler) -> list[Outcome]:
        waiting = requests("x", "y", features=(slow,))
        ready = requests("z")
        return await scheduler.run("run", [*waiting, *ready])

    assert kinds(play(nodes, story)) == ["ok"] * 3
    assert nodes.attempts[0][0] == "z"
    assert nodes.builds == [("slow", True)]


def test_features_that_only_the_driver_can_read_are_built_there() -> None:
    feature = FeatureRequest("f", "fan features", b"", on_driver=False)
    nodes = Nodes(lambda key, node: Outcome("misplaced") if (key, node) == ("f", "a") else Outcome("ok"))
    assert kinds(play(nodes, lambda s: s.run("run", requests("x", features=(feature,))))) == ["ok"]
    assert nodes.builds == [("f", False), ("f", True)]


def test_tasks_whose_features_cannot_be_built_fail_with_the_reason() -> None:
    feature = FeatureRequest("f", "fan features", b"", on_driver=True)
    gone = Outcome("user", failures=(Failure("fan features", "a recording vanished", bad_input=True),))
    nodes = Nodes(lambda key, node: gone if key == "f" else Outcome("ok"))
    first, second = play(nodes, lambda s: s.run("run", [*requests("x", features=(feature,)), *requests("y")]))
    assert first.failures == (Failure("task x", "a recording vanished", bad_input=True),)
    assert second.kind == "ok"


def test_waiting_tasks_are_demand_where_nodes_may_be_added_and_only_there() -> None:
    def most_in_flight(**options: Any) -> int:
        nodes = Nodes(ok)
        scheduler_in_flight = []

        async def story(scheduler: TrainingScheduler) -> None:
            run = asyncio.ensure_future(scheduler.run("run", requests(*(f"k{n}" for n in range(30)))))
            await asyncio.sleep(0)
            scheduler_in_flight.append(scheduler._room.in_flight)
            await run

        play(nodes, story, **options)
        return scheduler_in_flight[0]

    assert most_in_flight() == 3
    assert most_in_flight(may_grow=True) == 7


def test_nodes_that_join_get_tasks_and_a_cluster_without_any_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduler_module, "_BARE_S", (0.02, 60.0))
    feature = FeatureRequest("f", "fan features", b"", on_driver=False)

    class Late(Nodes):
        async def build(self, *arguments: Any, **more: Any) -> Outcome:
            while not self.hosts:
                await asyncio.sleep(0.001)
            return Outcome("ok")

    nodes = Late(ok, hosts=())

    async def story(scheduler: TrainingScheduler) -> tuple[list[Outcome], list[Any]]:
        run = asyncio.ensure_future(scheduler.run("run", requests(*"abcd", features=(feature,))))
        await asyncio.sleep(0.1)
        events = await scheduler.events()
        nodes.hosts = ["late", "later"]
        return await run, events

    outcomes, events = play(nodes, story)
    assert kinds(outcomes) == ["ok"] * 4
    assert {node for _, node in nodes.attempts} == {"late", "later"}
    (note,) = [event.message for event in events if isinstance(event, Note)]
    assert "no node with a CPU or a GPU now; 4 tasks have waited" in note


def test_a_task_without_a_gpu_does_not_start_on_a_node_that_has_one() -> None:
    nodes = Nodes(ok, hosts=())

    async def story(scheduler: TrainingScheduler) -> list[Outcome]:
        run = asyncio.ensure_future(scheduler.run("run", requests("a")))
        await asyncio.sleep(0)
        nodes.resources, nodes.hosts = {"CPU": 4.0, "GPU": 1.0}, ["gpu"]
        return await run

    assert kinds(play(nodes, story)) == ["ok"]
    assert [shape.gpus for shape in nodes.shapes] == [0.0, 1.0]


def test_a_group_waits_until_its_processes_fit_and_nothing_overtakes_it() -> None:
    nodes = Nodes(ok, hosts=("a", "b", "c", "d"))
    placement = Placement(workers_per_type=2)
    assert kinds(play(nodes, lambda s: s.run("run", requests(*"abcdef")), placement)) == ["ok"] * 6
    assert nodes.most == 2


def test_events_keep_the_latest_progress_of_each_task() -> None:
    nodes = Nodes(ok)

    async def story(scheduler: TrainingScheduler) -> list[Any]:
        for step in range(1000):
            await scheduler.report(TaskReport("a", "fan", TrainingProgress(step, 1000, 1, {})))
        return await scheduler.events()

    (event,) = play(nodes, story)
    assert event.report.step == 999


def test_the_state_says_that_a_node_is_gone_and_since_when() -> None:
    nodes = Nodes(ok, hosts=("a", "b"))

    async def story(scheduler: TrainingScheduler) -> dict[str, Any]:
        await scheduler.run("run", requests(*"vw"))
        nodes.hosts.remove("a")
        await scheduler.run("run", requests(*"xyz"))
        await asyncio.sleep(5 * scheduler_module._WATCH_S)
        return await scheduler.status()

    status = status_from(
        play(nodes, story), run=RunStatus.from_command("asdbench run"), now_unix_s=time.time()
    )
    gone, used = sorted(status.nodes, key=lambda node: node.host)
    assert (gone.host, gone.reason) == ("host a", "it has left the cluster")
    assert gone.quarantined_unix_s is not None
    assert used.quarantined_unix_s is None


def test_the_state_says_what_runs_where_and_what_is_done() -> None:
    nodes = Nodes(ok, hosts=("a",))

    async def story(scheduler: TrainingScheduler) -> tuple[dict[str, Any], dict[str, Any]]:
        run = asyncio.ensure_future(scheduler.run("run", requests(*"ab")))
        for _ in range(3):
            await asyncio.sleep(0)
        during = await scheduler.status()
        await run
        return during, await scheduler.status()

    during, after = play(nodes, story)
    shown = status_from(during, run=RunStatus.from_command("asdbench run x"), now_unix_s=time.time())
    assert (shown.waiting, [task.label for task in shown.running]) == (1, ["task a"])
    assert (during["waiting"], [task["label"] for task in during["running"]]) == (1, ["task a"])
    assert during["running"][0]["host"] == "host a"
    assert (after["waiting"], after["done"], after["failed"], after["running"]) == (0, 2, 0, [])
    assert [node["done"] for node in after["nodes"]] == [2]


def test_an_attempt_that_ray_ends_is_a_death() -> None:
    from ray.exceptions import WorkerCrashedError

    nodes = Nodes(ok)
    crashes = iter([True, False])
    train = nodes.train

    async def crashing(*arguments: Any) -> Outcome:
        outcome = await train(*arguments)
        if next(crashes, False):
            raise WorkerCrashedError
        return outcome

    nodes.train = crashing  # type: ignore[method-assign]
    assert kinds(play(nodes, lambda s: s.run("run", requests("a")))) == ["ok"]
    assert [node for _, node in nodes.attempts] == ["a", "b"]  # elsewhere: where it began is known


def test_a_process_that_ends_itself_after_a_fault_of_its_gpu_has_told_the_outcome() -> None:
    from ray.exceptions import WorkerCrashedError

    nodes = Nodes(ok)
    train, faults = nodes.train, iter([True, False])

    async def ending(*arguments: Any) -> Outcome:
        outcome = await train(*arguments)
        if next(faults, False):
            assert nodes.scheduler is not None
            await nodes.scheduler.end("a", Outcome("infrastructure", outcome.node, outcome.host, (), "CUDA"))
            raise WorkerCrashedError
        return outcome

    async def story(scheduler: TrainingScheduler) -> tuple[list[Outcome], dict[str, Any]]:
        return await scheduler.run("run", requests("a")), await scheduler.status()

    nodes.train = ending  # type: ignore[method-assign]
    outcomes, status = play(nodes, story)
    assert kinds(outcomes) == ["ok"]
    assert [retry["reason"] for retry in status["retries"]] == ["CUDA"]


def test_an_attempt_that_begins_after_it_was_replaced_does_not_run() -> None:
    nodes = Nodes(ok)

    async def story(scheduler: TrainingScheduler) -> tuple[bool, bool, list[Outcome]]:
        run = asyncio.ensure_future(scheduler.run("run", requests("a")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        stale = TaskStarted("a", "task a", "b", "host b", attempt=0)
        during = await scheduler.report(stale)
        outcomes = await run
        return during, await scheduler.report(stale), outcomes

    during, after, outcomes = play(nodes, story)
    assert not during
    assert not after
    assert kinds(outcomes) == ["ok"]


def test_a_system_that_breaks_every_node_takes_none_from_the_others() -> None:
    """It may meet an error that looks like the node's, such as a file that it cannot read."""
    nodes = Nodes(
        lambda key, node: broken("permission denied") if "bad" in key else Outcome("ok"), ("a", "b", "c", "d")
    )
    keys = [f"good {n}" for n in range(4)] + [f"bad {n}" for n in range(7)] + [f"late {n}" for n in range(40)]
    outcomes = play(nodes, lambda scheduler: scheduler.run("run", requests(*keys)))
    assert kinds(outcomes) == ["ok"] * 4 + ["infrastructure"] * 7 + ["ok"] * 40


def test_finished_tasks_are_told_once() -> None:
    async def story(scheduler: TrainingScheduler) -> list[Any]:
        await scheduler.run("run", requests(*"ab"))
        return [event for event in await scheduler.events() if isinstance(event, TaskFinished)]

    assert [event.label for event in play(Nodes(ok), story)] == ["task a", "task b"]


# GPUs that stand idle


class GpuNodes(Nodes):
    """One node of four GPUs on which trainings take a step of two hours' work each time they are asked."""

    def __init__(self, behavior: Behavior = ok) -> None:
        super().__init__(behavior, hosts=("a",))
        self.resources = {"CPU": 16.0, "GPU": 4.0}
        self.groups: list[tuple[str, int]] = []

    async def train(
        self, entry: Entry, copies: list[bytes], shape: WorkerShape, excluded: set[str]
    ) -> Outcome:
        request = entry.request
        self.groups.append((request.key, entry.processes))
        assert self.scheduler is not None
        await self.scheduler.report(TaskStarted(request.key, request.label, "a", "host a", entry.attempt))
        for step in range(1, 4):
            await asyncio.sleep(0.01)
            progress = TrainingProgress(step, 1_000_000, 1, {})
            if not await self.scheduler.report(TaskReport(request.key, request.label, progress)):
                return Outcome("preempted", "a", "host a")
        outcome = self.behavior(request.key, str(entry.processes))
        return Outcome(outcome.kind, "a", "host a", outcome.failures, outcome.message)


def test_a_long_training_goes_on_in_a_group_when_gpus_stand_idle() -> None:
    nodes = GpuNodes()

    async def story(scheduler: TrainingScheduler) -> tuple[list[Outcome], list[Any]]:
        return await scheduler.run("run", requests("long")), await scheduler.events()

    outcomes, events = play(nodes, story)
    assert kinds(outcomes) == ["ok"]
    assert nodes.groups == [("long", 1), ("long", 4)]
    (note,) = [event.message for event in events if isinstance(event, Note)]
    assert "3 GPUs are idle: it continues on 4 GPUs from its checkpoint" in note


def test_idle_gpus_are_shared_by_the_trainings_that_are_left() -> None:
    nodes = GpuNodes()
    assert kinds(play(nodes, lambda s: s.run("run", requests("x", "y")))) == ["ok", "ok"]
    assert nodes.groups[:2] == [("x", 1), ("y", 1)]
    assert ("x", 2) in nodes.groups


@pytest.mark.parametrize("placement", [Placement(workers_per_type=1), Placement(workers=1)])
def test_who_says_how_gpus_are_shared_gets_that(placement: Placement) -> None:
    nodes = GpuNodes()
    assert kinds(play(nodes, lambda s: s.run("run", requests("long")), placement)) == ["ok"]
    assert nodes.groups == [("long", 1)]


def test_cpus_are_never_shared_unasked() -> None:
    nodes = GpuNodes()
    nodes.resources = {"CPU": 16.0}
    assert kinds(play(nodes, lambda s: s.run("run", requests("long")))) == ["ok"]
    assert nodes.groups == [("long", 1)]


def test_what_a_group_of_our_choice_cannot_do_one_process_does() -> None:
    nodes = GpuNodes(lambda key, processes: Outcome("ok") if processes == "1" else broken("no room"))
    assert kinds(play(nodes, lambda s: s.run("run", requests("long")))) == ["ok"]
    assert nodes.groups == [("long", 1), ("long", 4), ("long", 1)]


def test_features_whose_process_dies_are_built_on_another_node_and_nobody_waits_for_ever() -> None:
    from ray.exceptions import WorkerCrashedError

    feature = FeatureRequest("f", "fan features", b"", on_driver=False)
    avoided: list[set[str]] = []

    class Dying(Nodes):
        async def build(
            self, feature: FeatureRequest, shape: WorkerShape, excluded: set[str], *, on_driver: bool
        ) -> Outcome:
            avoided.append(excluded)
            if "a" in excluded:
                return Outcome("ok", "b", "host b")
            if len(avoided) > 1:  # the first one dies before it says where it is
                assert self.scheduler is not None
                await self.scheduler.report(TaskStarted(feature.key, feature.label, "a", "host a"))
            raise WorkerCrashedError

    (outcome,) = play(Dying(ok), lambda s: s.run("run", requests("x", features=(feature,))))
    assert outcome.kind == "ok"
    assert avoided == [set(), set(), {"a"}]


def test_a_retry_whose_last_node_vanishes_goes_back_to_where_it_failed() -> None:
    """Ray would wait for a node that the selector admits, for ever."""
    faults = iter([True])
    nodes = Nodes(lambda key, node: broken() if next(faults, False) else Outcome("ok"), hosts=("a", "b"))

    async def story(scheduler: TrainingScheduler) -> list[Outcome]:
        nodes._busy.add("b")
        run = asyncio.ensure_future(scheduler.run("run", requests("x")))
        under_way = scheduler._attempts.under_way
        while not scheduler._nodes.health.records or not next(iter(under_way.values()), ((), ()))[1]:
            await asyncio.sleep(0.001)
        nodes.hosts.remove("b")
        return await run

    assert kinds(play(nodes, story)) == ["ok"]
    assert [node for _, node in nodes.attempts] == ["a", "a"]


class GpuNodesBesideAHead(Nodes):
    """Nodes of one GPU each, and a head of CPUs alone, which runs nothing that needs a GPU."""

    def nodes(self) -> list[dict[str, Any]]:
        gpu = {"CPU": 4.0, "GPU": 1.0}
        return [
            {"NodeID": host, "Alive": True, "Resources": {"CPU": 4.0} if host == "head" else gpu}
            for host in self.hosts
        ]

    async def train(
        self, entry: Entry, copies: list[bytes], shape: WorkerShape, excluded: set[str]
    ) -> Outcome:
        return await super().train(entry, copies, shape, excluded | ({"head"} if shape.gpus else set()))


def test_a_head_without_a_gpu_is_no_other_node_for_a_task_that_needs_one() -> None:
    """Ray would wait for ever for a node with a GPU that is not the only one there is."""
    faults = iter([True])
    nodes = GpuNodesBesideAHead(
        lambda key, node: broken() if next(faults, False) else Outcome("ok"), hosts=("head", "gpu")
    )
    assert kinds(play(nodes, lambda s: s.run("run", requests("x")))) == ["ok"]
    assert [node for _, node in nodes.attempts] == ["gpu", "gpu"]


def test_once_the_last_gpu_is_taken_out_nodes_of_cpus_go_on() -> None:
    nodes = GpuNodesBesideAHead(
        lambda key, node: broken() if node == "gpu" else Outcome("ok"), hosts=("head", "gpu")
    )
    assert kinds(play(nodes, lambda s: s.run("run", requests(*"abcdef"))))[3:] == ["ok"] * 3


def test_a_group_does_not_avoid_a_node_that_it_needs() -> None:
    """Ray Train would look ten minutes for room that the other nodes do not have."""
    excluded: list[set[str]] = []
    nodes = Nodes(lambda key, node: broken() if len(excluded) == 1 else Outcome("ok"), hosts=("a", "b"))
    train = nodes.train

    async def noted(entry: Entry, copies: list[bytes], shape: WorkerShape, without: set[str]) -> Outcome:
        excluded.append(without)
        return await train(entry, copies, shape, without)

    nodes.train = noted  # type: ignore[method-assign]
    nodes.resources = {"CPU": 4.0, "GPU": 1.0}
    assert kinds(play(nodes, lambda s: s.run("run", requests("x")), Placement(workers_per_type=2))) == ["ok"]
    assert excluded == [set(), set()]


def test_after_a_mistake_of_ours_the_other_tasks_go_on() -> None:
    nodes = Nodes(lambda key, node: Outcome("ok") if key == "b" else {}["no such key"], hosts=("a",))
    assert kinds(play(nodes, lambda s: s.run("run", requests(*"ab")))) == ["infrastructure", "ok"]


def test_features_whose_request_is_a_mistake_of_ours_fail_their_tasks_each_time() -> None:
    feature = FeatureRequest("f", "fan features", b"", on_driver=True)
    nodes = Nodes(lambda key, node: Outcome("ok") if key != "f" else {}["no such key"])

    async def story(scheduler: TrainingScheduler) -> list[Outcome]:
        wanted = requests("x", features=(feature,))
        return await scheduler.run("trial", wanted) + await scheduler.run("trial", wanted)

    assert kinds(play(nodes, story)) == ["infrastructure"] * 2


def test_nodes_that_were_taken_out_and_are_gone_do_not_end_the_run() -> None:
    nodes = Nodes(lambda key, node: broken() if node == "a" else Outcome("ok"), hosts=("a", "b"))

    async def story(scheduler: TrainingScheduler) -> list[Outcome]:
        await scheduler.run("run", requests(*"stuvw"))
        assert scheduler._nodes.health.quarantined == {"a"}
        nodes.hosts.clear()
        await asyncio.sleep(0.05)
        late = asyncio.ensure_future(scheduler.run("run", requests("late")))
        await asyncio.sleep(0.05)
        nodes.hosts.append("c")
        return await late

    assert kinds(play(nodes, story, may_grow=True)) == ["ok"]


def test_a_trial_that_needs_more_memory_than_any_node_has_takes_no_node_out() -> None:
    memory = replace(broken("CUDA out of memory"), is_memory=True)
    nodes = Nodes(lambda key, node: memory if key.startswith("large") else Outcome("ok"))

    async def story(scheduler: TrainingScheduler) -> tuple[list[Outcome], list[Outcome], set[str]]:
        trial = asyncio.ensure_future(scheduler.run("trial", requests(*(f"large{n}" for n in range(7)))))
        await asyncio.sleep(0)
        others = await scheduler.run("run", requests(*(f"k{n}" for n in range(20))))
        return await trial, others, scheduler._nodes.health.quarantined

    trial, others, quarantined = play(nodes, story)
    assert kinds(trial) == ["infrastructure"] * 7
    assert kinds(others) == ["ok"] * 20
    assert not quarantined


def test_nodes_where_tasks_died_that_die_everywhere_get_tasks_again() -> None:
    # of two nodes, one is out before any task has died the three times after which it is given up
    nodes = Nodes(lambda key, node: Outcome("death", message="killed"), hosts=("a", "b"))

    async def story(scheduler: TrainingScheduler) -> tuple[list[Any], dict[str, Any]]:
        await scheduler.run("run", requests(*(f"x{n}" for n in range(7))))
        return await scheduler.events(), await scheduler.status()

    events, status = play(nodes, story)
    notes = [event.message for event in events if isinstance(event, Note)]
    assert any("gets no more tasks" in note for note in notes)
    assert any("gets tasks again" in note for note in notes)
    assert [node["quarantined_unix_s"] for node in status["nodes"]] == [None] * 2


def test_what_failed_is_told_as_failed_whatever_is_known_of_it() -> None:
    feature = FeatureRequest("f", "fan features", b"", on_driver=True)
    nodes = Nodes(lambda key, node: Outcome("death", message="killed") if key == "f" else Outcome("ok"))

    async def story(scheduler: TrainingScheduler) -> list[Any]:
        await scheduler.run("run", requests("x", features=(feature,)))
        return [event for event in await scheduler.events() if isinstance(event, TaskFinished)]

    (finished,) = play(nodes, story)
    assert finished.failures == (Failure("task x", "killed", bad_input=False),)


def test_a_look_at_the_nodes_that_fails_is_not_the_last_one() -> None:
    looks = iter(range(1000))
    nodes = Nodes(ok, hosts=())
    listed = nodes.nodes

    def failing() -> list[dict[str, Any]]:
        if next(looks) == 1:
            raise ConnectionError("the head restarts")
        return listed()

    async def story(scheduler: TrainingScheduler) -> list[Outcome]:
        run = asyncio.ensure_future(scheduler.run("run", requests(*"ab")))
        await asyncio.sleep(0.1)
        nodes.hosts.append("late")
        await run
        return [Outcome("ok") for _ in range(scheduler._nodes.shape.capacity)]

    nodes.nodes = failing  # type: ignore[method-assign]
    assert len(play(nodes, story)) == 1


def test_a_task_that_fails_after_its_trial_was_pruned_is_not_tried_again() -> None:
    nodes = Nodes(lambda key, node: broken())

    async def story(scheduler: TrainingScheduler) -> list[Outcome]:
        trial = asyncio.ensure_future(scheduler.run("trial", requests("x")))
        while not nodes.attempts:
            await asyncio.sleep(0)
        await scheduler.release("trial")
        return await trial

    assert kinds(play(nodes, story)) == ["released"]
    assert len(nodes.attempts) == 1
