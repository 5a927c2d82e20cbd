"""Scored jobs are judged by system, seed and subset; what cannot be evaluated is named."""

from dataclasses import replace

from asdbench.driver.judging import judge
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.result_record import SearchProvenance
from asdbench.engine.stored_results import current_results


def test_a_system_is_judged_over_all_scored_machine_types(
    scored_jobs: list[ResolvedJob], store: JobStore
) -> None:
    judged, failures, notes = judge(scored_jobs, store)
    assert (failures, notes) == ([], [])
    assert [(item.system, item.seed, item.subset) for item in judged] == [
        ("baseline-mse", 0, "dev"),
        ("baseline-maha", 0, "dev"),
    ]
    for item in judged:
        assert list(item.records) == ["fan", "valve"]
        assert item.settings == scored_jobs[0].configured.changed()
    assert len(current_results(scored_jobs[0].data, store).records) == 4


def test_machine_types_of_earlier_runs_count_and_those_without_scores_do_not(
    scored_jobs: list[ResolvedJob], store: JobStore
) -> None:
    (item,), _, _ = judge(scored_jobs[:1], store)
    assert list(item.records) == ["fan", "valve"]
    other_seed = [replace(resolved, seed=5) for resolved in scored_jobs]
    assert judge(other_seed, store) == ([], [], [])


def test_a_search_marks_the_results_that_it_chose(scored_jobs: list[ResolvedJob], store: JobStore) -> None:
    tuned = SearchProvenance("abc", 7, "dev")
    judge(scored_jobs[:2], store, tuned=tuned)
    records = current_results(scored_jobs[0].data, store).records
    assert [record.tuned for record in records] == [tuned, tuned]
