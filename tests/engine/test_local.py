"""Tasks in this process: order, progress, and failures that stop no other task."""

from pathlib import Path

import pytest

from asdbench.data.sets import catalog
from asdbench.engine.events import Event, TaskFinished, TaskReport, TrainingProgress
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, TrainingTask
from asdbench.engine.local import run_local
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace


@pytest.fixture
def tasks(scored: Path) -> list[TrainingTask]:
    data = catalog.load(Workspace.from_environment(), "tiny")
    settings = {"epochs": 2, "hidden": 8, "frames": 2, "n_mels": 16}
    return [
        TrainingTask((ResolvedJob.from_job(Job("baseline-mse", settings | more, "tiny", "fan", 0), data),))
        for more in ({"learning_rate": 1e30}, {})
    ]


def test_a_failed_task_stops_no_other(tasks: list[TrainingTask], tmp_path: Path) -> None:
    store, events = JobStore(Storage.from_location(tmp_path)), list[Event]()
    [failure] = run_local(tasks, store, checkpoint_epochs=1, on_event=events.append)
    assert (failure.label, failure.bad_input) == ("fan baseline-mse seed 0", True)
    assert "training diverged" in failure.message
    assert [store.is_done(task) for task in tasks] == [False, True]
    assert [event for event in events if isinstance(event, TaskFinished)] == [
        TaskFinished(tasks[0].key, "fan baseline-mse seed 0", (failure,)),
        TaskFinished(tasks[1].key, "fan baseline-mse seed 0"),
    ]
    epochs = [
        event.report.epoch
        for event in events
        if isinstance(event, TaskReport)
        and event.task == tasks[1].key
        and isinstance(event.report, TrainingProgress)
    ]
    assert epochs == [1, 2]
