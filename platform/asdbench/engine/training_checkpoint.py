"""The state of an interrupted training, and how it is taken up again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypedDict

import msgspec
import torch

from asdbench.engine.pretrained import trained_state
from asdbench.engine.state import load_whole
from asdbench.engine.task_records import CurvePoint
from asdbench.system import Stage, System


class Checkpoint(TypedDict):
    """The state of a training: tensors and plain values."""

    system: dict[str, torch.Tensor]
    optimizers: list[dict[str, object]]
    schedulers: list[dict[str, object]]
    stage: int
    step: int
    seconds: float
    curve: list[dict[str, object]]
    pseudo_labels: dict[int, torch.Tensor]  # by the index of the stage


@dataclass
class Reached:
    """How far a training has come.

    Attributes
    ----------
    stage, step : index of the stage, and the steps that are done in it
    seconds : spent, over interruptions
    curve : of all stages so far
    pseudo_labels : Long[Tensor, "clip"] of each stage that has begun and has some, by its index
    """

    stage: int = 0
    step: int = 0
    seconds: float = 0.0
    curve: list[CurvePoint] = field(default_factory=list)
    pseudo_labels: dict[int, torch.Tensor] = field(default_factory=dict)


class _Stateful(Protocol):
    """An optimizer or a scheduler."""

    def state_dict(self) -> dict[str, object]: ...

    def load_state_dict(self, state_dict: dict[str, object]) -> None: ...


def checkpoint_of(system: System, stages: Sequence[Stage], reached: Reached) -> Checkpoint:
    """Return the state of a training."""
    optimizers, schedulers = _optimizers(stages)
    return {
        "system": {name: _own(value) for name, value in trained_state(system).items()},
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "schedulers": [scheduler.state_dict() for scheduler in schedulers],
        "stage": reached.stage,
        "step": reached.step,
        "seconds": reached.seconds,
        "curve": msgspec.to_builtins(reached.curve),
        "pseudo_labels": reached.pseudo_labels,
    }


def load_checkpoint(system: System, stages: Sequence[Stage], saved: Checkpoint) -> Reached:
    """Load the state of a training into a system and its optimizers; return how far it had come."""
    load_whole(system, saved["system"])
    saved_states = (saved["optimizers"], saved["schedulers"])
    for parts, states in zip(_optimizers(stages), saved_states, strict=True):
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)
    lay_out_states(stages)
    curve = msgspec.convert(saved["curve"], list[CurvePoint])
    return Reached(saved["stage"], saved["step"], saved["seconds"], curve, dict(saved["pseudo_labels"]))


def lay_out_states(stages: Sequence[Stage]) -> None:
    """Give what optimizers remember of a parameter the order of memory that the parameter has.

    Fused optimizers compute in that order. A stack of systems may have another one than a system alone.
    """
    for update in (update for stage in stages for update in stage.updates):
        for parameter, state in update.optimizer.state.items():
            for name, value in state.items():
                is_like = isinstance(value, torch.Tensor) and value.shape == parameter.shape
                if is_like and value.stride() != parameter.stride():
                    state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _own(value: torch.Tensor) -> torch.Tensor:
    """Return a tensor that is all of its memory: of a view, as in a stack of systems, all would be saved."""
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()


def _optimizers(stages: Sequence[Stage]) -> tuple[list[_Stateful], list[_Stateful]]:
    """Return the optimizers and schedulers of all stages, each once, in order."""
    updates = [update for stage in stages for update in stage.updates]
    optimizers: dict[int, _Stateful] = {id(update.optimizer): update.optimizer for update in updates}
    schedulers: dict[int, _Stateful] = {
        id(update.scheduler): update.scheduler for update in updates if update.scheduler
    }
    return list(optimizers.values()), list(schedulers.values())
