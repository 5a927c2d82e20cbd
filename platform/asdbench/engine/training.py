"""The training loop, written once for every system, device and number of processes.

The last epoch's model is the result: choosing an earlier one would need scores that training must not see.

Randomness is keyed by (seed, step): the loop seeds torch before every step and the loader keys its draws the
same way, so that a training that goes on from a checkpoint takes the same steps as one that never stopped.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from asdbench.data.loader import JobData
from asdbench.engine.distributed import distribute, total_loss
from asdbench.engine.runtime import Runtime
from asdbench.engine.state import load_whole
from asdbench.errors import InputError
from asdbench.system import ClipBatch, Stage, System

_MOST_POINTS = 200  # of a stage's curve; a small machine type has an epoch of one step
_SAVING_SHARE = 0.05  # of the time, at most, is spent on checkpoints
_AHEAD = 2  # batches that are made before a GPU asks for them
_INITIAL, _BACK_END = -1, -2  # keys of the random states of initial weights and of the back end's fit


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
    checkpoint: Callable[[dict[str, Any]], object] | None = None,
    resume: Mapping[str, Any] | None = None,
    checkpoint_epochs: int = 5,
) -> dict[str, Any]:
    """Train ``system`` in place through all its stages.

    Parameters
    ----------
    system : with its initial weights, on ``runtime.device``
    data : the job's clips
    runtime : where this runs and who shares the work
    seed : of everything random in training
    checkpoint : is given the state of the training (tensors and plain values) to keep, every
        ``checkpoint_epochs`` epochs, less often where that would take more than a twentieth of the time
    resume : a state that ``checkpoint`` was given, to go on from
    checkpoint_epochs : epochs between checkpoints

    Returns
    -------
    dict : ``steps`` and ``seconds`` spent, over interruptions; ``curve``: per epoch (or several, where a
        stage has more than 200) its stage and the means of all parts of the loss and monitors; from the
        leading process ``validation``: the means over the windows that training left out, where the batch
        plan leaves out some

    Raises
    ------
    InputError : a loss is no longer finite
    """
    stages = list(system.stages(data.steps_per_epoch))
    drawn = [data.with_plan(stage.plan) for stage in stages]
    model = distribute(system, runtime, several_updates=sum(len(stage.updates) for stage in stages) > 1)
    progress = _resume(system, stages, resume)
    lengths = [_steps(stage, of.steps_per_epoch) for stage, of in zip(stages, drawn, strict=True)]
    began = time.perf_counter() - progress["seconds"]
    curve: list[dict[str, Any]] = progress["curve"]
    saved_at, saving = began, 0.0
    done = sum(lengths[: progress["stage"]]) + progress["step"]
    system.train()
    for index in range(progress["stage"], len(stages)):
        stage, length, steps_per_epoch = stages[index], lengths[index], drawn[index].steps_per_epoch
        reported = steps_per_epoch * -(-length // (steps_per_epoch * _MOST_POINTS))
        running: dict[str, torch.Tensor] = {}
        since, saved_epoch = 0, progress["step"] // steps_per_epoch
        batches = _batches(drawn[index], range(done, done + length - progress["step"]), runtime)
        for step, batch in zip(range(progress["step"], length), batches, strict=True):
            seed_torch(seed, done, rank=runtime.rank)
            for name, value in _step(model, stage, batch, step / length, runtime).items():
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
                    f"a lower learning rate is the usual cure"
                )
            curve.append({"stage": stage.name, "epoch": epoch, **losses})
            if runtime.is_rank_zero:
                runtime.report({"step": done, "steps": sum(lengths), "epoch": epoch, "losses": losses})
                last = index == len(stages) - 1 and step + 1 == length
                due = epoch - saved_epoch >= checkpoint_epochs
                due = due and time.perf_counter() - saved_at > saving / _SAVING_SHARE
                if checkpoint is not None and not last and due:
                    saving = -time.perf_counter()
                    checkpoint(_state(system, stages, index, step + 1, time.perf_counter() - began, curve))
                    saved_epoch, saved_at = epoch, time.perf_counter()
                    saving += saved_at
        progress["step"] = 0
    record = {"steps": done, "seconds": time.perf_counter() - began, "curve": curve}
    if runtime.is_rank_zero and data.plan.validation_share and stages:
        record["validation"] = _validation(system, data, stages[-1], runtime)
    return record


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
    """Return the steps of a whole training of ``system`` on ``data``."""
    return sum(
        _steps(stage, data.with_plan(stage.plan).steps_per_epoch)
        for stage in system.stages(data.steps_per_epoch)
    )


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
    model: nn.Module, stage: Stage, batch: ClipBatch, progress: float, runtime: Runtime
) -> dict[str, torch.Tensor]:
    means: dict[str, torch.Tensor] = {}
    for update in stage.updates:
        bfloat16 = stage.precision == "bfloat16" or (
            stage.precision == "auto" and fast_bfloat16(runtime.device)
        )
        with torch.autocast(runtime.device.type, torch.bfloat16) if bfloat16 else nullcontext():
            losses = model(batch, update.name, progress)
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


def _optimizers(stages: list[Stage]) -> tuple[list[Any], list[Any]]:
    """Return the optimizers and schedulers of all stages, each once, in order."""
    updates = [update for stage in stages for update in stage.updates]
    optimizers = {id(update.optimizer): update.optimizer for update in updates}
    schedulers = {id(update.scheduler): update.scheduler for update in updates if update.scheduler}
    return list(optimizers.values()), list(schedulers.values())


def _state(
    system: System, stages: list[Stage], stage: int, step: int, seconds: float, curve: list[dict[str, Any]]
) -> dict[str, Any]:
    optimizers, schedulers = _optimizers(stages)
    return {
        "system": system.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "schedulers": [scheduler.state_dict() for scheduler in schedulers],
        "stage": stage,
        "step": step,
        "seconds": seconds,
        "curve": curve,
    }


def _resume(system: System, stages: list[Stage], saved: Mapping[str, Any] | None) -> dict[str, Any]:
    if saved is None:
        return {"stage": 0, "step": 0, "seconds": 0.0, "curve": []}
    load_whole(system, saved["system"])
    for users, states in zip(_optimizers(stages), (saved["optimizers"], saved["schedulers"]), strict=True):
        for user, state in zip(users, states, strict=True):
            user.load_state_dict(state)
    return {
        "stage": saved["stage"],
        "step": saved["step"],
        "seconds": saved["seconds"],
        "curve": saved["curve"],
    }
