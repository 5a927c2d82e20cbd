"""The training loop, written once for every system, device and number of processes.

The last epoch's model is the result: choosing an earlier one would need scores that training must not see.

Randomness is keyed by (seed, step): the loop seeds torch before every step and the loader keys its draws the
same way, so that a training that resumes from a checkpoint takes the same steps as one without interruption.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol, TypedDict

import msgspec
import torch
from torch import nn

from asdbench.data.loader import JobData
from asdbench.engine.distributed import distribute, total_loss
from asdbench.engine.events import TrainingProgress
from asdbench.engine.pretrained import trained_state
from asdbench.engine.runtime import Runtime
from asdbench.engine.state import load_whole
from asdbench.engine.system_output import check_finite, check_losses, check_stages, checked_labels
from asdbench.engine.task_records import CurvePoint
from asdbench.errors import InputError
from asdbench.system import ClipBatch, Stage, System

logger = logging.getLogger(__name__)

_MOST_POINTS = 200  # of a stage's curve; a small machine type has an epoch of one step
_SAVING_SHARE = 0.05  # of the time, at most, is spent on checkpoints
_AHEAD = 2  # batches that are made before a GPU asks for them
_INITIAL, _BACK_END = -1, -2  # keys of the random states of initial weights and of the back end's fit
_PSEUDO_LABELS = -3  # that of the first stage's pseudo-labels; later ones are below


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


class _Stateful(Protocol):
    """An optimizer or a scheduler."""

    def state_dict(self) -> dict[str, object]: ...

    def load_state_dict(self, state_dict: dict[str, object]) -> None: ...


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training took, and its losses.

    Attributes
    ----------
    steps, seconds : spent, over interruptions
    curve : mean losses and monitors per epoch, or per several epochs where a stage has more than 200
    validation : mean losses over the windows that training left out; ``None`` if the batch plan leaves out
        none, and except in the process of rank 0
    """

    steps: int
    seconds: float
    curve: tuple[CurvePoint, ...]
    validation: dict[str, float] | None


def seed_torch(seed: int, step: int, *, rank: int = 0) -> None:
    """Seed torch's generators for one step of one process."""
    mixed = (seed * 1_000_003 + step) * 65_537 + rank
    torch.default_generator.manual_seed(mixed % 2**63)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(mixed % 2**63)


def seed_initial_weights(seed: int) -> None:
    """Seed torch's generators for the construction of a system."""
    seed_torch(seed, _INITIAL)


def seed_back_end(seed: int) -> None:
    """Seed torch's generators for a back end's fit: the same after a training and after loading one."""
    seed_torch(seed, _BACK_END)


