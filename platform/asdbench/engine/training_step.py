"""One training step: for each update, losses, gradients, clipping, optimizer and scheduler.

Nothing here waits for the device: the means of losses and monitors stay there as tensors, and what is read of
them is read by :class:`~asdbench.engine.loss_sums.LossSums`, once for each point of the curve.
"""

from collections.abc import Sequence
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


def take_step(
    system: System, models: Sequence[nn.Module], step: TrainingStep, runtime: Runtime
) -> dict[str, Tensor]:
    """Take a step with all updates of its stage; return the means of losses and monitors by name.

    Parameters
    ----------
    system : the system that is trained
    models : what is called in each update: the system, or what distributes it
    step, runtime : what is to be done, and where
    """
    means: dict[str, Tensor] = {}
    for update, model in zip(step.stage.updates, models, strict=True):
        update.optimizer.zero_grad(set_to_none=True)
        with autocast(step.stage, runtime.device):
            losses = model(step.batch, update.name, step.progress)
        check_losses(system, update.name, losses)
        total, parts = total_loss(losses, runtime)
        total.backward()  # type: ignore[no-untyped-call]
        apply_gradients(update)
        means |= parts
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
