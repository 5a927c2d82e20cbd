"""The training loop, written once for every system, device, number of processes and of stacked jobs.

The last epoch's model is the result: choosing an earlier one would need scores that training must not see.

Randomness is keyed by (seed, step): the loop seeds torch before every step and the loader keys its draws the
same way, so that a training that resumes from a checkpoint takes the same steps as one without interruption.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asdbench.data.batch_frames import BatchFrames
from asdbench.data.loader import JobData
from asdbench.engine.compiled_step import StepCompiler, fast_products
from asdbench.engine.device_batches import device_batches
from asdbench.engine.distributed import Distributed
from asdbench.engine.events import TrainingProgress
from asdbench.engine.loss_sums import LossSums
from asdbench.engine.runtime import Runtime
from asdbench.engine.step_batches import step_batches
from asdbench.engine.system_output import check_finite, check_stages, checked_labels
from asdbench.engine.task_records import CurvePoint
from asdbench.engine.training_checkpoint import Checkpoint, Reached, checkpoint_of, load_checkpoint
from asdbench.engine.training_step import TrainingStep, take_step
from asdbench.errors import InputError
from asdbench.nn.dropout import DropoutSeed
from asdbench.system import Stage, System

logger = logging.getLogger(__name__)

_MOST_POINTS = 200  # of a stage's curve; a small machine type has an epoch of one step
_SAVING_SHARE = 0.05  # of the time, at most, is spent on checkpoints
_INITIAL, _BACK_END = -1, -2  # keys of the random states of initial weights and of the back end's fit
_PSEUDO_LABELS = -3  # that of the first stage's pseudo-labels; later ones are below


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training took, and its losses.

    Attributes
    ----------
    steps, seconds : spent, over interruptions
    curve : mean losses and monitors per epoch, or per several epochs where a stage has more than 200
    validation : mean losses over the windows that training left out; ``None`` if the batch plan leaves out
        none, and except in the process of rank 0
    is_compiled : whether its steps ran compiled to the end
    """

    steps: int
    seconds: float
    curve: tuple[CurvePoint, ...]
    validation: dict[str, float] | None
    is_compiled: bool = False


