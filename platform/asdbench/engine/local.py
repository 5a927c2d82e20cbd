"""Do works one after another in this process, without Ray."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from asdbench.engine.events import Event, Failure
from asdbench.engine.execute import execute
from asdbench.engine.jobs import JobStore, Work
from asdbench.engine.runtime import Runtime


def run_local(
    works: Sequence[Work], store: JobStore, *, checkpoint_epochs: int, on_event: Callable[[Event], None]
) -> list[Failure]:
    """Do ``works`` in order, on the GPU if there is one; a failed one does not stop the others."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    failures = []
    for index, work in enumerate(works):
        runtime = Runtime(device=device, report=partial(_tell, on_event, index))
        try:
            failed = execute(work, runtime, store, checkpoint_epochs=checkpoint_epochs)
        except Exception as error:
            failures.append(Failure.of(index, work.systems, error))
        else:
            failures += [Failure.of(index, (prepared.job.system,), error) for prepared, error in failed]
        on_event({"work": index, "done": True})
    return failures


def _tell(on_event: Callable[[Event], None], index: int, event: Event) -> None:
    on_event({"work": index, **event})
