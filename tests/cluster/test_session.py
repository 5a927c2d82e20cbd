"""A run's scheduler on a Ray cluster of this machine: real tasks, their events, and its end."""

from collections.abc import Iterator

import pytest
import ray

from asdbench import registry
from asdbench.cluster.connection import Connection
from asdbench.cluster.messages import TaskRequest
from asdbench.cluster.placement import Placement
from asdbench.cluster.session import Session
from asdbench.cluster.tasks import WorkerContext
from asdbench.data.sets import catalog
from asdbench.driver.task_requests import RequestBuilder
from asdbench.engine.events import Event, FeatureProgress, TaskFinished, TaskReport, TaskStarted
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, TrainingTask, by_training
from asdbench.engine.run_record import RunStatus, save_run
from asdbench.errors import InfrastructureError
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


@pytest.fixture(scope="module")
def store(workspace: Workspace) -> JobStore:
    return JobStore.from_workspace(workspace)


@pytest.fixture(scope="module")
def session(workspace: Workspace, store: JobStore) -> Iterator[Session]:
    run = RunStatus.from_command("asdbench run baseline-mse")
    save_run(store.root, run)
    with Connection("local") as connection:
        context = WorkerContext(
            run.run_id, None, workspace, store.uri, connection.node_id, False, threads=1, checkpoint_epochs=1
        )
        with Session(context, Placement(), expected=None, may_grow=False) as session:
            yield session


@pytest.fixture(scope="module")
def tasks(workspace: Workspace) -> list[TrainingTask]:
    data = catalog.load(workspace, "tiny")
    configured = registry.configure("baseline-mse", SMALL)  # type: ignore[arg-type]
    jobs = [ResolvedJob.from_configured(configured, data, machine, seed=0) for machine in data.machine_types]
    return by_training(jobs)


def requests(tasks: list[TrainingTask]) -> list[TaskRequest]:
    builder = RequestBuilder(publishes=False)
    return [builder.request(task, (0, place)) for place, task in enumerate(tasks)]


def test_tasks_run_after_their_features_and_say_so(
    session: Session, tasks: list[TrainingTask], store: JobStore
) -> None:
    pending = session.submit("run", requests(tasks))
    events: list[Event] = []
    while not pending.wait(0.05):
        events += session.events()
    assert [outcome.kind for outcome in pending.outcomes()] == ["ok", "ok"]
    assert {outcome.node for outcome in pending.outcomes()} == {session.node}
    events += session.events()
    assert all(map(store.is_done, tasks))
    built = [e for e in events if isinstance(e, TaskReport) and isinstance(e.report, FeatureProgress)]
    started = [event for event in events if isinstance(event, TaskStarted)]
    assert events.index(built[0]) < events.index(started[0])
    finished = sorted(event.label for event in events if isinstance(event, TaskFinished))
    assert finished == ["fan baseline-mse seed 0", "valve baseline-mse seed 0"]
    status = session.status()
    assert (status["done"], status["waiting"], status["nodes"][0]["done"]) == (2, 0, 2)


def test_what_a_node_cannot_look_up_is_its_fault_and_not_the_users(
    session: Session, tasks: list[TrainingTask]
) -> None:
    (good, _) = requests(tasks)
    strange = TaskRequest("other", "other", "fan strange seed 0", ("strange",), (0.0,), b"no pickle")
    (outcome,) = session.submit("run", [strange]).outcomes()
    assert outcome.kind == "infrastructure"
    assert "fan strange seed 0 cannot run on" in outcome.message
    (again,) = session.submit("run", [good]).outcomes()  # what is stored is not trained again
    assert again.kind == "ok"


def test_a_storage_that_is_not_the_drivers_is_told(
    session: Session, tasks: list[TrainingTask], store: JobStore
) -> None:
    (fan, _) = requests(tasks)
    (name,) = store.root.names("runs", ".json")
    content = store.root.read(name)
    store.root.delete(name)
    (outcome,) = session.submit("run", [fan]).outcomes()
    store.root.write(name, content)
    assert outcome.kind == "infrastructure"
    assert "is not the driver's" in outcome.failures[0].message


def test_a_scheduler_that_has_ended_is_told_with_the_cure(session: Session) -> None:
    """Last, since it ends the session."""
    ray.kill(session.scheduler)
    with pytest.raises(InfrastructureError, match="run the same command again to resume"):
        session.events()
