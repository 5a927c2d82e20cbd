"""Conducts the works of a run on a crew: the untuned ones, and those that the trials of searches ask for.

Everything that knows labels happens here, in the driver: works go to the crew, and when all works of a
machine type are done its scores are judged, so that a trial learns the official score over the types that are
finished. All machine types of a trial are queued at once, behind the earlier rungs of other trials: a cluster
is filled without pruning being in vain. A trial that is pruned takes its waiting works back.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna

from asdbench.cluster.crew import Crew, CrewError
from asdbench.driver.progress import ProgressDisplay
from asdbench.driver.study_results import jobs_with, mean_official_score, section_metrics_per_seed
from asdbench.engine.events import Failure, TaskFinished
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, TrainingTask, by_training
from asdbench.errors import InputError
from asdbench.metrics import summary
from asdbench.report.formatting import format_percent
from asdbench.search.studies import Study, Trial

_POLL_S = 0.1
_FEW_TRIALS = 8  # at a time, on a cluster that they fill


@dataclass
class _Running:
    """A trial under way: its jobs by machine type, and the works that are not over."""

    study: Study
    trial: Trial
    jobs: Mapping[str, Sequence[ResolvedJob]] = field(default_factory=dict)
    open: dict[str, set[int]] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)
    judged: dict[str, list[list[Mapping[str, float]]]] = field(default_factory=dict)  # a list of each seed
    failed: str | None = None


class Conductor:
    """Does works and searches on a crew.

    Parameters
    ----------
    crew : entered
    store : where results are
    works : filled with every work that is submitted, by number
    watch : shows the progress
    prepare_data : called with the jobs of a trial before they are submitted: builds what they read
    on_trial : called whenever a trial has ended
    """

    def __init__(
        self,
        crew: Crew,
        store: JobStore,
        tasks: dict[int, TrainingTask],
        watch: ProgressDisplay,
        *,
        prepare_data: Callable[[Sequence[ResolvedJob]], None],
        on_trial: Callable[[Study, Trial], None],
    ) -> None:
        self._crew = crew
        self._store = store
        self._works = tasks
        self._watch = watch
        self._prepare_data = prepare_data
        self._on_trial = on_trial
        self._number_of: dict[tuple[Any, ...], int] = {}
        self._over: dict[int, list[Failure]] = {}
        self._of_trials: set[int] = set()
        self._running: dict[str, _Running] = {}

    def do(
        self, tasks: Sequence[TrainingTask], *, studies: Sequence[Study] = (), trials: int = 0
    ) -> list[Failure]:
        """Do works, and run each study to ``trials`` trials; returns the works that failed.

        A work that fails in a trial alone fails that trial.
        """
        wanted = self._submit((task, (0, place)) for place, task in enumerate(tasks))
        tuning = self._tuning(studies, trials)
        try:
            while wanted - self._over.keys() or (tuning is not None and tuning.alive):
                self._listen()
                if tuning is not None:
                    self._follow(tuning)
                time.sleep(_POLL_S)
        except CrewError as error:  # what is finished is worth showing all the same
            ended = f"the cluster cannot continue: {error}"
            for number in wanted:
                self._over.setdefault(
                    number, [Failure(number, self._works[number].systems, ended, bad_input=False)]
                )
        finally:
            if tuning is not None and tuning.alive:  # interrupted
                self._crew.end_trials()
                tuning.stop()
        if tuning is not None and tuning.error is not None:
            raise tuning.error
        return [failure for number in sorted(wanted) for failure in self._over.get(number, ())]

    def _submit(
        self, tasks: Iterable[tuple[TrainingTask, tuple[float, ...]]], *, trial: bool = False
    ) -> set[int]:
        """Queue works that are neither stored nor queued yet; returns the numbers of those to wait for."""
        numbers, new = set(), []
        for task, priority in tasks:
            if self._store.is_done(task):
                continue
            key = tuple(sorted(resolved.keys for resolved in task.jobs))
            if key in self._number_of:
                numbers.add(self._number_of[key])
            else:
                new.append((key, task, priority))
        submitted = self._crew.submit([(task, priority) for _, task, priority in new])
        for (key, task, _), number in zip(new, submitted, strict=True):
            self._number_of[key] = number
            self._works[number] = task
        self._of_trials.update(submitted if trial else ())
        return numbers | set(submitted)

    def _listen(self) -> None:
        for event in self._crew.listen():
            self._watch.on_event(event)
            if isinstance(event, TaskFinished):
                self._over[event.task] = list(event.failures)
                for running in self._running.values():
                    self._note(running, event.task)

    def _note(self, running: _Running, number: int) -> None:
        for waiting in running.open.values():
            waiting.discard(number)
        if number in running.numbers and self._over[number]:
            running.failed = self._over[number][0].message

    # Searches

    def _tuning(self, studies: Sequence[Study], trials: int) -> Any:
        self._studies, self._trials = {study.key: study for study in studies}, trials
        for study in studies:
            self._show(study)
        to_run = [(study, trials - len(study.finished)) for study in studies]
        if not any(count > 0 for _, count in to_run):
            return None
        from asdbench.cluster.tuning import Course, following, optuna_search

        storage = optuna.storages.InMemoryStorage()
        courses = []
        for study, count in to_run:
            if count > 0:
                study.to_optuna(study.key, storage)
                search = optuna_search(
                    study.space.suggest, name=study.key, storage=storage, sampler=study.sampler()
                )
                courses.append(Course(study.key, search, count, len(study.machine_types)))
        groups, types = self._crew.groups, max(course.rungs for course in courses)
        at_a_time = max(min(groups, _FEW_TRIALS), -(-groups // types) + (groups > _FEW_TRIALS))
        return following(courses, board=self._crew.board, at_a_time=at_a_time)

    def _follow(self, tuning: Any) -> None:
        """Take in what the experiment says, and judge what is done."""
        from asdbench.cluster.tuning import Asked

        for message in tuning.messages():
            if isinstance(message, Asked):
                self._begin(message.trial, self._studies[message.course], message.parameters)
            else:
                self._end(message.trial)
        for name, running in self._running.items():
            self._judge(name, running)

    def _begin(self, name: str, study: Study, parameters: dict[str, Any]) -> None:
        trial = study.start_trial(parameters)
        study.save(self._store)
        running = _Running(study, trial)
        self._running[name] = running
        try:
            self._start(running)
        except InputError as error:  # settings that do not go together
            running.failed = str(error)
        self._show(study)

    def _start(self, running: _Running) -> None:
        """Queue the works of a trial, the machine types of earlier rungs first."""
        study, trial = running.study, running.trial
        running.jobs = jobs_with(study, study.settings(trial), study.machine_types)
        self._prepare_data([resolved for of in running.jobs.values() for resolved in of])
        for rung, (machine_type, of) in enumerate(running.jobs.items()):
            tasks = [(task, (1 + rung, trial.number)) for task in by_training(of)]
            numbers = self._submit(tasks, trial=True)
            running.open[machine_type] = {number for number in numbers if number not in self._over}
            running.numbers |= numbers
        for number in running.numbers & self._over.keys():
            self._note(running, number)

    def _judge(self, name: str, running: _Running) -> None:
        """Give a trial the scores of the rungs that it has reached since the last call."""
        study, trial = running.study, running.trial
        if trial.state == "failed":
            return
        before = len(trial.rungs)
        if running.failed is not None:
            trial.state, trial.message = "failed", running.failed
            self._crew.score(name, [*trial.rungs, *[0.0] * (len(study.machine_types) - before)])
            return
        for machine_type in study.machine_types[before:]:
            if running.open[machine_type]:
                break
            try:
                self._finish_type(running, machine_type)
            except InputError as error:
                running.failed = str(error)
                break
        if len(trial.rungs) > before:
            self._crew.score(name, trial.rungs)

    def _finish_type(self, running: _Running, machine_type: str) -> None:
        """Judge a machine type of a trial: append the score over all types so far."""
        study, trial = running.study, running.trial
        running.judged[machine_type] = section_metrics_per_seed(running.jobs[machine_type], self._store)
        trial.rungs.append(mean_official_score(list(running.judged.values()), rule=study.data.rule))
        flat = [metrics for of_seed in running.judged[machine_type] for metrics in of_seed]
        trial.types[machine_type] = summary(flat, rule=study.data.rule)

    def _end(self, name: str) -> None:
        running = self._running.pop(name)
        study, trial = running.study, running.trial
        if trial.state == "running":
            trial.state = "complete" if len(trial.rungs) == len(study.machine_types) else "pruned"
        trial.ended_unix_s = time.time()
        study.save(self._store)
        still = {number for other in self._running.values() for number in other.numbers}
        for number in self._crew.withdraw((running.numbers - still) & self._of_trials):
            self._forget(number)
        self._on_trial(study, trial)
        finished = f"trial {trial.number} {trial.state}, {format_percent(trial.score)}"
        if trial.message is not None:
            finished += f" ({trial.message.splitlines()[-1]})"
        self._show(study, ended_trial=finished)

    def _forget(self, number: int) -> None:
        for key, of in list(self._number_of.items()):
            if of == number:
                del self._number_of[key]
        del self._works[number]

    def _show(self, study: Study, *, ended_trial: str | None = None) -> None:
        best, untuned = study.best_trial(), study.untuned_trial()
        name = study.system if study.held_out is None else f"{study.system} without {study.held_out}"
        self._watch.update_search(
            name,
            done=len(study.finished),
            trials=self._trials,
            running=sum(running.study is study for running in self._running.values()),
            best=best.score if best else None,
            untuned=untuned.score if untuned else None,
            ended_trial=ended_trial,
        )
