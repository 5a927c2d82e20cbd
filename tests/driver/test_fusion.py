"""The ensembles of a run are fused with tuned members, and those that cannot be fused are noted."""

from collections.abc import Sequence
from typing import Any

from asdbench import registry
from asdbench.data.sets.catalog import DataSet
from asdbench.driver.fusion import fuse_ensembles, note_unfused
from asdbench.driver.request import RunRequest
from asdbench.driver.study_results import StudyResult, studies_for_run
from asdbench.engine.jobs import ResolvedJob
from asdbench.search.fusion import BatchResult, RunStudy
from asdbench.search.plan import Search
from asdbench.search.studies import Trial

SMALL = {"epochs": 1, "hidden": 8, "n_mels": 16, "frames": 2}
MEMBERS = "baseline-mse,baseline-maha"


class Executor:
    """Runs weight studies in this process and counts them."""

    def __init__(self) -> None:
        self.studies: list[str | None] = []

    def run_weight_studies(self, run_study: RunStudy, studies: Sequence[str | None]) -> list[BatchResult]:
        self.studies += studies
        return [run_study(held_out) for held_out in studies]


def ensemble_jobs(data: DataSet, **settings: Any) -> list[ResolvedJob]:
    ensemble = registry.configure("ensemble", {**SMALL, "members": MEMBERS, **settings})
    return [ResolvedJob.from_configured(ensemble, data, name, seed=0) for name in data.machine_types]


def test_an_ensemble_is_fused_on_the_executor_and_other_systems_are_not(
    scored_jobs: list[ResolvedJob], tiny_data: DataSet, output: Any
) -> None:
    executor, request = Executor(), RunRequest(["ensemble"], "tiny")
    jobs = [*scored_jobs, *ensemble_jobs(tiny_data)]
    (fused,) = fuse_ensembles(
        jobs, [], [], request, Search(trials=1, fresh_seeds=0), executor, console=output
    )  # type: ignore[arg-type]
    assert executor.studies == [None, "fan", "valve"]
    assert [resolved.job.system for resolved in fused.jobs] == ["ensemble", "ensemble"]
    assert (
        fuse_ensembles(
            scored_jobs, [], [], request, Search(trials=1, fresh_seeds=0), executor, console=output
        )
        == []
    )  # type: ignore[arg-type]


def test_tuned_members_are_fused_with_their_settings_and_missing_scores_are_noted(
    scored_jobs: list[ResolvedJob], tiny_data: DataSet, output: Any
) -> None:
    (study,) = studies_for_run(
        scored_jobs[:2],
        Search(trials=1, fresh_seeds=0),
        preset=None,
        settings=SMALL,
        subset=None,
        console=output,
    )
    study.trials.append(Trial(0, {"batch_size": 32}, "complete", [0.5, 0.6]))
    tuned = StudyResult.from_study(study, tiny_data.machine_types)
    assert tuned is not None
    executor, request = Executor(), RunRequest(["ensemble"], "tiny")
    fused = fuse_ensembles(
        ensemble_jobs(tiny_data),
        [study],
        [tuned],
        request,
        Search(trials=1, fresh_seeds=0),
        executor,
        console=output,  # type: ignore[arg-type]
    )
    assert fused == []  # the member with a batch size of 32 has not run
    assert executor.studies == []
    note = output.lines[-1]
    assert note.startswith(
        "note: ensemble was not fused: member 'baseline-mse' of ensemble has no scores on fan"
    )
    assert "batch_size=32" in note


def test_what_cannot_be_fused_is_noted_before_anything_runs(
    scored_jobs: list[ResolvedJob], tiny_data: DataSet, output: Any
) -> None:
    jobs = ensemble_jobs(tiny_data)
    n_before = len(output.lines)
    note_unfused([*scored_jobs, *jobs], console=output)
    note_unfused(scored_jobs[:1], console=output)  # no ensemble
    assert output.lines[n_before:] == []
    note_unfused(jobs[:1], console=output)
    assert output.lines[n_before:] == [
        "note: ensemble cannot be fused unless there are scores on all machine types of tiny, and this run "
        "leaves out valve; drop --machines and --subset to include them"
    ]
