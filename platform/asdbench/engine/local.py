"""Do works one after another in this process, without Ray."""

import traceback
from collections.abc import Callable, Sequence
from functools import partial

import torch

from asdbench.engine.events import Event, Failure
from asdbench.engine.execute import execute
from asdbench.engine.jobs import JobStore, Work
from asdbench.engine.runtime import Runtime
from asdbench.errors import InputError


def run_local(
    works: Sequence[Work], store: JobStore, *, checkpoint_epochs: int, on_event: Callable[[Event], None]
) -> list[Failure]:
    """Do ``works`` in order, on the GPU if there is one; a failed one does not stop the others."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    failures = []
    for index, work in enumerate(works):
        runtime = Runtime(device=device, report=partial(_tell, on_event, index))
        try:
            execute(work, runtime, store, checkpoint_epochs=checkpoint_epochs)
        except Exception as error:
            failures.append(failure_of(index, error))
        else:
            on_event({"work": index, "done": True})
    return failures


def _tell(on_event: Callable[[Event], None], index: int, event: Event) -> None:
    on_event({"work": index, **event})


def failure_of(index: int, error: Exception) -> Failure:
    """Return the failure that ``error``, which is being handled, means for work ``index``."""
    if isinstance(error, InputError):
        return Failure(index, str(error), bad_input=True)
    return Failure(index, "".join(traceback.format_exception(error)).rstrip(), bad_input=False)
