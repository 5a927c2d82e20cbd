"""What a trial of a search asks for, and how it is judged."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from asdbench import registry
from asdbench.driver.features import build_features
from asdbench.driver.task_requests import RequestBuilder
from asdbench.driver.trial_work import StudyTrials
from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, by_training
from asdbench.engine.local import run_local
from asdbench.errors import InputError
from asdbench.metrics import official_score
from asdbench.search.plan import Search, studies_for_system
from asdbench.search.studies import Study

Jobs = Callable[..., list[ResolvedJob]]


@pytest.fixture
def study(small_jobs: Jobs) -> Study:
    (found,) = studies_for_system(small_jobs(), Search(trials=4), fixed=["epochs", "n_mels", "frames"])
    return found


@pytest.fixture
def work(study: Study, store: JobStore) -> StudyTrials:
    """As it arrives in the trial's process."""
    made = StudyTrials({study.key: study}, store, RequestBuilder(publishes=False))
    return pickle.loads(pickle.dumps(made))  # type: ignore[no-any-return]


def config(study: Study, **parameters: object) -> Any:
    return {"study": study.key, "number": 3, "parameters": parameters}


def test_earlier_machine_types_of_all_trials_come_before_later_ones(study: Study, work: StudyTrials) -> None:
    rungs = work.requests(config(study, hidden=12))
    assert [[request.label for request in rung] for rung in rungs] == [
        ["fan baseline-mse seed 0, trial 3"],
        ["valve baseline-mse seed 0, trial 3"],
    ]
    assert [rung[0].priority for rung in rungs] == [(1, 3), (2, 3)]


def test_what_is_stored_is_not_asked_for(
    study: Study, work: StudyTrials, small_jobs: Jobs, store: JobStore, output: Any
) -> None:
    (fan, _) = small_jobs()
    build_features([fan], console=output)
    assert run_local(by_training([fan]), store, checkpoint_epochs=1, on_event=lambda _: None) == []
    assert [len(rung) for rung in work.requests(config(study))] == [0, 1]


def test_settings_that_do_not_go_together_are_bad_input(study: Study, work: StudyTrials) -> None:
    with pytest.raises(InputError, match="hidden=0 is below the minimum"):
        work.requests(config(study, hidden=0))


def test_a_trial_is_judged_as_a_run_with_its_settings_would_be(
    study: Study, work: StudyTrials, small_jobs: Jobs, store: JobStore, output: Any
) -> None:
    jobs = small_jobs(hidden=12)
    build_features(jobs, console=output)
    assert run_local(by_training(jobs), store, checkpoint_epochs=1, on_event=lambda _: None) == []
    judgments = list(work.judge(config(study, hidden=12)))
    assert registry.configure("baseline-mse", dict(jobs[0].job.settings)).values()["hidden"] == 12
    sections = [
        section.official
        for resolved in jobs
        for section in evaluate(resolved, store).record.sections.values()
    ]
    assert [judgment.machine_type for judgment in judgments] == ["fan", "valve"]
    assert [judgment.score for judgment in judgments] == [
        official_score(sections[:1]),
        official_score(sections),
    ]
