"""The plan of a run: its tasks, the longest first, and what they will cost."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import TrainingTask
from asdbench.engine.store_snapshot import StoreSnapshot
from asdbench.report.formatting import format_duration, print_message

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Cost:
    """The cost of a task: training steps, and seconds if earlier trainings tell the speed."""

    steps: int
    seconds: float | None

    @property
    def rank(self) -> float:
        return self.steps if self.seconds is None else self.seconds


def plan(
    data: DataSet,
    tasks: Sequence[TrainingTask],
    to_do: Sequence[TrainingTask],
    store: JobStore,
    *,
    console: Console,
) -> list[TrainingTask]:
    """Print the size and the cost of a run, and return the tasks to do, the longest first.

    Parameters
    ----------
    data : the data set of the run
    tasks : all tasks of the run
    to_do : the tasks that are not finished
    store : where results are
    console : where to print the plan
    """
    snapshot = store.snapshot()
    n_stored = sum(snapshot.is_trained(task.first) for task in tasks)
    message = (
        f"{data.name}: {_count(len(data.machine_types), 'machine type')}, "
        f"{_count(data.clips.height, 'clip')}; {_count(sum(len(task.jobs) for task in tasks), 'job')}, "
        f"{_count(len(tasks), 'training')} ({n_stored} already stored)"
    )
    costs = _costs(to_do, store, snapshot)
    if n_steps := sum(cost.steps for cost in costs):
        message += f"; {_count(n_steps, 'step')} to train"
        seconds = [cost.seconds for cost in costs if cost.seconds is not None]
        if len(seconds) == len(costs):
            duration = format_duration(sum(seconds))
            message += f", about {duration} on one worker at the speed of earlier trainings"
    print_message(console, message)
    by_cost = sorted(zip(costs, to_do, strict=True), key=lambda pair: -pair[0].rank)
    return [task for _, task in by_cost]


def _costs(tasks: Sequence[TrainingTask], store: JobStore, snapshot: StoreSnapshot) -> list[_Cost]:
    """Return the cost of training each task; the same system on the same machine type is counted once."""
    from asdbench.engine.training import total_steps

    steps: dict[tuple[str, str, str], int] = {}
    speeds = store.training_speeds() if tasks else {}
    for name, speed in speeds.items():
        logger.info("%s trains at %.3g steps per second", name, speed)
    costs = []
    for task in tasks:
        first, trainer = task.first, task.first.configured.trainer
        if snapshot.is_trained(first):  # only its scores are missing
            costs.append(_Cost(0, 0.0))
            continue
        like = (trainer.name, first.job.machine_type, repr(trainer.values()))
        if like not in steps:
            steps[like] = total_steps(first.build_trained(first.clips.facts), first.clips)
        rate = speeds.get(trainer.name)
        costs.append(_Cost(steps[like], steps[like] / rate if rate else None))
    return costs


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
