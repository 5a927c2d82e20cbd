"""Training steps that are compiled: one graph of forward, losses and backward for each update of a stage.

On a GPU small models take as long as it takes to launch their kernels. `torch.compile` fuses them, and its
CUDA graphs launch them all at once. A step that cannot be compiled as one graph runs as it is written.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from asdbench.engine.runtime import Runtime
from asdbench.engine.training_step import TrainingStep, differentiate, mean_losses
from asdbench.system import System

logger = logging.getLogger(__name__)

_REASON = 160  # characters of a compiler's message that are logged


class StepCompiler:
    """Computes the gradients of updates, compiled where the runtime says so and as long as that works.

    Batches of another size than a stage's first one, such as the last of an epoch, are not compiled.

    Parameters
    ----------
    runtime : where, and whether steps are compiled

    Attributes
    ----------
    is_on : whether steps are compiled; false from the first one that cannot be
    """

    def __init__(self, runtime: Runtime) -> None:
        self.is_on = runtime.compiles
        mode = "reduce-overhead" if runtime.device.type == "cuda" else None  # the mode with CUDA graphs
        self._losses = torch.compile(mean_losses, fullgraph=True, dynamic=False, mode=mode)
        self._rows: dict[tuple[str, str], int] = {}  # of the batches for which an update is compiled

    def __enter__(self) -> Self:
        if self.is_on and not _reads_what_it_makes():
            self.is_on = False
            logger.warning(
                "training is not compiled: a compiler cannot read what it makes in the temporary folder %s, "
                "which holds the data home; set TMPDIR or ASDBENCH_HOME to another folder",
                tempfile.gettempdir(),
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._rows:
            torch.compiler.reset()  # frees its memory; another training's system would compile again anyway

    def differentiate(
        self, system: System, model: nn.Module, update: str, step: TrainingStep, runtime: Runtime
    ) -> dict[str, Tensor]:
        """Do what :func:`asdbench.engine.training_step.differentiate` does."""
        key, rows = (step.stage.name, update), len(step.batch.windows)
        if not self.is_on or self._rows.get(key, rows) != rows:
            return differentiate(system, model, update, step, runtime)
        if key in self._rows:
            return self._by_graph(system, model, update, step, runtime)
        self._rows[key] = rows
        return self._tried(system, model, update, step, runtime)

    def _by_graph(
        self, system: System, model: nn.Module, update: str, step: TrainingStep, runtime: Runtime
    ) -> dict[str, Tensor]:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        means = differentiate(system, model, update, step, runtime, losses=self._losses)
        copies = torch.stack(list(means.values()))  # the next step reuses the memory of this one's results
        return dict(zip(means, copies.unbind(), strict=True))

    def _tried(
        self, system: System, model: nn.Module, update: str, step: TrainingStep, runtime: Runtime
    ) -> dict[str, Tensor]:
        """Compile an update; if that fails, compute it again as it is written, and so from here on."""
        buffers = [(buffer, buffer.clone()) for buffer in system.buffers()]
        random_state = torch.get_rng_state()
        try:
            return self._by_graph(system, model, update, step, runtime)
        except Exception as error:
            self.is_on = False
            logger.warning("%s is trained without compilation: %s", type(system).__name__, _reason(error))
        system.zero_grad(set_to_none=True)
        torch.set_rng_state(random_state)
        for buffer, value in buffers:
            buffer.detach().copy_(value)
        return differentiate(system, model, update, step, runtime)


def _reads_what_it_makes() -> bool:
    """Whether this thread can list a new temporary folder; see :mod:`asdbench.engine.landlock`."""
    folder = Path(tempfile.mkdtemp(prefix="asdbench-"))
    try:
        return list(folder.iterdir()) == []
    except PermissionError:
        return False
    finally:
        folder.rmdir()


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:_REASON]


@contextmanager
def fast_products(device: torch.device) -> Iterator[None]:
    """Let a GPU compute float32 products with TF32 within the block: 10 bits of mantissa, float32 sums.

    Examples
    --------
    >>> with fast_products(torch.device("cuda")):
    ...     torch.get_float32_matmul_precision()
    'high'
    >>> torch.get_float32_matmul_precision()
    'highest'
    """
    before, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = cudnn
