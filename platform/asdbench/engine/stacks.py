"""Runs tasks whose systems have equal architecture together: one stacked model trains all of them.

A small model leaves a GPU idle between its many small kernels; several of them as one
(`asdbench.engine.stacked_model`) take hardly longer than one. Every task keeps its own checkpoint, curve,
record, results and error. One whose training fails, or ends earlier, leaves the stack, and the others
continue; tasks that resume at different steps of a stage train together nevertheless. The trainings of a
cross-fitting, each without a fold, are in the stack too. Back ends are fitted and clips scored task by task,
as in `asdbench.engine.run_task`.

Where the systems turn out not to stack, because ``forward`` draws from torch's generator or has shapes that
depend on data, the trainings take place one after another. Where they do not fit in memory together, that is
an error: whoever asked for so many can ask for fewer.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from asdbench.engine.compiled_step import fast_products
from asdbench.engine.distributed import total_loss
from asdbench.engine.events import Note
from asdbench.engine.failures import is_out_of_memory
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, TrainingTask, key_of
from asdbench.engine.run_task import (
    build_features,
    forked_random_state,
    in_isolation,
    released_clips,
    score_jobs,
)
from asdbench.engine.runtime import Runtime
from asdbench.engine.stacked_model import StackedModel, facts_shape, have_equal_shapes
from asdbench.engine.task_training import Part, TaskTraining, Trained
from asdbench.engine.training import JobTraining, run, train_alone
from asdbench.engine.training_checkpoint import lay_out_states
from asdbench.engine.training_step import TrainingStep, apply_gradients, autocast, take_step
from asdbench.io.workspace import Workspace
from asdbench.system import System, TrainingFacts

Result = list[tuple[ResolvedJob, Exception]] | Exception

logger = logging.getLogger(__name__)

_OWN = ("seed", "hold_out_seed", "machine_type", "clips", "supplemental")  # in a training's description


def stack_key(task: TrainingTask) -> str | None:
    """Return what tasks have in common that can train as one stacked model; ``None`` if the task cannot.

    Equal are the trained system, its code, settings and pretrained weights, and the shapes of those facts
    about the clips that the system is constructed from. Machine types, seeds and data sets may differ.
    A system cannot be stacked if it has no stages of training, or layers that draw from torch's generator.
    """
    first = task.first
    is_held = "clips" in vars(first)
    try:
        facts = _NotedFacts(first.clips.facts)
        system = _built(task, facts)
    except Exception as error:  # whoever runs the task is told
        logger.debug("%s does not stack: %s", task.label, error)
        return None
    finally:
        if not is_held:
            vars(first).pop("clips", None)
    if type(system).forward is System.forward or any(map(_draws_random_numbers, system.modules())):
        return None
    shared = {name: value for name, value in first.training_description.items() if name not in _OWN}
    return key_of({**shared, "facts": {name: facts_shape(facts.facts, name) for name in sorted(facts.noted)}})


class _NotedFacts:
    """The facts about a job's training clips, with the names of those that were read."""

    def __init__(self, facts: TrainingFacts) -> None:
        self.facts, self.noted = facts, set[str]()

    def __getattr__(self, name: str) -> Any:
        self.noted.add(name)
        return getattr(self.facts, name)


def _built(task: TrainingTask, facts: Any) -> System:
    """Return the system that a task trains; on no device, if its constructor can do with that."""
    configured = task.first.configured
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return configured.build_trained(facts)
        except Exception:
            return configured.build_trained(facts)


def _draws_random_numbers(module: nn.Module) -> bool:
    if isinstance(module, nn.RReLU):
        return True
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    return isinstance(module, nn.MultiheadAttention | nn.RNNBase) and module.dropout > 0


def run_stack(
    tasks: Sequence[TrainingTask],
    runtimes: Sequence[Runtime],
    store: JobStore,
    *,
    checkpoint_epochs: int = 5,
    workspaces: Sequence[Workspace] = (),
) -> list[Result]:
    """Train tasks as one stacked model and score them, in a thread that cannot read labels.

    Parameters
    ----------
    tasks : with equal :func:`stack_key`
    runtimes : of the tasks; a process alone each, all on one device
    store, checkpoint_epochs, workspaces : as of `asdbench.engine.run_task.run_isolated_task`

    Returns
    -------
    list
        For each task the jobs whose scoring failed, each with its error, or the error of its training.

    Raises
    ------
    OutOfMemoryError
        The tasks do not fit in memory together.
    """
    device, results = runtimes[0].device, dict[int, Result]()
    ready = dict[int, TaskTraining]()
    for index, (task, runtime) in enumerate(zip(tasks, runtimes, strict=True)):
        try:
            build_features(task, runtime)
            ready[index] = TaskTraining(task, runtime, store, checkpoint_epochs=checkpoint_epochs)
        except Exception as error:
            results[index] = error

    def work() -> dict[int, Result]:
        with ExitStack() as released, forked_random_state(device):
            for task in tasks:
                released.enter_context(released_clips(task))
            return _scored(ready, _trained(ready))

    places = dict.fromkeys([*(task.first.data.workspace for task in tasks), *workspaces])
    results |= in_isolation(work, list(places), device)
    return [results[index] for index in range(len(tasks))]


