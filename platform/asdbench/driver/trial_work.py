"""Trials of searches: what each does, which is sent to its process, and the experiment that starts them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import optuna

from asdbench.cluster.messages import TaskRequest
from asdbench.driver.task_requests import RequestBuilder
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, by_training
from asdbench.metrics import summary
from asdbench.search.studies import Study
from asdbench.search.trial_scores import jobs_with, mean_official_score, section_metrics_per_seed

if TYPE_CHECKING:
    from asdbench.cluster.experiment import Course, Experiment
    from asdbench.cluster.session import Session
    from asdbench.cluster.trials import Judgment, TrialConfig
    from asdbench.driver.search_progress import SearchProgress


@dataclass(frozen=True)
class StudyTrials:
    """What the trials of some studies do; see :class:`asdbench.cluster.trials.TrialWork`.

    Attributes
    ----------
    studies : by key, without their trials
    store : where results are
    builder : makes the requests
    """

    studies: Mapping[str, Study]
    store: JobStore
    builder: RequestBuilder

    def requests(self, config: "TrialConfig") -> list[list[TaskRequest]]:
        """Return the tasks of each machine type that are not done; raise `InputError` for bad settings.

        Those of earlier machine types of all trials come first, so that a trial is stopped before its last
        ones are trained.
        """
        number = config["number"]
        rungs = []
        for rung, jobs in enumerate(self._jobs_of(config).values(), start=1):
            to_do = [task for task in by_training(jobs) if not self.store.is_done(task)]
            requests = (self.builder.request(task, (rung, number)) for task in to_do)
            rungs.append([replace(asked, label=f"{asked.label}, trial {number}") for asked in requests])
        return rungs

    def judge(self, config: "TrialConfig") -> "Iterator[Judgment]":
        """Yield the judgment of each machine type, in the order of `requests`."""
        from asdbench.cluster.trials import Judgment

        rule = self.studies[config["study"]].data.rule
        judged = []
        for machine_type, jobs in self._jobs_of(config).items():
            judged.append(section_metrics_per_seed(jobs, self.store))
            flat = [metrics for of_seed in judged[-1] for metrics in of_seed]
            yield Judgment(mean_official_score(judged, rule=rule), machine_type, summary(flat, rule=rule))

    def _jobs_of(self, config: "TrialConfig") -> Mapping[str, Sequence[ResolvedJob]]:
        study = self.studies[config["study"]]
        return jobs_with(study, {**study.space.start, **config["parameters"]}, study.machine_types)


def start_trials(
    progress: "SearchProgress", session: "Session", store: JobStore, builder: RequestBuilder, *, trials: int
) -> "Experiment":
    """Start the trials that the studies lack up to ``trials`` each, in one Ray Tune experiment."""
    from asdbench.cluster.experiment import Experiment, trials_at_a_time

    storage = optuna.storages.InMemoryStorage()
    courses = [
        _course(study, trials - len(study.finished), storage)
        for study in progress.studies.values()
        if len(study.finished) < trials
    ]
    bare = {key: replace(study, trials=[], started=set()) for key, study in progress.studies.items()}
    return Experiment(
        courses,
        StudyTrials(bare, store, builder),
        progress,
        session.scheduler,
        node=session.node,
        at_a_time=trials_at_a_time(session.capacity, courses, memory_bytes=_memory_bytes() / 2),
    )


def _course(study: Study, trials: int, storage: optuna.storages.BaseStorage) -> "Course":
    from asdbench.cluster.experiment import Course, optuna_search

    study.to_optuna(study.key, storage)
    search = optuna_search(study.space.suggest, name=study.key, storage=storage, sampler=study.sampler())
    return Course(study.key, search, trials, len(study.machine_types))


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