def seed_torch(seed: int, step: int, *, rank: int = 0) -> None:
    """Seed torch's generators for one step of one process."""
    mixed = mixed_seed(seed, step, rank=rank)
    torch.default_generator.manual_seed(mixed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(mixed)


def mixed_seed(seed: int, step: int, *, rank: int) -> int:
    """Return the seed of one step of one process, from 0 to below 2^63."""
    return ((seed * 1_000_003 + step) * 65_537 + rank) % 2**63


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
    saving = Saving(checkpoint, checkpoint_epochs)
    training = JobTraining(system, data, runtime, seed=seed, saving=saving, resume=resume)
    train_alone(training)
    return training.outcome()


def train_alone(training: "JobTraining") -> None:
    """Take all steps of one training, in all processes that share it."""
    system, runtime = training.system, training.runtime
    shared = Distributed(system, runtime, rows=training.most_rows)

    def take(steps: Mapping[int, TrainingStep]) -> list[dict[str, Tensor]]:
        (step,) = steps.values()
        training.seed(step)
        return [take_step(system, shared.of(step.stage), step, runtime, differentiate=compiler.differentiate)]

    with fast_products(runtime.device), StepCompiler(runtime) as compiler:
        errors = run([training], take)
    training.is_compiled = compiler.is_on
    for error in errors.values():
        raise error


def run(
    trainings: Sequence["JobTraining"],
    take: Callable[[Mapping[int, TrainingStep]], Iterable[dict[str, Tensor]]],
) -> dict[int, Exception]:
    """Take all steps of one training, or of several: those in the same stage take their steps together.

    Parameters
    ----------
    trainings : what is to be trained
    take : takes a step of some trainings, by their index; returns the means of losses and monitors of each

    Returns
    -------
    dict
        The errors of trainings that failed, by index. The others have continued without them; an error in
        ``take`` ends all.
    """
    errors: dict[int, Exception] = {}
    for stage in range(max((len(training.stages) for training in trainings), default=0)):
        left = {i: training.steps(stage) for i, training in enumerate(trainings) if i not in errors}
        since = time.perf_counter()
        while steps := _next_steps(left, errors):
            for (i, step), means in zip(steps.items(), take(steps), strict=True):
                try:
                    trainings[i].record(step, means)
                except Exception as error:
                    errors[i] = error
            now = time.perf_counter()
            for i in steps:
                trainings[i].spend((now - since) / len(steps))
            since = now
    return errors


def _next_steps(
    left: dict[int, Iterator[TrainingStep]], errors: dict[int, Exception]
) -> dict[int, TrainingStep]:
    """Return the next step of each training that has one, and forget the others."""
    steps = {}
    for i, remaining in list(left.items()):
        try:
            step = None if i in errors else next(remaining, None)
        except Exception as error:
            errors[i], step = error, None
        if step is None:
            del left[i]
        else:
            steps[i] = step
    return steps


class Saving:
    """Decides when a training is saved.

    Parameters
    ----------
    save : stores a state; ``None`` for a training that is never saved
    epochs : between two states
    trainings : that are saved in turn, and together take a share of the time
    """

    def __init__(
        self, save: Callable[[Checkpoint], object] | None, epochs: int, *, trainings: int = 1
    ) -> None:
        self._save, self._epochs, self._share = save, epochs, _SAVING_SHARE / trainings
        self._at, self._took_s, self._epoch = time.perf_counter(), 0.0, 0

    def begin_stage(self, epoch: int) -> None:
        """Count the epochs from here on."""
        self._epoch = epoch

    def save_if_due(self, epoch: int, state: Callable[[], Checkpoint]) -> None:
        """Save a training at the end of an epoch, if it is time to."""
        since_s = time.perf_counter() - self._at
        is_due = epoch - self._epoch >= self._epochs and since_s > self._took_s / self._share
        if self._save is None or not is_due:
            return
        began = time.perf_counter()
        self._save(state())
        self._epoch, self._at = epoch, time.perf_counter()
        self._took_s = self._at - began


class JobTraining:
    """One job's training: the steps that it takes, the losses that they return, and its checkpoints.

    Parameters
    ----------
    system, data, runtime, seed, resume : as of :func:`train`
    saving : when it is saved

    Attributes
    ----------
    system, stages, runtime : what is trained, its stages, and where
    is_compiled : whether its steps run compiled; whoever takes them says so
    """

    def __init__(
        self,
        system: System,
        data: JobData,
        runtime: Runtime,
        *,
        seed: int,
        saving: Saving,
        resume: Checkpoint | None = None,
    ) -> None:
        self.system, self._data, self.runtime, self._seed = system, data, runtime, seed
        self.stages = list(system.stages(data.steps_per_epoch))
        check_stages(system, self.stages, data.input_spec)
        self._drawn = [data.with_plan(stage.plan) for stage in self.stages]
        self._lengths = [
            _steps(stage, clips.steps_per_epoch)
            for stage, clips in zip(self.stages, self._drawn, strict=True)
        ]
        self._reached = Reached() if resume is None else load_checkpoint(system, self.stages, resume)
        self._saving, self._sums, self.is_compiled = saving, LossSums(), False
        self._dropout = DropoutSeed(system)

    @property
    def most_rows(self) -> int:
        """Rows of the largest global batch."""
        return max((clips.plan.size for clips in self._drawn), default=0)

    def seed(self, step: TrainingStep) -> None:
        """Seed what is random in a step: torch's generators, and dropout layers."""
        seed_torch(self._seed, step.done, rank=self.runtime.rank)
        self._dropout.set(mixed_seed(self._seed, step.done, rank=self.runtime.rank))

    def spend(self, seconds: float) -> None:
        """Count time that this training has taken; of a step of several trainings, its share."""
        self._reached.seconds += seconds

    def steps(self, index: int) -> Iterator[TrainingStep]:
        """Yield the steps of a stage, from where the training had come to; none if it is done."""
        if self._reached.stage == index < len(self.stages):
            self.system.train()
            yield from self._steps_from(index, self._reached.step)
            self._reached.stage, self._reached.step = index + 1, 0

    def _steps_from(self, index: int, first: int) -> Iterator[TrainingStep]:
        stage, length, data = self.stages[index], self._lengths[index], self._labeled(index)
        self._saving.begin_stage(first // data.steps_per_epoch)
        logger.debug("stage %r: steps %d to %d", stage.name, first + 1, length)
        done = sum(self._lengths[:index]) + first
        batches = step_batches(data, range(done, done + length - first), self.runtime)
        for place, batch in zip(range(first, length), batches, strict=True):
            yield TrainingStep(stage, batch, place, length, done + place - first)

    def _labeled(self, index: int) -> JobData:
        """Return the clips of a stage, with the pseudo-labels that it asks for."""
        data, labels = self._drawn[index], self._reached.pseudo_labels
        if not self.stages[index].pseudo_labels:
            return data
        if index not in labels:
            labels[index] = _pseudo_labels(self.system, data, self.runtime, seed=self._seed, stage=index)
        return data.with_pseudo_labels(labels[index].numpy())

    def record(self, step: TrainingStep, means: dict[str, Tensor]) -> None:
        """Add the losses of a step to the curve, report its points, and save the training if it is time to.

        Raises
        ------
        InputError : a loss is not finite
        """
        self._sums.add(means)
        self._reached.step = step.place + 1
        per_epoch = self._drawn[self._reached.stage].steps_per_epoch
        per_point = _steps_per_point(step.length, per_epoch)
        if self._reached.step % per_point == 0 or step.is_last:
            self._end_point(step, -(-self._reached.step // per_epoch), is_first=step.place < per_point)

    def _end_point(self, step: TrainingStep, epoch: int, *, is_first: bool) -> None:
        first, losses = self._sums.read()
        if is_first:
            check_finite(self.system, step.stage.name, first)
        _check_converging(step.stage, epoch, losses)
        self._reached.curve.append(CurvePoint(step.stage.name, epoch, losses))
        if not self.runtime.is_rank_zero:
            return
        self.runtime.report(TrainingProgress(step.done + 1, sum(self._lengths), epoch, losses))
        if step.done + 1 < sum(self._lengths):
            self._saving.save_if_due(epoch, self._checkpoint)

    def _checkpoint(self) -> Checkpoint:
        return checkpoint_of(self.system, self.stages, self._reached)

    def outcome(self) -> TrainingOutcome:
        """Return what the training took, and its losses."""
        validation = None
        if self.runtime.is_rank_zero and self._data.plan.validation_share and self.stages:
            validation = _validation(self.system, self._data, self.stages[-1], self.runtime)
        return TrainingOutcome(
            sum(self._lengths),
            self._reached.seconds,
            tuple(self._reached.curve),
            validation,
            self.is_compiled,
        )


def _steps_per_point(length: int, steps_per_epoch: int) -> int:
    """Return how many steps of a stage make a point of its curve: whole epochs."""
    return steps_per_epoch * -(-length // (steps_per_epoch * _MOST_POINTS))


def _check_converging(stage: Stage, epoch: int, losses: dict[str, float]) -> None:
    if not all(map(math.isfinite, losses.values())):
        raise InputError(
            f"training diverged: in epoch {epoch} of stage {stage.name!r} the losses are {losses}; "
            f"try a lower learning rate"
        )


def _pseudo_labels(system: System, data: JobData, runtime: Runtime, *, seed: int, stage: int) -> torch.Tensor:
    """Return the labels that a system gives the training clips, Long[Tensor, "clip"]: those of rank 0."""
    labels: torch.Tensor | None = None
    failure: Exception | None = None
    if runtime.is_rank_zero:
        seed_torch(seed, _PSEUDO_LABELS - stage)
        system.eval()
        try:
            with torch.no_grad():
                frames = BatchFrames(runtime.device)
                labels = frames.retried(lambda: _labels(system, data, frames))
        except Exception as error:
            failure = error
        system.train()
    labels, failure = runtime.broadcast((labels, failure))
    if failure is not None:
        raise failure
    assert labels is not None
    return labels


def _labels(system: System, data: JobData, frames: BatchFrames) -> torch.Tensor:
    batches = device_batches(data.raw_pseudo_label_batches, data.preparation, frames)
    return checked_labels(system, system.pseudo_labels(batches))


def _validation(system: System, data: JobData, stage: Stage, runtime: Runtime) -> dict[str, float]:
    """Return the means of the loss parts over the windows that training left out."""
    sums: dict[str, Tensor] = {}
    progress = torch.ones((), device=runtime.device)
    system.eval()
    with torch.no_grad():
        for batch in data.validation_batches():
            parts = system(batch.to(runtime.device), stage.updates[-1].name, progress).parts
            for name, part in parts.items():
                pair = torch.stack(
                    [part.sum.double(), part.sum.new_ones((), dtype=torch.double) * part.count]
                )
                sums[name] = sums[name] + pair if name in sums else pair
    read = torch.stack(list(sums.values())).tolist() if sums else []
    return {name: total / max(count, 1.0) for name, (total, count) in zip(sums, read, strict=True)}


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
