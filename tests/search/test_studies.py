"""A study: what it knows after an interruption, and what its trials draw."""

from typing import Any

import optuna

from asdbench import registry
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.job_store import JobStore
from asdbench.io.workspace import Workspace
from asdbench.search.plan import Search, studies_for_system
from asdbench.search.studies import RANDOM_TRIALS, Study, Trial
from tests.search.problems import jobs


def study_of(data: DataSet, search: Search = Search(trials=20), **arguments: Any) -> Study:  # noqa: B008
    (study,) = studies_for_system(jobs(data, **arguments), search, fixed=())
    return study


def draw(study: Study, count: int) -> list[dict[str, Any]]:
    """Let a study draw trials one after another, each judged by its learning rate."""
    asked = study.to_optuna("s", optuna.storages.InMemoryStorage())
    drawn = []
    for _ in range(count):
        trial = asked.ask()
        parameters = study.space.suggest(trial)
        own = study.start_trial(parameters)
        own.rungs = [parameters["learning_rate"]]
        own.state = "complete"
        asked.tell(trial, own.score)
        drawn.append(parameters)
    return drawn


def test_the_first_trial_is_the_system_untuned(data: DataSet) -> None:
    study = study_of(data)
    first, second = draw(study, 2)
    assert study.settings(study.trials[0]) == registry.configure("baseline-mse").values()
    assert first != second
    assert study.machine_types == ("fan", "pump", "valve")


def test_what_is_drawn_depends_on_seed_and_number_alone_while_it_is_random(data: DataSet) -> None:
    whole = draw(study_of(data), RANDOM_TRIALS)
    assert draw(study_of(data), RANDOM_TRIALS) == whole
    assert draw(study_of(data, Search(trials=20, seed=1)), 2)[1] != whole[1]
    asked = study_of(data).to_optuna("s", optuna.storages.InMemoryStorage())
    together = [study_of(data).space.suggest(asked.ask()) for _ in range(RANDOM_TRIALS)]  # none is told
    assert together == whole


def test_a_study_that_goes_on_draws_what_one_without_an_interruption_draws(data: DataSet) -> None:
    whole = draw(study_of(data), 14)
    store = JobStore.from_workspace(Workspace.from_environment())
    before = study_of(data)
    draw(before, 6)
    before.save(store)
    after = study_of(data)
    after.load(store)
    assert after.trials == before.trials
    assert draw(after, 8) == whole[6:]
    assert [trial.number for trial in after.trials] == list(range(14))


def test_a_trial_under_way_is_drawn_again_and_keeps_its_number(data: DataSet) -> None:
    study = study_of(data)
    draw(study, 3)
    study.trials[1].state = "running"
    study.trials[1].rungs = [0.5]
    study.save(JobStore.from_workspace(Workspace.from_environment()))
    after = study_of(data)
    after.load(JobStore.from_workspace(Workspace.from_environment()))
    assert len(after.finished) == 2
    again = draw(after, 2)
    assert again[0] == study.trials[1].parameters
    assert after.trials[1].rungs == [again[0]["learning_rate"]]
    assert [trial.number for trial in after.trials] == [0, 1, 2, 3]


def test_the_best_is_the_highest_whole_score_and_of_equals_the_first(data: DataSet) -> None:
    study = study_of(data)
    assert study.best_trial() is None
    study.trials.extend(
        [
            Trial(0, {}, "complete", [0.4, 0.5]),
            Trial(1, {}, "complete", [0.1, 0.6]),
            Trial(2, {}, "complete", [0.7, 0.6]),
            Trial(3, {}, "pruned", [0.9]),
            Trial(4, {}, "failed", [0.95]),
            Trial(5, {}, "running", [0.99]),
        ]
    )
    best = study.best_trial()
    assert best is not None
    assert best.number == 1
    assert study.trials[4].score == 0
    untuned = study.untuned_trial()
    assert untuned is not None
    assert untuned.score == 0.5


def test_a_study_is_named_by_all_that_its_course_depends_on(data: DataSet) -> None:
    one = study_of(data)
    assert study_of(data).key == one.key
    assert study_of(data, Search(trials=99)).key == one.key  # more trials go on with the same study
    pseudo_anomaly_data = [
        study_of(data, Search(trials=20, seed=1)),
        study_of(data, Search(trials=20, only_settings=("learning_rate",))),
        study_of(data, seeds=(0, 1)),
        study_of(data, system="baseline-maha"),
    ]
    assert len({one.key, *(other.key for other in pseudo_anomaly_data)}) == 5
