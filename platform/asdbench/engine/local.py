"""Do works one after another in this process, without Ray."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from asdbench.engine.events import Event, Failure
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import TrainingTask
from asdbench.engine.run_task import execute
from asdbench.engine.runtime import Runtime


def run_local(
    tasks: Sequence[TrainingTask],
    store: JobStore,
    *,
    checkpoint_epochs: int,
    on_event: Callable[[Event], None],
) -> list[Failure]:
    """Do ``tasks`` in order, on the GPU if there is one; a failed one does not stop the others."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    failures = []
    for index, task in enumerate(tasks):
        runtime = Runtime(device=device, report=partial(_tell, on_event, index))
        try:
            failed = execute(task, runtime, store, checkpoint_epochs=checkpoint_epochs)
        except Exception as error:
            failures.append(Failure.from_error(index, task.systems, error))
        else:
            failures += [
                Failure.from_error(index, (resolved.job.system,), error) for resolved, error in failed
            ]
        on_event({"work": index, "done": True})
    return failures


def _tell(on_event: Callable[[Event], None], index: int, event: Event) -> None:
    on_event({"work": index, **event})
