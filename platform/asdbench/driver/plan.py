"""The plan of a run: its tasks, the longest first, and what they will cost."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from asdbench.data.sets.catalog import DataSet
from asdbench.driver.executor import ExecutionOptions
from asdbench.driver.fresh_seeds import n_candidates
from asdbench.driver.study_results import StudyResult
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, TrainingTask, by_training
from asdbench.engine.store_snapshot import StoreSnapshot
from asdbench.report.formatting import format_amount, format_duration, print_message
from asdbench.search.studies import Study
from asdbench.search.trial_scores import jobs_with

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Cost:
    """The cost of a task: training steps, and seconds if earlier tasks tell the speed."""

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
    options: ExecutionOptions,
    studies: Sequence[Study] = (),
    trials: int = 0,
    again: Sequence[ResolvedJob] = (),
) -> list[TrainingTask]:
    """Print the size and the cost of a run, and return the tasks to do, the longest first.

    Parameters
    ----------
    data : the data set of the run
    tasks : all tasks of the run, without those of trials
    to_do : the tasks that are not finished
    store : where results are
    console : where to print the plan
    options : where and how tasks run
    studies, trials : the searches, and how many trials each is to have
    again : the jobs of the untuned systems with the fresh seeds, with which what searches find is scored
    """
    snapshot = store.snapshot()
    n_stored = sum(snapshot.is_trained(task.first) for task in tasks)
    message = (
        f"{data.name}: {format_amount(len(data.machine_types), 'machine type')}, "
        f"{format_amount(data.clips.height, 'clip')}; "
        f"{format_amount(sum(len(task.jobs) for task in tasks), 'job')}, "
        f"{format_amount(len(tasks), 'training')} ({n_stored} already stored)"
    )
    n_trials = sum(max(0, trials - len(study.finished)) for study in studies)
    estimator = _Estimator(store, snapshot) if to_do or n_trials or again else None
    costs = [estimator.cost(task) for task in to_do] if estimator else []
    of_trials = [cost for study in studies for cost in _trial_costs(study, trials, estimator)]
    machine_types = list(dict.fromkeys(resolved.machine_type for task in tasks for resolved in task.jobs))
    fresh_seeds = list(dict.fromkeys(resolved.seed for resolved in again))
    fresh = _fresh_costs(studies, trials, again, fresh_seeds, machine_types, estimator)
    n_steps, n_trial_steps, n_fresh_steps = (
        sum(cost.steps for cost in each) for each in (costs, of_trials, fresh)
    )
    parts = [f"{format_amount(n_steps, 'step')} to train"] if n_steps else []
    if n_trials:
        in_trials = f", up to {format_amount(n_trial_steps, 'step')}" if n_trial_steps else ""
        parts.append(f"{format_amount(n_trials, 'trial')} to run{in_trials}")
    if fresh:
        in_fresh = f", up to {format_amount(n_fresh_steps, 'step')}" if n_fresh_steps else ""
        seeds = format_amount(len(fresh_seeds), "fresh seed")
        parts.append(f"up to {format_amount(len(fresh), 'training')} with {seeds}{in_fresh}")
    duration_s = _duration_s([*costs, *of_trials, *fresh], options)
    if parts and duration_s is not None:
        n_workers = options.n_workers or 1
        parts.append(
            f"about {format_duration(duration_s)} on {format_amount(n_workers, 'worker')} with start-up and "
            f"scoring, at the speed of earlier trainings"
        )
    print_message(console, "; ".join([message, *parts]))
    by_cost = sorted(zip(costs, to_do, strict=True), key=lambda pair: -pair[0].rank)
    return [task for _, task in by_cost]


def _duration_s(costs: Sequence[_Cost], options: ExecutionOptions) -> float | None:
    """Return how long tasks take on all workers at a time, with the start; None if a cost is unknown."""
    seconds = [cost.seconds for cost in costs if cost.seconds is not None]
    if len(seconds) < len(costs) or not seconds:
        return None
    return options.startup_s + max(sum(seconds) / (options.n_workers or 1), *seconds)


def _trial_costs(study: Study, trials: int, estimator: "_Estimator | None") -> list[_Cost]:
    """Return the costs of the tasks of the trials that a study lacks, as if none were stopped early.

    The untuned trial is left out, because its jobs are the run's own.
    """
    n_left = trials - max(1, len(study.finished))
    if estimator is None or n_left <= 0:
        return []
    jobs = jobs_with(study, study.space.start, study.machine_types)
    trains = any(setting.affects == "training" for setting in study.space.settings)
    tasks = by_training(resolved for of_type in jobs.values() for resolved in of_type)
    return [estimator.cost(task, is_new=True, trains=trains) for task in tasks] * n_left


def _fresh_costs(
    studies: Sequence[Study],
    trials: int,
    again: Sequence[ResolvedJob],
    seeds: Sequence[int],
    machine_types: Sequence[str],
    estimator: "_Estimator | None",
) -> list[_Cost]:
    """Return the costs of the tasks that score with fresh seeds what studies find, without finished ones.

    As long as trials are to come, each choice of settings costs as much as the untuned system.
    """
    if estimator is None or not seeds:
        return []
    known = list(again)
    costs: list[_Cost] = []
    for study in studies:
        if len(study.finished) >= trials:
            result = StudyResult.from_study(study, machine_types, fresh_seeds=seeds)
            known += result.all_jobs if result else []
            continue
        trains = any(setting.affects == "training" for setting in study.space.settings)
        of_types = [study.held_out] if study.held_out else machine_types
        jobs = jobs_with(study, study.space.start, of_types, seeds=seeds)
        tasks = by_training(resolved for of_type in jobs.values() for resolved in of_type)
        others = [estimator.cost(task, is_new=True, trains=trains) for task in tasks]
        costs += others * (n_candidates(study, trials) - 1)
    return costs + [estimator.cost(task) for task in by_training(known) if not estimator.is_done(task)]


class _Estimator:
    """Estimates the cost of tasks from those that are stored.

    Parameters
    ----------
    store, snapshot : where results are, and what is finished
    """

    def __init__(self, store: JobStore, snapshot: StoreSnapshot) -> None:
        self._snapshot = snapshot
        self._speeds = store.training_speeds()
        self._scoring_s = store.scoring_seconds()
        self._steps: dict[tuple[str, str, str], int] = {}
        for name, speed in self._speeds.items():
            logger.info("%s trains at %.3g steps per second", name, speed)

    def is_done(self, task: TrainingTask) -> bool:
        """Return whether a task is finished."""
        return self._snapshot.is_done(task)

    def cost(self, task: TrainingTask, *, is_new: bool = False, trains: bool = True) -> _Cost:
        """Return the cost of a task; one that ``is_new`` has no stored training, whatever the store says."""
        scoring_s = sum(self._scoring_s.get(name, 0.0) for name in task.systems)
        if not trains or (not is_new and self._snapshot.is_trained(task.first)):  # only scores are missing
            return _Cost(0, scoring_s)
        n_steps = self._n_steps(task)
        rate = self._speeds.get(task.first.configured.trainer.name)
        return _Cost(n_steps, n_steps / rate + scoring_s if rate else None)

    def _n_steps(self, task: TrainingTask) -> int:
        """Return the steps of a training; the same system on the same machine type is counted once."""
        from asdbench.engine.training import total_steps

        first, trainer = task.first, task.first.configured.trainer
        like = (trainer.name, first.job.machine_type, repr(trainer.values()))
        if like not in self._steps:
            self._steps[like] = total_steps(first.configured.build_trained(first.clips.facts), first.clips)
        return self._steps[like]
