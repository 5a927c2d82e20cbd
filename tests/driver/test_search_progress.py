"""What the driver keeps of trials: their records, states and failures."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from asdbench.driver.progress import ProgressDisplay
from asdbench.driver.search_progress import SearchProgress, name_of
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InfrastructureError
from asdbench.io.retry import _RETRY_S
from asdbench.io.storage import StorageError
from asdbench.search.plan import Search, studies_for_system
from asdbench.search.studies import Study, Trial

Jobs = Callable[..., list[ResolvedJob]]


@pytest.fixture
def study(small_jobs: Jobs) -> Study:
    (found,) = studies_for_system(small_jobs(), Search(trials=4), fixed=["epochs", "n_mels", "frames"])
    return found


@pytest.fixture
def ended() -> list[Trial]:
    return []


@pytest.fixture
def progress(study: Study, store: JobStore, output: Any, ended: list[Trial]) -> SearchProgress:
    def on_end(_: Study, trial: Trial) -> None:
        ended.append(trial)

    with ProgressDisplay(output) as display:
        return SearchProgress([study], store, display, trials=4, on_end=on_end)


def judged(types: int, machine_type: str, score: float) -> dict[str, Any]:
    metrics = (machine_type, {"auc_source": score})
    return {"score": score, "types": types, "judged": metrics, "failed": None}


def stored(study: Study, store: JobStore) -> list[Trial]:
    fresh = Study(**{**vars(study), "trials": [], "started": set()})
    fresh.load(store)
    return fresh.trials


def test_a_complete_trial_is_recorded_with_its_rungs(
    progress: SearchProgress, study: Study, store: JobStore, ended: list[Trial], output: Any
) -> None:
    assert progress.begin(study.key, "t1", {"hidden": 12}) == 0
    assert progress.running(study) == 1
    progress.report("t1", judged(1, "fan", 0.6))
    progress.report("t1", judged(2, "valve", 0.7))
    progress.end("t1", None)
    (trial,) = stored(study, store)
    assert (trial.state, trial.rungs, trial.parameters) == ("complete", [0.6, 0.7], {"hidden": 12})
    assert trial.types == {"fan": {"auc_source": 0.6}, "valve": {"auc_source": 0.7}}
    assert ended == [trial]
    assert output.lines[-1].startswith("baseline-mse: trial 0 complete, 70.00; 1/4 trials, 0 running")


def test_a_trial_that_stops_early_was_pruned(progress: SearchProgress, study: Study, store: JobStore) -> None:
    progress.begin(study.key, "t1", {})
    progress.report("t1", judged(1, "fan", 0.4))
    progress.end("t1", None)
    assert [trial.state for trial in stored(study, store)] == ["pruned"]


def test_a_trial_whose_settings_fail_keeps_the_reason(
    progress: SearchProgress, study: Study, store: JobStore, output: Any
) -> None:
    progress.begin(study.key, "t1", {})
    progress.report("t1", {"score": 0.0, "types": 1, "judged": None, "failed": "training diverged"})
    progress.end("t1", None)
    (trial,) = stored(study, store)
    assert (trial.state, trial.score, trial.message) == ("failed", 0.0, "training diverged")
    assert "(training diverged)" in output.lines[-1]
    assert progress.failures == []  # it is a result of the search


def test_a_trial_that_ray_tune_runs_again_starts_over(
    progress: SearchProgress, study: Study, store: JobStore
) -> None:
    progress.begin(study.key, "t1", {})
    for types, machine_type, score in ((1, "fan", 0.6), (1, "fan", 0.6), (2, "valve", 0.7)):
        progress.report("t1", judged(types, machine_type, score))
    progress.end("t1", None)
    assert stored(study, store)[0].rungs == [0.6, 0.7]


def test_a_fault_of_the_cluster_is_a_failure_of_the_run_and_no_result_of_the_search(
    progress: SearchProgress, study: Study, store: JobStore, ended: list[Trial], output: Any
) -> None:
    progress.begin(study.key, "t1", {"hidden": 12})
    progress.report("t1", judged(1, "fan", 0.6))
    progress.end("t1", "the disk of host2 is full")
    (trial,) = stored(study, store)
    assert trial.state == "running"  # the same command resumes it
    assert study.finished == ended == []
    (failure,) = progress.failures
    assert (failure.label, failure.message, failure.bad_input) == (
        "trial 0 of baseline-mse",
        "the disk of host2 is full",
        False,
    )
    assert "trial 0 of baseline-mse could not be finished: the disk of host2 is full" in output.lines[-1]


def test_a_storage_that_is_away_for_a_moment_does_not_end_a_search(
    progress: SearchProgress, study: Study, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asdbench.io.retry._RETRY_S", 0.0)
    assert _RETRY_S > 0
    faults = iter([StorageError("stale file handle", transient=True)] * 2)
    save = Study.save

    def failing(self: Study, to: JobStore) -> None:
        for fault in faults:
            raise fault
        save(self, to)

    monkeypatch.setattr(Study, "save", failing)
    progress.begin(study.key, "t1", {})
    assert len(stored(study, store)) == 1


def test_a_study_is_called_by_its_system_and_what_it_leaves_out(study: Study) -> None:
    assert name_of(study) == "baseline-mse"
    assert name_of(Study(**{**vars(study), "held_out": "fan"})) == "baseline-mse without fan"


def test_a_study_that_another_run_has_taken_over_is_not_written(
    study: Study, store: JobStore, output: Any
) -> None:
    claim = SimpleNamespace(is_lost=False)
    with ProgressDisplay(output) as display:
        claims: Any = {study.key: claim}
        progress = SearchProgress([study], store, display, trials=4, on_end=lambda *_: None, claims=claims)
    progress.begin(study.key, "t1", {"hidden": 12})
    progress.check()
    claim.is_lost = True
    progress.begin(study.key, "t2", {"hidden": 16})
    assert len(stored(study, store)) == 1
    with pytest.raises(InfrastructureError, match="another run has taken over the search of baseline-mse"):
        progress.check()
