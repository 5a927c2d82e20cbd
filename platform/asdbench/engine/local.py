"""Runs tasks one after another in this process, without Ray, each in a thread that cannot read labels."""

from collections.abc import Callable, Sequence

import torch

from asdbench.config import Compile
from asdbench.engine.events import Event, Failure, Report, TaskFinished, TaskReport
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import TrainingTask, job_label
from asdbench.engine.run_task import run_isolated_task
from asdbench.engine.runtime import Runtime
from asdbench.io.storage import Storage


def run_local(
    tasks: Sequence[TrainingTask],
    store: JobStore,
    *,
    checkpoint_epochs: int,
    on_event: Callable[[Event], None],
    compile: Compile = "auto",
) -> list[Failure]:
    """Run ``tasks`` in order, on the GPU if there is one; a failed task does not stop the others."""
    store = JobStore(Storage(store.uri))  # tasks report how they wait
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    failures = []
    for task in tasks:
        failed = _run(task, store, device, checkpoint_epochs, compile, on_event)
        failures += failed
        on_event(TaskFinished(task.key, task.label, tuple(failed)))
    return failures


def _run(
    task: TrainingTask,
    store: JobStore,
    device: torch.device,
    checkpoint_epochs: int,
    compile: Compile,
    on_event: Callable[[Event], None],
) -> list[Failure]:
    def report(event: Report) -> None:
        on_event(TaskReport(task.key, task.label, event))

    try:
        failed = run_isolated_task(
            task,
            Runtime(device=device, report=report, compile=compile),
            store,
            checkpoint_epochs=checkpoint_epochs,
        )
    except Exception as error:
        return [Failure.from_error(task.scored_label, error)]
    return [Failure.from_error(job_label(resolved.job), error) for resolved, error in failed]
