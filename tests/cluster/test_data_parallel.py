"""Groups of processes on a Ray cluster of three nodes on this machine; Ray takes it that each has a GPU."""

import contextlib
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.train.v2.api.exceptions import WorkerGroupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from asdbench import registry
from asdbench.cluster.data_parallel import outcome_of_group, train_together
from asdbench.cluster.messages import Outcome, TaskRequest
from asdbench.cluster.placement import WorkerShape
from asdbench.cluster.tasks import WorkerContext
from asdbench.data.sets import catalog
from asdbench.engine import run_record
from asdbench.engine.events import Event, Note, TaskReport, TaskStarted, TrainingProgress
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, TrainingTask
from asdbench.engine.run_task import run_task
from asdbench.engine.runtime import Runtime
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.testing.conformance import threads
from asdbench.testing.tiny import write_tiny
from tests.cluster.played_hosts import FOR_TESTS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(800)]

SETTINGS = {"epochs": 40, "batch_size": 64, "hidden": 16, "learning_rate": 1e-5}
RUN = run_record.RunStatus.from_command("asdbench run baseline-mse --data tiny")
QUICK_CHECKS = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500}  # of nodes, by Ray
SHAPE = WorkerShape(cpus=1.0, gpus=1.0, threads=1, capacity=2)


def node_of_driver() -> str:
    return str(ray.get_runtime_context().get_node_id())


def on_driver() -> dict[str, Any]:
    """Return the options of what runs on the driver's node, without a CPU."""
    here = NodeAffinitySchedulingStrategy(node_of_driver(), soft=False)
    return {"num_cpus": 0, "scheduling_strategy": here}


class Scheduler:
    """Stands for the schedulers of runs: keeps what is reported, and lets every task go on."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def begin(self) -> None:
        """Begin a run."""
        self._events.clear()

    def report(self, event: Event) -> bool:
        self._events.append(event)
        return True

    def events(self) -> list[Event]:
        return self._events


@dataclass(frozen=True)
class Lab:
    """A cluster, a workspace with the tiny data set, and what starts groups, one at a time."""

    workspace: Workspace
    folder: Path
    cluster: Any
    scheduler: Any

    @property
    def driver(self) -> str:
        return node_of_driver()

    def task(self, **settings: Any) -> TrainingTask:
        data = catalog.load(self.workspace, "tiny")
        system = registry.configure("baseline-mse", SETTINGS | settings)
        return TrainingTask((ResolvedJob.from_configured(system, data, "fan", seed=0),))

    def store(self, name: str) -> JobStore:
        store = JobStore(Storage.from_location(self.folder / name))
        run_record.save_run(store.root, RUN)
        return store

    def start(self, task: TrainingTask, store: JobStore, **options: Any) -> "Group":
        ray.get(self.scheduler.begin.remote())
        context = WorkerContext(
            RUN.run_id, self.scheduler, self.workspace, store.uri, self.driver, False, 1, 1
        )
        jobs = pickle.dumps([(each.job, each.keys) for each in task.jobs])
        request = TaskRequest(task.key, task.first.training_key, task.label, task.systems, (), jobs)
        together: Any = ray.remote(**on_driver(), max_retries=0)(train_together)
        size = options.pop("size", 2)
        return Group(self.scheduler, together.remote(request, [], size, SHAPE, context, **options))


@dataclass(frozen=True)
class Group:
    """A group that trains."""

    scheduler: Any
    outcome: Any

    def end(self) -> Outcome:
        outcome: Outcome = ray.get(self.outcome, timeout=500)
        return outcome

    def reports(self) -> list[Event]:
        events: list[Event] = ray.get(self.scheduler.events.remote())
        return events


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("groups")
    workspace = Workspace(folder / "home", Storage.from_location(folder / "home"))
    catalog.add(workspace, "tiny", write_tiny(folder / "clips", machine_types=["fan"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "6")  # inherited by all workers
        node: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1}
        head = {**node, "include_dashboard": False, "_system_config": FOR_TESTS | QUICK_CHECKS}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False)
        try:
            scheduler: Any = ray.remote(**on_driver())(Scheduler)
            yield Lab(workspace, folder, cluster, scheduler.remote())
        finally:
            ray.shutdown()
            cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def alone(lab: Lab) -> JobStore:
    """The results of one process."""
    store = lab.store("alone")
    with threads(1):
        assert not run_task(lab.task(), Runtime(), store)
    return store


def until(condition: Callable[[], bool], seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def wait_for_checkpoint(task: TrainingTask, store: JobStore) -> None:
    name = f"{store.training(task.first.training_key)}/checkpoint.pt"
    until(lambda: store.root.exists(name))


def processes(name: str) -> list[psutil.Process]:
    """Return this cluster's processes whose title begins with ``name``."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(name):
                found.append(process)
    return found


