"""What the conductor makes of trials, with a crew of this process and a tuner that does as it is told."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from asdbench import registry
from asdbench.cluster.tuning import Asked, Over
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.driver.conductor import Conductor
from asdbench.driver.progress import ProgressDisplay
from asdbench.engine.evaluation import evaluate
from asdbench.engine.events import Event, TaskFinished
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, TrainingTask, by_training
from asdbench.engine.local import run_local
from asdbench.io.workspace import Workspace
from asdbench.metrics import official_score
from asdbench.search.plan import Search, studies_for_system
from asdbench.search.studies import Study, Trial
from asdbench.testing import write_tiny

SMALL = {"epochs": 1, "hidden": 8, "n_mels": 16, "frames": 2}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ASDBENCH_STORAGE", raising=False)
    return catalog.add(
        Workspace.from_environment(), "tiny", write_tiny(tmp_path / "recordings", test_clips_per_cell=4)
    )


class Crew:
    """Does works when it is asked what happened, in the order of their priorities."""

    groups = 1

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.tasks: dict[int, tuple[tuple[float, ...], TrainingTask]] = {}
        self.waiting: list[int] = []
        self.works_now = False
        self.scores: dict[str, list[float]] = {}

    def submit(self, tasks: Iterable[tuple[TrainingTask, Sequence[float]]]) -> list[int]:
        first = len(self.tasks)
        for task, priority in tasks:
            self.tasks[len(self.tasks)] = tuple(priority), task
        self.waiting += range(first, len(self.tasks))
        return list(range(first, len(self.tasks)))

    def listen(self) -> list[Event]:
        self.works_now = not self.works_now  # between works there is time to stop a trial
        if not self.waiting or not self.works_now:
            return []
        number = min(self.waiting, key=lambda number: self.tasks[number][0])
        self.waiting.remove(number)
        failures = run_local(
            [self.tasks[number][1]], self.store, checkpoint_epochs=1, on_event=lambda _: None
        )
        return [TaskFinished(number, tuple(failures))]

    def withdraw(self, tasks: Iterable[int]) -> list[int]:
        gone = [number for number in tasks if number in self.waiting]
        self.waiting = [number for number in self.waiting if number not in gone]
        return gone

    def score(self, trial: str, scores: Sequence[float]) -> None:
        self.scores[trial] = list(scores)


class Tuner:
    """Asks for trials one after another and ends each after a number of rungs."""

    error = None

    def __init__(self, crew: Crew, study: Study, trials: Sequence[tuple[dict[str, Any], int]]) -> None:
        self.crew, self.study, self.trials = crew, study, list(trials)
        self.now: str | None = None

    @property
    def alive(self) -> bool:
        return bool(self.trials) or self.now is not None

    def messages(self) -> Iterator[Asked | Over]:
        if self.now is None:
            parameters, self.rungs = self.trials.pop(0)
            self.now = f"trial {len(self.trials)}"
            yield Asked(self.now, self.study.key, parameters)
        elif len(self.crew.scores.get(self.now, ())) >= self.rungs:
            name, self.now = self.now, None
            yield Over(name, self.study.key, {"types": self.rungs})


@pytest.fixture
def conducted(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What runs given trials and returns the study, the crew, and the trials that were told to have ended."""

    def run(*trials: tuple[dict[str, Any], int]) -> tuple[Study, Crew, list[Trial]]:
        configured = registry.configure("baseline-mse", SMALL)
        jobs = [ResolvedJob(configured, data, machine_type, 0) for machine_type in data.machine_types]
        (study,) = studies_for_system(jobs, Search(trials=len(trials)), fixed=["epochs", "n_mels", "frames"])
        store, told, tasks = JobStore.from_workspace(Workspace.from_environment()), [], {}  # type: ignore[var-annotated]
        crew = Crew(store)
        console = Console(file=(data.root / "said").open("w"))
        conductor = Conductor(
            crew,  # type: ignore[arg-type]
            store,
            tasks,
            ProgressDisplay(tasks, console),
            prepare_data=lambda _: None,
            on_trial=lambda _, trial: told.append(trial),
        )

        def tuning(studies: Sequence[Study], count: int) -> Tuner:
            conductor._studies, conductor._trials = {study.key: study}, count
            return Tuner(crew, study, trials)

        monkeypatch.setattr(conductor, "_tuning", tuning)
        monkeypatch.setattr("asdbench.driver.conductor._POLL_S", 0.0)
        with conductor._watch:
            assert conductor.do(by_training(jobs), studies=[study], trials=len(trials)) == []
        return study, crew, told

    return run


def test_a_trial_is_judged_as_a_run_with_its_settings_would_be(conducted: Any, data: DataSet) -> None:
    study, crew, told = conducted(({}, 2), ({"hidden": 12}, 2))
    assert [trial.state for trial in study.trials] == ["complete", "complete"]
    assert told == study.trials
    assert len(crew.tasks) == 4  # the first trial's are the untuned ones
    for trial, hidden in zip(study.trials, (8, 12), strict=True):
        configured = registry.configure("baseline-mse", {**SMALL, "hidden": hidden})
        sections = [
            section.official
            for machine_type in ("fan", "valve")
            for section in evaluate(
                ResolvedJob(configured, data, machine_type, 0),
                JobStore.from_workspace(Workspace.from_environment()),
            ).record.sections.values()
        ]
        assert trial.rungs == [official_score(sections[:1]), official_score(sections)]
        assert list(trial.types) == ["fan", "valve"]
    stored = Study(**{**vars(study), "trials": [], "started": set()})
    stored.load(JobStore.from_workspace(Workspace.from_environment()))
    assert stored.trials == study.trials


def test_a_trial_whose_settings_are_refused_fails_alone(conducted: Any) -> None:
    study, crew, _ = conducted(({"hidden": 0}, 2), ({"hidden": 12}, 2))
    assert [trial.state for trial in study.trials] == ["failed", "complete"]
    assert "hidden=0 is below the minimum" in (study.trials[0].message or "")
    assert crew.scores["trial 1"] == [0.0, 0.0]


def test_a_trial_whose_training_diverges_fails_alone(conducted: Any) -> None:
    study, _, _ = conducted(({"learning_rate": 1e30}, 2), ({}, 2))
    assert [trial.state for trial in study.trials] == ["failed", "complete"]
    assert "training diverged" in (study.trials[0].message or "")


def test_a_trial_that_is_stopped_takes_its_waiting_works_back(conducted: Any) -> None:
    study, _, _ = conducted(({"hidden": 12}, 1), ({}, 2))
    assert [trial.state for trial in study.trials] == ["pruned", "complete"]
    assert len(study.trials[0].rungs) == 1
    trained = JobStore.from_workspace(Workspace.from_environment()).root.names("trainings", "/training.json")
    assert len(trained) == 3  # two untuned ones and one of the stopped trial
