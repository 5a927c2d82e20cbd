"""Scored jobs become one run per system, seed and subset; what cannot be evaluated is named."""

from dataclasses import replace

from asdbench.driver.judging import judge
from asdbench.engine.evaluation import anomaly_scores, evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.result_record import SearchProvenance


def test_a_system_is_one_run_over_all_scored_machine_types(
    scored_jobs: list[ResolvedJob], store: JobStore
) -> None:
    runs, failures, notes = judge(scored_jobs, store)
    assert (failures, notes) == ([], [])
    assert [(run.system, run.seed, run.subset) for run in runs] == [
        ("baseline-mse", 0, "dev"),
        ("baseline-maha", 0, "dev"),
    ]
    for run, jobs in zip(runs, (scored_jobs[:2], scored_jobs[2:]), strict=True):
        assert run.complete
        assert run.tuned is None
        for resolved in jobs:
            machine_type = resolved.job.machine_type
            assert run.records[machine_type] == evaluate(resolved, store, subset="dev").record
            assert run.scores[machine_type].equals(anomaly_scores(resolved, store))
            assert len(run.curves[machine_type]) == 1  # one epoch


def test_machine_types_of_earlier_runs_count_and_those_without_scores_do_not(
    scored_jobs: list[ResolvedJob], store: JobStore
) -> None:
    (run,), _, _ = judge(scored_jobs[:1], store)
    assert list(run.records) == ["fan", "valve"]
    other_seed = [replace(resolved, seed=5) for resolved in scored_jobs]
    assert judge(other_seed, store) == ([], [], [])


def test_a_search_marks_the_runs_that_it_chose(scored_jobs: list[ResolvedJob], store: JobStore) -> None:
    (run,), _, _ = judge(scored_jobs[:2], store, tuned=SearchProvenance("abc", 7, "dev"))
    assert run.tuned == {"search": "abc", "trials": 7, "protocol": "dev"}
