"""Several trainings on one GPU of a Ray cluster; Ray is told of the GPU, and the tasks run on CPUs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import ray

from asdbench import registry
from asdbench.cluster.connection import Connection
from asdbench.cluster.messages import Outcome, TaskRequest
from asdbench.cluster.placement import Placement
from asdbench.cluster.session import Session
from asdbench.cluster.tasks import WorkerContext
from asdbench.data.sets import catalog
from asdbench.driver.task_requests import RequestBuilder
from asdbench.engine.events import Event, Note, TaskFinished, TaskStarted
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, TrainingTask, by_training
from asdbench.engine.local import run_local
from asdbench.engine.run_record import RunStatus, save_run
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.testing.tiny import write_tiny

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SMALL = {"epochs": 2, "hidden": 8, "n_mels": 16, "frames": 2}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    home = Workspace.from_home(tmp_path_factory.mktemp("home"))
    recordings = write_tiny(tmp_path_factory.mktemp("recordings"), test_clips_per_cell=4)
    catalog.add(home, "tiny", recordings)
    return home


@pytest.fixture(scope="module", autouse=True)
def gpu() -> Iterator[None]:
    """A cluster of one node that is said to have a GPU."""
    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def tasks_of(workspace: Workspace, *seeds: int, **settings: float) -> list[TrainingTask]:
    data = catalog.load(workspace, "tiny")
    configured = registry.configure("baseline-mse", {**SMALL, **settings})  # type: ignore[arg-type]
    return by_training(
        ResolvedJob.from_configured(configured, data, machine_type, seed=seed)
        for machine_type in data.machine_types
        for seed in seeds
    )


def requests(tasks: list[TrainingTask]) -> list[TaskRequest]:
    builder = RequestBuilder(publishes=False, stacks=True)
    return [builder.request(task, (0, place)) for place, task in enumerate(tasks)]


def run(
    workspace: Workspace, store: JobStore, wanted: list[TaskRequest], placement: Placement
) -> tuple[list[Outcome], list[Event]]:
    """Run tasks on the GPU; return how they ended and what happened."""
    record = RunStatus.from_command("asdbench run baseline-mse")
    save_run(store.root, record)
    with Connection("local") as connection:
        context = WorkerContext(
            record.run_id,
            None,
            workspace,
            store.uri,
            connection.node_id,
            False,
            threads=1,
            checkpoint_epochs=1,
        )
        with Session(context, placement, expected=None, may_grow=False) as session:
            outcomes = session.submit("run", wanted).outcomes()
            return outcomes, session.events()


def most_at_a_time(events: list[Event]) -> int:
    """Return how many tasks ran at the same time."""
    running: set[str] = set()
    most = 0
    for event in events:
        if isinstance(event, TaskStarted):
            running.add(event.task)
        elif isinstance(event, TaskFinished):
            running.discard(event.task)
        most = max(most, len(running))
    return most


def scores(store: JobStore, task: TrainingTask) -> pl.DataFrame:
    path = f"{store.scores(task.first.scoring_key)}/components.parquet"
    return pl.read_parquet(store.root.read(path)).sort("clip_id", "use")


def a_store(folder: Path) -> JobStore:
    return JobStore(Storage.from_location(folder))


def test_types_and_seeds_train_as_one_stack_and_score_as_they_do_alone(
    workspace: Workspace, tmp_path: Path
) -> None:
    tasks = tasks_of(workspace, 0, 1, 2)
    store, alone = a_store(tmp_path / "stacked"), a_store(tmp_path / "alone")
    assert not run_local(tasks, alone, checkpoint_epochs=1, on_event=lambda event: None)
    outcomes, events = run(workspace, store, requests(tasks), Placement())
    assert [outcome.kind for outcome in outcomes] == ["ok"] * 6
    assert most_at_a_time(events) == 6  # on a GPU that is whole: in one process
    for task in tasks:
        ours, theirs = scores(store, task), scores(alone, task)
        for column in ours.columns:
            if ours[column].dtype.is_float():
                assert ours[column].to_list() == pytest.approx(theirs[column].to_list(), rel=1e-3)
            else:
                assert ours[column].equals(theirs[column])


def test_one_task_of_a_stack_fails_alone(workspace: Workspace, tmp_path: Path) -> None:
    store = a_store(tmp_path)
    diverging = tasks_of(workspace, 3, learning_rate=1e30)[:1]
    good = tasks_of(workspace, 4)
    wanted = [replace(request, stack="same") for request in requests([*good[:1], *diverging, *good[1:]])]
    outcomes, events = run(workspace, store, wanted, Placement())
    assert [outcome.kind for outcome in outcomes] == ["ok", "user", "ok"]
    assert "training diverged" in outcomes[1].failures[0].message
    assert most_at_a_time(events) == 3
    assert [store.is_done(task) for task in (*good, *diverging)] == [True, True, False]
    assert not [event for event in events if isinstance(event, Note)]
