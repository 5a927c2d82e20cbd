"""An executor that trains in this process and plays the trials of searches, which else need a Ray cluster."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from asdbench.driver.executor import ExecutionOptions
from asdbench.driver.features import build_features
from asdbench.engine.events import Failure
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import TrainingTask, by_training
from asdbench.engine.local import run_local
from asdbench.io.workspace import Workspace
from asdbench.search.fusion import BatchResult, RunStudy
from asdbench.search.studies import Study, Trial
from asdbench.search.trial_scores import jobs_with, mean_official_score, section_metrics_per_seed

Draw = Callable[[Study, int], Mapping[str, Any]]


class PlayedExecutor:
    """Runs tasks as the executor does, and trial n of a study with the parameters that ``draw`` returns.

    Attributes
    ----------
    ran : labels of the tasks of each call of `run`, without those of trials
    weight_studies : the machine types that weight studies left out
    """

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self.options = ExecutionOptions()
        self.ran: list[list[str]] = []
        self.weight_studies: list[str | None] = []

    def opened(
        self,
        options: ExecutionOptions,
        store: JobStore,
        workspace: Workspace,
        *,
        console: Any,
        on_trial: Callable[[Study, Trial], None],
    ) -> Self:
        """Stand for ``Executor(...)``."""
        self._store, self._console, self._on_trial = store, console, on_trial
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def warm_up(self) -> None:
        """Do nothing."""

    def run(
        self,
        tasks: Iterable[TrainingTask],
        *,
        expected: int | None = None,
        studies: Sequence[Study] = (),
        trials: int = 0,
    ) -> list[Failure]:
        """Run tasks and trials."""
        snapshot = self._store.snapshot()
        to_do = [task for task in tasks if not snapshot.is_done(task)]
        self.ran.append([task.label for task in to_do])
        failures = self._train(to_do)
        for study in studies:
            for number in range(len(study.trials), trials):
                study.trials.append(self._trial(study, number))
                study.save(self._store)
                self._on_trial(study, study.trials[-1])
        return failures

    def run_weight_studies(self, run_study: RunStudy, studies: Sequence[str | None]) -> list[BatchResult]:
        """Run weight studies in this process."""
        self.weight_studies += studies
        return [run_study(held_out) for held_out in studies]

    def _train(self, tasks: Sequence[TrainingTask]) -> list[Failure]:
        build_features([resolved for task in tasks for resolved in task.jobs], console=self._console)
        return run_local(tasks, self._store, checkpoint_epochs=1, on_event=lambda _: None)

    def _trial(self, study: Study, number: int) -> Trial:
        parameters = dict(self._draw(study, number)) if number else {}
        jobs = jobs_with(study, {**study.space.start, **parameters}, study.machine_types)
        assert self._train(by_training(job for of_type in jobs.values() for job in of_type)) == []
        judged = [section_metrics_per_seed(of_type, self._store) for of_type in jobs.values()]
        rungs = [mean_official_score(judged[:n], rule=study.data.rule) for n in range(1, len(judged) + 1)]
        types = {name: dict(of_type[0][0]) for name, of_type in zip(jobs, judged, strict=True)}
        return Trial(number, parameters, "complete", rungs, types, ended_unix_s=2e9)
