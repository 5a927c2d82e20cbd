"""One training step: for each update, losses, gradients, clipping, optimizer and scheduler.

Nothing here waits for the device: the means of losses and monitors stay there as tensors, and what is read of
them is read by :class:`~asdbench.engine.loss_sums.LossSums`, once for each point of the curve.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asdbench.engine.distributed import total_loss
from asdbench.engine.runtime import Runtime
from asdbench.engine.system_output import check_losses
from asdbench.system import ClipBatch, Stage, System, Update


@dataclass(frozen=True)
class TrainingStep:
    """A step that is to be taken.

    Attributes
    ----------
    stage : the stage that it belongs to
    batch : its rows, on the device
    place : its index in the stage
    length : number of steps of the stage
    done : steps that all stages have taken before it
    """

    stage: Stage
    batch: ClipBatch
    place: int
    length: int
    done: int

    @property
    def is_last(self) -> bool:
        """Whether the stage ends with it."""
        return self.place + 1 == self.length

    @property
    def progress(self) -> Tensor:
        """What ``forward`` is told, Float[Tensor, ""] on the device of the batch."""
        return torch.full((), self.place / self.length, device=self.batch.windows.device)


def mean_losses(
    system: System, model: nn.Module, batch: ClipBatch, update: str, progress: Tensor, runtime: Runtime
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what an update differentiates, and the means of its losses and monitors by name."""
    losses = model(batch, update, progress)
    check_losses(system, update, losses)
    return total_loss(losses, runtime)


def differentiate(
    system: System,
    model: nn.Module,
    update: str,
    step: TrainingStep,
    runtime: Runtime,
    *,
    losses: Callable[..., tuple[Tensor, dict[str, Tensor]]] = mean_losses,
) -> dict[str, Tensor]:
    """Add the gradients of an update to those that are there; return the means of losses and monitors.

    Parameters
    ----------
    system, step, runtime : as of :func:`take_step`
    model : what is called
    update : name of the update
    losses : :func:`mean_losses`, or what it is compiled to
    """
    with autocast(step.stage, runtime.device):
        total, means = losses(system, model, step.batch, update, step.progress, runtime)
    total.backward()  # type: ignore[no-untyped-call]
    return means


def take_step(
    system: System,
    models: Sequence[nn.Module],
    step: TrainingStep,
    runtime: Runtime,
    *,
    differentiate: Callable[
        [System, nn.Module, str, TrainingStep, Runtime], dict[str, Tensor]
    ] = differentiate,
) -> dict[str, Tensor]:
    """Take a step with all updates of its stage; return the means of losses and monitors by name.

    Parameters
    ----------
    system : the system that is trained
    models : what is called in each update: the system, or what distributes it
    step, runtime : what is to be done, and where
    differentiate : computes the gradients of each update, as :func:`differentiate` does
    """
    means: dict[str, Tensor] = {}
    for update, model in zip(step.stage.updates, models, strict=True):
        update.optimizer.zero_grad(set_to_none=True)
        means |= differentiate(system, model, update.name, step, runtime)
        apply_gradients(update)
    return means


def autocast(stage: Stage, device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which a stage's matrix products have the precision that it asks for."""
    bfloat16 = stage.precision == "bfloat16" or (stage.precision == "auto" and fast_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16) if bfloat16 else nullcontext()


def fast_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` is faster with bfloat16 matrices: GPUs, and CPUs with AMX or AVX512_BF16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpu = torch.cpu
    return device.type == "cpu" and (cpu._is_amx_tile_supported() or cpu._is_avx512_bf16_supported())


def apply_gradients(update: Update) -> None:
    """Clip the gradients of an update, then step its optimizer and scheduler, without waiting."""
    if update.gradient_clip is not None:
        parameters = [p for group in update.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, update.gradient_clip)
    update.optimizer.step()
    if update.scheduler is not None:
        update.scheduler.step()