def free_gpus() -> float:
    available: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return available.get("GPU", 0.0)


def trained_steps(group: Group) -> list[list[int]]:
    """Return the reported steps of each start of a group."""
    starts: list[list[int]] = []
    for event in group.reports():
        if isinstance(event, TaskStarted):
            starts.append([])
        elif isinstance(event, TaskReport) and isinstance(event.report, TrainingProgress):
            starts[-1].append(event.report.step)
    return starts


def assert_equal_scores(store: JobStore, alone: JobStore, task: TrainingTask) -> None:
    """Rounding differs with the number of processes, and Adam makes it grow: docs/decisions/0006."""
    ours, theirs = (each.components(task.first.scoring_key) for each in (store, alone))
    assert ours["clip_id"].equals(theirs["clip_id"])
    for name in set(ours.columns) - {"clip_id", "use"}:
        assert ours[name].to_list() == pytest.approx(theirs[name].to_list(), rel=1e-3), name


def test_a_group_over_two_nodes_whose_process_is_killed_resumes(lab: Lab, alone: JobStore) -> None:
    task, store = lab.task(), lab.store("killed")
    group = lab.start(task, store, avoid=[lab.driver])
    until(lambda: len(processes("ray::RayTrainWorker")) == 2)
    victim, _ = processes("ray::RayTrainWorker")
    wait_for_checkpoint(task, store)
    victim.kill()
    outcome = group.end()
    assert outcome.kind == "ok", outcome
    assert outcome.node not in ("", lab.driver)
    first, second = trained_steps(group)
    assert second[0] > first[0]
    assert second[-1] == first[0] * SETTINGS["epochs"]
    assert store.training_record(task.first.training_key).processes == 2
    assert_equal_scores(store, alone, task)
    assert not store.root.exists(f"ray/{task.first.training_key}")


def test_settings_that_diverge_are_the_users_fault_and_not_tried_again(lab: Lab) -> None:
    group = lab.start(lab.task(learning_rate=1e18), lab.store("diverged"))
    outcome = group.end()
    assert outcome.kind == "user", outcome
    assert "training diverged" in outcome.failures[0].message
    assert outcome.failures[0].bad_input
    assert outcome.failures[0].label == "fan baseline-mse seed 0"
    assert outcome.host
    assert len(trained_steps(group)) == 1


def test_an_elastic_group_goes_on_with_fewer_processes_when_a_node_is_lost(lab: Lab, alone: JobStore) -> None:
    task, store = lab.task(), lab.store("elastic")
    group = lab.start(task, store, elastic=True, avoid=[lab.driver])
    wait_for_checkpoint(task, store)
    lab.cluster.remove_node(next(iter(lab.cluster.worker_nodes)), allow_graceful=False)
    outcome = group.end()
    assert outcome.kind == "ok", outcome
    notes = [event.report for event in group.reports() if isinstance(event, TaskReport)]
    assert Note("the cluster has no room for all processes; the training continues with 1") in notes
    first, second = trained_steps(group)
    assert second[0] > first[0]
    assert store.training_record(task.first.training_key).processes == 1
    assert_equal_scores(store, alone, task)


def test_a_group_whose_owner_is_killed_frees_its_gpus(lab: Lab) -> None:
    """Ray alone keeps the placement group until the driver ends."""
    total = ray.cluster_resources()["GPU"]  # type: ignore[no-untyped-call]
    until(lambda: free_gpus() == total)
    group = lab.start(lab.task(epochs=4000), lab.store("orphaned"), size=1)
    until(lambda: any(trained_steps(group)))
    until(lambda: free_gpus() == total - 1)
    for process in processes("ray::train_together"):
        process.kill()
    until(lambda: free_gpus() == total)
    until(lambda: not processes("ray::GroupGuard"))


LOST = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234")


@pytest.mark.parametrize(
    ("errors", "kind", "cause"),
    [
        ({0: LOST, 1: ValueError("shapes differ")}, "user", "shapes differ"),
        ({0: OSError(5, "Input/output error"), 1: LOST}, "infrastructure", "Input/output error"),
        ({1: LOST}, "death", "closed by peer"),
    ],
)
def test_the_error_of_the_process_that_began_it_is_that_of_the_group(
    errors: dict[int, Exception], kind: str, cause: str
) -> None:
    text = "; ".join(map(str, errors.values()))
    outcome = outcome_of_group("fan baseline-mse seed 0", WorkerGroupError(text, errors))
    assert outcome.kind == kind
    assert cause in outcome.message
    assert [failure.label for failure in outcome.failures] == ["fan baseline-mse seed 0"] * (kind != "death")
