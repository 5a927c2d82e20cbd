import dataclasses
from contextlib import nullcontext
from typing import Any

import pytest

from asdbench.engine.task_records import CurvePoint
from asdbench.io.workspace import Workspace
from asdbench.tracking.address import Address
from asdbench.tracking.mlflow_runs import NotWritten, Store
from asdbench.tracking.search_writer import SearchWriter
from asdbench.tracking.searches import SearchRecord, TrialRecord, TrialState, trial_entry

SEARCH = SearchRecord(
    key="5ea7c4",
    system="multitask-mel",
    data="demo",
    subset="dev",
    protocol="dev",
    held_out=None,
    settings={"epochs": 2},
    seeds=(0, 1),
    trials=3,
)


def trial(number: int, score: float = 0.6, state: TrialState = "complete", **settings: Any) -> TrialRecord:
    rungs = [] if state == "failed" else [(1, 0.5), (2, score)]
    curve = [CurvePoint("main", epoch, {"total": 1 / epoch}) for epoch in (1, 2, 3)]
    return TrialRecord(
        number=number,
        settings=settings,
        state=state,
        rungs=rungs,
        metrics={"fan": {"auc_source": 0.5, "pauc": 0.52}},
        curves={"fan": curve},
        began=1000.0 + 10 * number,
        ended=1009.5 + 10 * number,
    )


def store() -> Store:
    workspace = Workspace.from_environment()
    return Store(Address.from_workspace(workspace), workspace)


def write(*trials: TrialRecord, search: SearchRecord = SEARCH) -> None:
    store().write([trial_entry(search, of, {}) for of in trials])


def client() -> Any:
    from mlflow import MlflowClient

    return MlflowClient(Address.from_workspace(Workspace.from_environment()).uri)


def recorded() -> tuple[list[Any], list[Any]]:
    """Return searches, and trials by number."""
    experiment = client().get_experiment_by_name("asdbench/demo/searches")
    found = client().search_runs([experiment.experiment_id])
    trials = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    trials.sort(key=lambda run: int(run.data.tags["asdbench.trial"]))
    return [run for run in found if run not in trials], trials


def test_a_search_has_its_parameters_and_the_scores_of_its_trials() -> None:
    write(trial(0), trial(1, 0.7, depth=3), trial(2, 0.9, "pruned", depth=4))
    [search], _ = recorded()
    assert search.info.run_name == "multitask-mel epochs=2: 3 trials"
    assert search.data.params == {
        "epochs": "2", "system": "multitask-mel", "data": "demo", "subset": "dev", "protocol": "dev",
        "held_out": "none", "seeds": "0 1",
    }  # fmt: skip
    assert search.data.metrics == {
        "best_score": 70, "default_score": 60, "trials_complete": 2, "trials_pruned": 1, "trials_failed": 0
    }  # fmt: skip
    assert search.data.tags["asdbench.kind"] == "search"
    assert search.info.status == "FINISHED"
    assert (search.info.start_time, search.info.end_time) == (1_000_000, 1_029_500)


def test_a_trial_is_a_nested_run_with_its_curves() -> None:
    write(trial(4, depth=3))
    [search], [of] = recorded()
    assert of.info.run_name == "trial 4 depth=3"
    assert of.data.tags["mlflow.parentRunId"] == search.info.run_id
    assert of.data.tags["asdbench.kind"] == "trial"
    assert of.data.params == {
        "epochs": "2", "depth": "3", "system": "multitask-mel", "data": "demo", "trial": "4"
    }  # fmt: skip
    scores = client().get_metric_history(of.info.run_id, "score")
    assert [(point.step, point.value) for point in scores] == [(1, 50), (2, 60)]
    losses = client().get_metric_history(of.info.run_id, "curves/fan/main total")
    assert [(point.step, point.value) for point in losses] == [(1, 1), (2, 0.5), (3, 1 / 3)]
    assert (of.data.metrics["metrics/fan/auc_source"], of.data.metrics["metrics/fan/pauc"]) == (50, 52)
    assert (of.info.start_time, of.info.end_time) == (1_040_000, 1_049_500)


def test_a_trial_has_the_status_of_its_state() -> None:
    write(trial(0), trial(1, state="pruned"), trial(2, state="failed"))
    _, trials = recorded()
    assert [of.info.status for of in trials] == ["FINISHED", "KILLED", "FAILED"]
    assert "score" not in trials[2].data.metrics


