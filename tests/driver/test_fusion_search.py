"""A fusion search is made once, stored, and the same wherever its studies run."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from asdbench import registry
from asdbench.data.sets.catalog import DataSet
from asdbench.driver.fusion_search import (
    FusionResult,
    MemberTuning,
    search_fusion_weights,
    searches_of_members,
)
from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError
from asdbench.metrics import official_score
from asdbench.search.fusion import BatchResult, RunStudy
from asdbench.search.plan import Search, studies_for_system
from asdbench.search.studies import Trial

SMALL = {"epochs": 1, "hidden": 8, "n_mels": 16, "frames": 2, "members": "baseline-mse,baseline-maha"}


def search(data: DataSet, store: JobStore, **options: Any) -> FusionResult:
    ensemble = registry.configure("ensemble", SMALL)
    return search_fusion_weights(
        ensemble, data, store, seeds=[0], pseudo_anomaly_data=None, **{"evaluations": 300, **options}
    )


def test_a_search_marks_its_jobs_and_reports_their_score(
    scored_jobs: list[ResolvedJob], tiny_data: DataSet, store: JobStore
) -> None:
    progress: list[tuple[int, int]] = []
    result = search(tiny_data, store, on_progress=lambda *counts: progress.append(counts))
    assert progress[-1] == (900, 900)  # all types, without fan, without valve
    assert [count for count, _ in progress] == sorted(count for count, _ in progress)
    assert (result.tuned.trials, result.tuned.weight_vectors, result.tuned.seeds) == (0, 300, (0,))
    assert result.tuned.score == result.report.score
    assert [resolved.job.machine_type for resolved in result.jobs] == ["fan", "valve"]
    assert result.ensemble.config.weights == tuple(result.report.weights)
    sections = [
        section.official
        for resolved in result.jobs
        for section in evaluate(resolved, store, subset="dev").record.sections.values()
    ]
    assert official_score(sections, rule=tiny_data.rule) == pytest.approx(result.report.score, abs=1e-12)
    assert set(result.report.left_out) == {"fan", "valve"}


def test_a_stored_search_is_loaded_and_another_one_is_not(
    scored_jobs: list[ResolvedJob], tiny_data: DataSet, store: JobStore
) -> None:
    def fail(*_: object) -> list[BatchResult]:
        raise AssertionError("the search is stored")

    first = search(tiny_data, store)
    assert search(tiny_data, store, run_studies=fail) == first
    assert store.root.names("searches") == [f"searches/{first.tuned.search}.json"]
    for change in ({"evaluations": 301}, {"seed": 1}):
        assert search(tiny_data, store, **change).tuned.search != first.tuned.search


def test_who_runs_the_studies_does_not_change_what_is_found(
    scored_jobs: list[ResolvedJob], tiny_data: DataSet, store: JobStore
) -> None:
    def in_threads(run_study: RunStudy, studies: Sequence[str | None]) -> list[BatchResult]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(run_study, studies))

    here = search(tiny_data, store)
    store.root.delete_folder("searches")
    assert store.root.names("searches") == []
    assert search(tiny_data, store, run_studies=in_threads) == here


def test_members_without_scores_are_refused(tiny_data: DataSet, store: JobStore) -> None:
    with pytest.raises(InputError, match=r"member 'baseline-m\w+' of ensemble has no scores"):
        search(tiny_data, store)


def test_members_with_settings_that_a_search_chose_are_not_compared_on_its_types(
    scored_jobs: list[ResolvedJob], tiny_data: DataSet, store: JobStore
) -> None:
    ensemble = registry.configure("ensemble", SMALL)
    assert searches_of_members(ensemble, tiny_data, store) == {}
    untuned = search(tiny_data, store)
    (study,) = studies_for_system(scored_jobs[:2], Search(7), fixed=["hidden"])
    start = dict(study.space.start) | {"epochs": 2}
    changed = study.space.start
    object.__setattr__(study.space, "start", start)  # so that the members' settings are a choice
    study.trials.append(Trial(0, dict(changed), "complete", [0.5, 0.6]))
    study.save(store)
    assert searches_of_members(ensemble, tiny_data, store) == {study.key: 1}
    tuned = search(tiny_data, store, tuning=MemberTuning(searches_of_members(ensemble, tiny_data, store)))
    assert (tuned.tuned.search, tuned.tuned.trials) == (untuned.tuned.search, 1)
    assert (tuned.report.equal_weights, tuned.report.left_out) == (None, {})
    assert tuned.report.weights == untuned.report.weights
