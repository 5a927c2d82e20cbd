"""What there is to do in a run, and what it will cost."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import TrainingTask
from asdbench.report.formatting import format_duration, print_message

if TYPE_CHECKING:
    pass


def plan(
    data: DataSet,
    tasks: Sequence[TrainingTask],
    to_do: Sequence[TrainingTask],
    jobs_store: JobStore,
    *,
    console: Console,
) -> list[TrainingTask]:
    """Say what there is to do and what it will cost; returns ``to_do`` with the longest work first."""
    from asdbench.engine.training import total_steps

    jobs = sum(len(task.jobs) for task in tasks)
    stored = sum(jobs_store.is_trained(task.first) for task in tasks)
    said = (
        f"{data.name}: {len(data.machine_types)} machine types, {data.clips.height} clips; {jobs} jobs over "
        f"{len(tasks)} trainings, of which {stored} are stored"
    )
    steps: dict[tuple[str, str, str], int] = {}
    rates: dict[str, float | None] = {}
    costs: dict[int, tuple[int, float]] = {}
    for task in to_do:
        first, trainer = task.first, task.first.configured.trainer
        if jobs_store.is_trained(first):
            costs[id(task)] = (0, 0.0)
            continue
        like = (trainer.name, first.job.machine_type, repr(trainer.values()))
        if like not in steps:
            steps[like] = total_steps(first.build_trained(first.clips.facts), first.clips)
        if trainer.name not in rates:
            rates[trainer.name] = jobs_store.steps_per_second(trainer.name)
        costs[id(task)] = (steps[like], steps[like] / (rates[trainer.name] or 1.0))
    if any(count for count, _ in costs.values()):
        said += f"; {sum(count for count, _ in costs.values()):,} steps to train"
        if all(rates.values()):
            seconds = sum(seconds for _, seconds in costs.values())
            said += f", about {format_duration(seconds)} of one worker at the speed of earlier trainings"
    print_message(console, said)
    return sorted(to_do, key=lambda task: -costs[id(task)][1])