def test_a_search_without_a_finished_trial_has_no_score() -> None:
    write(trial(0, state="failed"), trial(1, 0.9, "pruned", depth=1))
    [search], _ = recorded()
    assert search.data.metrics == {"trials_complete": 0, "trials_pruned": 1, "trials_failed": 1}
    assert search.info.status == "RUNNING"


def test_a_search_that_goes_on_keeps_its_run_and_is_brought_up_to_its_trials() -> None:
    for number in range(3):
        write(trial(number, 0.6 + number / 100, **({"depth": number} if number else {})))
    [before], _ = recorded()
    assert before.info.status == "FINISHED"
    more = dataclasses.replace(SEARCH, trials=5)
    write(trial(3, 0.7, depth=3), search=more)
    [search], _ = recorded()
    assert (search.info.run_id, search.info.status) == (before.info.run_id, "RUNNING")
    assert search.info.run_name == "multitask-mel epochs=2: 5 trials"
    assert search.data.tags["asdbench.trials"] == "5"
    write(trial(4, 0.5, depth=4), search=more)
    [search], trials = recorded()
    assert (search.info.status, len(trials)) == ("FINISHED", 5)
    history = client().get_metric_history(search.info.run_id, "best_score")
    assert [(point.step, point.value) for point in history] == [
        (1, 60), (2, 61), (3, 62), (4, 70), (5, 70)
    ]  # fmt: skip


def test_a_trial_that_is_there_is_not_written_twice() -> None:
    write(trial(0), trial(1, depth=1))
    _, before = recorded()
    write(trial(1, depth=1), trial(0))
    [search], after = recorded()
    assert [of.info.run_id for of in after] == [of.info.run_id for of in before]
    assert search.data.metrics["trials_complete"] == 2


def test_a_search_is_read_once_unless_another_process_writes_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read_search = SearchWriter._read_search
    monkeypatch.setattr(SearchWriter, "_read_search", lambda *of: reads.append(1) or read_search(*of))
    entries = [trial_entry(SEARCH, trial(number), {}) for number in range(6)]
    first, second = store(), store()
    first.write(entries[:1])
    first.write(entries[1:2])
    first.write(entries[1:3])  # one of them again, as after a failure
    assert len(reads) == 2
    second.write(entries[3:4])
    first.write(entries[4:5])
    second.write(entries[4:6])
    assert len(reads) == 5
    [search], trials = recorded()
    assert [run.data.tags["asdbench.trial"] for run in trials] == list("012345")
    assert search.data.metrics["trials_complete"] == 6


def test_a_trial_that_another_process_wrote_before_it_was_killed_is_not_written_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = [trial_entry(SEARCH, trial(number), {}) for number in range(2)]
    first, second = store(), store()
    first.write(entries[:1])
    with monkeypatch.context() as patch:
        patch.setattr("asdbench.tracking.mlflow_runs.one_transaction", lambda client: nullcontext())
        patch.setattr(SearchWriter, "_update_search", lambda *_: 1 / 0)
        with pytest.raises(NotWritten):
            second.write(entries[1:])
    first.write(entries[1:])
    assert len(recorded()[1]) == 2


def test_a_trial_whose_writing_was_interrupted_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    log_batch = MlflowClient.log_batch
    # every call is stored at once, as on a tracking server
    monkeypatch.setattr("asdbench.tracking.mlflow_runs.one_transaction", lambda client: nullcontext())

    def interrupted(*arguments: Any, **keywords: Any) -> None:
        log_batch(*arguments, **keywords)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(trial(0))
    [search], [left] = recorded()
    assert (search.data.params, left.info.status) == ({}, "RUNNING")
    write(trial(0))
    [again], [of] = recorded()
    assert again.info.run_id == search.info.run_id
    assert again.data.params["protocol"] == "dev"
    assert (of.info.status, of.info.run_id != left.info.run_id) == ("FINISHED", True)


def test_a_machine_type_that_is_left_out_is_named() -> None:
    held_out = dataclasses.replace(
        SEARCH, key="07e4", protocol="leave-one-type-out", held_out="valve", settings={}, trials=1
    )
    write(trial(0))
    write(trial(0), search=held_out)
    searches, trials = recorded()
    names = {of.info.run_name: of.data.params["held_out"] for of in searches}
    assert names == {
        "multitask-mel epochs=2: 3 trials": "none",
        "multitask-mel: 1 trial, without valve": "valve",
    }
    assert len(trials) == 2


def test_the_views_of_searches_and_trials_are_tags_of_the_experiment() -> None:
    write(trial(0))
    tags = client().get_experiment_by_name("asdbench/demo/searches").tags
    assert {"mlflow.sharedViewState.searches", "mlflow.sharedViewState.trials"} <= tags.keys()