def _scored(
    works: Mapping[int, TaskTraining], trained: Mapping[int, Trained | Exception]
) -> dict[int, Result]:
    """Score the tasks that are trained, one after another."""
    results = dict[int, Result]()
    for index, outcome in trained.items():
        try:
            results[index] = outcome if isinstance(outcome, Exception) else score_jobs(works[index], outcome)
        except Exception as error:
            results[index] = error
    return results


def _trained(works: Mapping[int, TaskTraining]) -> dict[int, Trained | Exception]:
    """Train tasks together; return what each has come to, or its error."""
    trained, left = dict[int, Trained | Exception](), list[tuple[int, Part]]()
    for index, work in works.items():
        try:
            stored = work.stored()
            if stored is None:
                left += [(index, part) for part in work.left()]
            else:
                trained[index] = stored
        except Exception as error:
            trained[index] = error
    for (index, _), failure in zip(left, _train([part for _, part in left]), strict=True):
        if failure is not None:
            trained.setdefault(index, failure)
    return {index: trained[index] if index in trained else work.trained() for index, work in works.items()}


def _train(parts: Sequence[Part]) -> list[Exception | None]:
    """Train and store parts, as one stacked model if that is possible; return the error of each."""
    if len(parts) > 1:
        try:
            return _train_together(parts)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            for work in dict.fromkeys(part.owner for part in parts):
                work.runtime.report(Note(f"these jobs train one by one, not as one model: {reason}"))
    return [_attempt(part, train_alone) for part in parts]


def _attempt(part: Part, train: Callable[[JobTraining], None]) -> Exception | None:
    """Train and store a part; return its error."""
    try:
        begun = part.begin()
        train(begun)
        part.finish(begun)
    except Exception as error:
        return error
    return None


def _train_together(parts: Sequence[Part]) -> list[Exception | None]:
    """Train parts as one stacked model; raises an error that is of no part alone."""
    errors, begun = dict[int, Exception](), dict[int, JobTraining]()
    for index, part in enumerate(parts):
        try:
            begun[index] = part.begin(len(parts))
        except Exception as error:
            errors[index] = error
    stack = _Stack(list(begun.values()))
    with fast_products(parts[0].owner.runtime.device):
        failed = run(stack.trainings, stack.take)
    stack.release()
    errors |= {index: failed[place] for place, index in enumerate(begun) if place in failed}
    for index in begun.keys() - errors.keys():
        try:
            parts[index].finish(begun[index])
        except Exception as error:
            errors[index] = error
    return [errors.get(index) for index in range(len(parts))]


class _Stack:
    """Takes the steps of several trainings together; which of them take part may change from step to step."""

    def __init__(self, trainings: Sequence[JobTraining]) -> None:
        self.trainings = trainings
        self._members: tuple[int, ...] = ()
        self._model: StackedModel | None = None

    def take(self, steps: Mapping[int, TrainingStep]) -> list[dict[str, Tensor]]:
        """Take a step of some trainings; return the means of losses and monitors of each."""
        if tuple(steps) != self._members:
            self._restack(tuple(steps))
        for index, step in steps.items():
            self.trainings[index].seed(step)
        if self._model is None or not have_equal_shapes([step.batch for step in steps.values()]):
            return [self._take_alone(index, step) for index, step in steps.items()]
        return take_steps(self._model, list(steps.values()))

    def _take_alone(self, index: int, step: TrainingStep) -> dict[str, Tensor]:
        """Take a step of one training, in the stack or not: its tensors are where they are."""
        training = self.trainings[index]
        models = [training.system] * len(step.stage.updates)
        return take_step(training.system, models, step, training.runtime)

    def release(self) -> None:
        """Give every system tensors of its own."""
        if self._model is not None:
            self._model.release()
        self._members, self._model = (), None

    def _restack(self, members: tuple[int, ...]) -> None:
        self.release()
        systems = [self.trainings[index].system for index in members]
        self._members, self._model = members, StackedModel(systems) if len(systems) > 1 else None
        for index in members:
            lay_out_states(self.trainings[index].stages)


def take_steps(model: StackedModel, steps: Sequence[TrainingStep]) -> list[dict[str, Tensor]]:
    """Take a step of each system of a stacked model, with all updates of its stage.

    Returns what `asdbench.engine.training_step.take_step` returns for each.
    """
    stage, device = steps[0].stage, steps[0].batch.windows.device
    means: dict[str, Tensor] = {}
    for index, update in enumerate(stage.updates):
        updates = [step.stage.updates[index] for step in steps]
        with autocast(stage, device):
            losses = model.losses(
                [step.batch for step in steps], update.name, torch.stack([step.progress for step in steps])
            )
        total, parts = total_loss(losses, Runtime(device))
        model.backward(total, updates)
        for each in updates:
            apply_gradients(each)
        means |= parts
    by_job = torch.stack(list(means.values())).unbind(dim=1)
    return [dict(zip(means, of_job.unbind(), strict=True)) for of_job in by_job]