def train(
    system: System,
    data: JobData,
    runtime: Runtime,
    *,
    seed: int,
    checkpoint: Callable[[Checkpoint], object] | None = None,
    resume: Checkpoint | None = None,
    checkpoint_epochs: int = 5,
) -> TrainingOutcome:
    """Train ``system`` in place through all its stages.

    Parameters
    ----------
    system : with its initial weights, on ``runtime.device``
    data : the job's clips
    runtime : where this runs, and the processes that share the task
    seed : of everything random in training
    checkpoint : called with the state of the training (tensors and plain values) every ``checkpoint_epochs``
        epochs, less often if that would take more than a twentieth of the time
    resume : an earlier state to resume from
    checkpoint_epochs : epochs between checkpoints

    Returns
    -------
    TrainingOutcome

    Raises
    ------
    InputError : a loss is not finite, ``forward`` returns something else than losses, or the system lacks
        what its stages need
    """
    stages = list(system.stages(data.steps_per_epoch))
    check_stages(system, stages, data.input_spec)
    drawn = [data.with_plan(stage.plan) for stage in stages]
    model = distribute(system, runtime, several_updates=sum(len(stage.updates) for stage in stages) > 1)
    first_stage, first_step, seconds, curve = _resume(system, stages, resume)
    labels = dict(resume["pseudo_labels"]) if resume is not None else {}
    lengths = [_steps(stage, clips.steps_per_epoch) for stage, clips in zip(stages, drawn, strict=True)]
    began = time.perf_counter() - seconds
    saved_at, saving = began, 0.0
    done = sum(lengths[:first_stage]) + first_step
    system.train()
    for index in range(first_stage, len(stages)):
        stage, length, steps_per_epoch = stages[index], lengths[index], drawn[index].steps_per_epoch
        if stage.pseudo_labels:
            if index not in labels:
                labels[index] = _pseudo_labels(system, drawn[index], runtime, seed=seed, stage=index)
            drawn[index] = drawn[index].with_pseudo_labels(labels[index].numpy())
        reported = steps_per_epoch * -(-length // (steps_per_epoch * _MOST_POINTS))
        logger.debug("stage %r: steps %d to %d", stage.name, first_step + 1, length)
        running: dict[str, torch.Tensor] = {}
        since, saved_epoch = 0, first_step // steps_per_epoch
        batches = _batches(drawn[index], range(done, done + length - first_step), runtime)
        for step, batch in zip(range(first_step, length), batches, strict=True):
            seed_torch(seed, done, rank=runtime.rank)
            means = _step(system, model, stage, batch, step / length, runtime)
            if step == 0:
                check_finite(system, stage.name, means)
            for name, value in means.items():
                running[name] = running[name] + value if name in running else value
            done += 1
            since += 1
            if (step + 1) % reported and step + 1 < length:
                continue
            losses = {name: float(value) / since for name, value in running.items()}
            running, since = {}, 0
            epoch = -(-(step + 1) // steps_per_epoch)
            if not all(map(math.isfinite, losses.values())):
                raise InputError(
                    f"training diverged: in epoch {epoch} of stage {stage.name!r} the losses are {losses}; "
                    f"try a lower learning rate"
                )
            curve.append(CurvePoint(stage.name, epoch, losses))
            if runtime.is_rank_zero:
                runtime.report(TrainingProgress(done, sum(lengths), epoch, losses))
                last = index == len(stages) - 1 and step + 1 == length
                due = epoch - saved_epoch >= checkpoint_epochs
                due = due and time.perf_counter() - saved_at > saving / _SAVING_SHARE
                if checkpoint is not None and not last and due:
                    saving = -time.perf_counter()
                    spent_s = time.perf_counter() - began
                    checkpoint(_state(system, stages, index, step + 1, spent_s, curve, labels))
                    saved_epoch, saved_at = epoch, time.perf_counter()
                    saving += saved_at
        first_step = 0
    seconds = time.perf_counter() - began
    validation = None
    if runtime.is_rank_zero and data.plan.validation_share and stages:
        validation = _validation(system, data, stages[-1], runtime)
    return TrainingOutcome(done, seconds, tuple(curve), validation)


def _pseudo_labels(system: System, data: JobData, runtime: Runtime, *, seed: int, stage: int) -> torch.Tensor:
    """Return the labels that a system gives the training clips, Long[Tensor, "clip"]: those of rank 0."""
    labels: torch.Tensor | None = None
    failure: Exception | None = None
    if runtime.is_rank_zero:
        seed_torch(seed, _PSEUDO_LABELS - stage)
        system.eval()
        try:
            with torch.no_grad():
                batches = (batch.to(runtime.device) for batch in data.pseudo_label_batches())
                labels = checked_labels(system, system.pseudo_labels(batches))
        except Exception as error:
            failure = error
        system.train()
    labels, failure = runtime.broadcast((labels, failure))
    if failure is not None:
        raise failure
    assert labels is not None
    return labels


def _validation(system: System, data: JobData, stage: Stage, runtime: Runtime) -> dict[str, float]:
    """Return the means of the loss parts over the windows that training left out."""
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    system.eval()
    with torch.no_grad():
        for batch in data.validation_batches():
            for name, part in system(batch.to(runtime.device), stage.updates[-1].name, 1.0).parts.items():
                sums[name] = sums.get(name, 0.0) + float(part.sum)
                counts[name] = counts.get(name, 0.0) + float(part.count)
    return {name: sums[name] / max(counts[name], 1.0) for name in sums}


def total_steps(system: System, data: JobData) -> int:
    """Return the steps of a whole training of ``system`` on ``data``, with those of a cross-fitting."""
    steps = sum(
        _steps(stage, data.with_plan(stage.plan).steps_per_epoch)
        for stage in system.stages(data.steps_per_epoch)
    )
    if not steps:
        return 0
    return steps + sum(total_steps(system, data.without_fold(fold)) for fold in range(data.n_folds))


def _steps(stage: Stage, steps_per_epoch: int) -> int:
    if stage.steps is not None:
        return stage.steps
    assert stage.epochs is not None
    return stage.epochs * steps_per_epoch


def _batches(data: JobData, steps: Iterable[int], runtime: Runtime) -> Iterator[ClipBatch]:
    """Yield the batches of ``steps``; for a GPU each is made and moved while the step before it runs."""

    def make(step: int) -> ClipBatch:
        batch = data.batch(step, rank=runtime.rank, size=runtime.size)
        return batch.pinned() if on_gpu else batch

    on_gpu = runtime.device.type == "cuda"
    if not on_gpu:
        yield from map(make, steps)
        return
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[ClipBatch]] = deque()
        for step in steps:
            waiting.append(pool.submit(make, step))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result().to(runtime.device)
        while waiting:
            yield waiting.popleft().result().to(runtime.device)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 matrices faster than float32 ones: GPUs, CPUs with AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_amx_tile_supported())


