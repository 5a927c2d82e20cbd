"""The results of studies: jobs with the best settings, and the score on machine types left out."""

from typing import Any

import pytest

from asdbench.driver.study_results import (
    StudyResult,
    left_out_tables,
    mean_official_score,
    section_metrics_per_seed,
    studies_for_run,
)
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError
from asdbench.metrics import official_score
from asdbench.search.plan import Search
from asdbench.search.studies import Study, Trial

FIXED = {"epochs": 1, "hidden": 8, "n_mels": 16, "frames": 2}


def studies(jobs: list[ResolvedJob], output: Any, protocol: str = "dev", **settings: Any) -> list[Study]:
    return studies_for_run(
        jobs,
        Search(trials=2, protocol=protocol),
        preset=None,
        settings={**FIXED, **settings},
        subset=None,
        console=output,
    )


def test_the_jobs_of_a_study_have_its_best_settings(scored_jobs: list[ResolvedJob], output: Any) -> None:
    study, _ = studies(scored_jobs, output)
    assert StudyResult.from_study(study, ["fan", "valve"]) is None
    study.trials.append(Trial(0, {}, "complete", [0.5, 0.6]))
    study.trials.append(Trial(1, {"batch_size": 32}, "complete", [0.5, 0.7]))
    result = StudyResult.from_study(study, ["fan", "valve"])
    assert result is not None
    assert [resolved.job.machine_type for resolved in result.jobs] == ["fan", "valve"]
    assert {resolved.job.settings["batch_size"] for resolved in result.jobs} == {32}
    assert (result.tuned.search, result.tuned.trials) == (study.key, 2)


def test_fixed_settings_are_not_searched_and_what_has_nothing_to_search_is_refused(
    scored_jobs: list[ResolvedJob], output: Any
) -> None:
    mse, maha = studies(scored_jobs, output)
    assert (mse.system, maha.system) == ("baseline-mse", "baseline-maha")
    for study in (mse, maha):
        assert not {setting.name for setting in study.space.settings} & FIXED.keys()
    every = {
        setting.name: study.space.start[setting.name]
        for study in (mse, maha)
        for setting in study.space.settings
    }
    with pytest.raises(InputError, match="has no setting to search"):
        studies(scored_jobs, output, **every)


def test_the_table_of_left_out_types_scores_each_with_settings_found_without_it(
    scored_jobs: list[ResolvedJob], store: JobStore, output: Any
) -> None:
    results = []
    for study in studies(scored_jobs[:2], output, "leave-one-type-out"):
        study.trials.append(Trial(0, {}, "complete", [0.5]))
        result = StudyResult.from_study(study, ["fan", "valve"])
        assert result is not None
        assert [resolved.job.machine_type for resolved in result.jobs] == [study.held_out]
        results.append(result)
    (table,) = left_out_tables(results, store)
    output.print(table)
    rows = {line.split()[0]: line.split()[1:3] for line in output.lines if line.split()}
    metrics = {r.study.held_out: section_metrics_per_seed(r.jobs, store) for r in results}
    for machine_type, by_seed in metrics.items():
        expected = f"{100 * official_score(by_seed[0], rule=scored_jobs[0].data.rule):.2f}"
        assert rows[str(machine_type)] == [expected, expected]  # the best trial is the untuned one
    rule = scored_jobs[0].data.rule
    overall = f"{100 * mean_official_score(list(metrics.values()), rule=rule):.2f}"
    assert rows["all"] == [overall, overall]