def _step(
    system: System, model: nn.Module, stage: Stage, batch: ClipBatch, progress: float, runtime: Runtime
) -> dict[str, torch.Tensor]:
    means: dict[str, torch.Tensor] = {}
    for update in stage.updates:
        bfloat16 = stage.precision == "bfloat16" or (
            stage.precision == "auto" and fast_bfloat16(runtime.device)
        )
        with torch.autocast(runtime.device.type, torch.bfloat16) if bfloat16 else nullcontext():
            losses = model(batch, update.name, progress)
        check_losses(system, update.name, losses)
        total, parts = total_loss(losses, runtime)
        update.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        if update.gradient_clip is not None:
            parameters = [p for group in update.optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, update.gradient_clip)
        update.optimizer.step()
        if update.scheduler is not None:
            update.scheduler.step()
        means |= parts
    return means


def _optimizers(stages: list[Stage]) -> tuple[list[_Stateful], list[_Stateful]]:
    """Return the optimizers and schedulers of all stages, each once, in order."""
    updates = [update for stage in stages for update in stage.updates]
    optimizers: dict[int, _Stateful] = {id(update.optimizer): update.optimizer for update in updates}
    schedulers: dict[int, _Stateful] = {
        id(update.scheduler): update.scheduler for update in updates if update.scheduler
    }
    return list(optimizers.values()), list(schedulers.values())


def _state(
    system: System,
    stages: list[Stage],
    stage: int,
    step: int,
    seconds: float,
    curve: list[CurvePoint],
    labels: dict[int, torch.Tensor],
) -> Checkpoint:
    optimizers, schedulers = _optimizers(stages)
    return {
        "system": trained_state(system),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "schedulers": [scheduler.state_dict() for scheduler in schedulers],
        "stage": stage,
        "step": step,
        "seconds": seconds,
        "curve": msgspec.to_builtins(curve),
        "pseudo_labels": labels,
    }


def _resume(
    system: System, stages: list[Stage], saved: Checkpoint | None
) -> tuple[int, int, float, list[CurvePoint]]:
    """Load a checkpoint; returns the stage, the steps done in it, the seconds spent and the curve so far."""
    if saved is None:
        return 0, 0, 0.0, []
    load_whole(system, saved["system"])
    saved_states = (saved["optimizers"], saved["schedulers"])
    for parts, states in zip(_optimizers(stages), saved_states, strict=True):
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)
    curve = msgspec.convert(saved["curve"], list[CurvePoint])
    return saved["stage"], saved["step"], saved["seconds"], curve
