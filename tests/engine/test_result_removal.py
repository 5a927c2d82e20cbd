"""Removal of results: what goes with them, what others need, and what happens when it is interrupted."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from asdbench.data.sets import catalog
from asdbench.engine import result_removal
from asdbench.engine.claims import claim
from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.result_record import ResultKeys, to_json
from asdbench.engine.result_removal import matching_searches, plan_removal, remove
from asdbench.engine.result_selection import ResultSelection, select_results
from asdbench.engine.run_record import RunStatus, save_run
from asdbench.engine.search_record import StudyRecord, save_search
from asdbench.engine.stored_results import current_results
from asdbench.errors import InputError
from asdbench.io.storage import Storage, StorageError
from asdbench.io.workspace import Workspace
from asdbench.testing.conformance import run_job

SETTINGS: dict[str, Any] = {"epochs": 1, "hidden": 8, "frames": 2, "n_mels": 16}
ALL = ResultSelection(data="tiny")


def job(hidden: int, system: str = "baseline-mse") -> ResolvedJob:
    work = Job(system, SETTINGS | {"hidden": hidden}, "tiny", "fan", 0)
    return ResolvedJob.from_workspace(work, Workspace.from_environment())


@pytest.fixture
def results(store: JobStore) -> JobStore:
    """A store with the results of three settings of one system."""
    for hidden in (8, 6, 10):
        evaluate(job(hidden), store)
    return store


def select(store: JobStore, selection: ResultSelection) -> Any:
    return select_results(Workspace.from_environment(), store, selection)


def planned(
    store: JobStore, selection: ResultSelection = ALL, *, searches: bool = False
) -> result_removal.ResultRemoval:
    matching = matching_searches(store, selection) if searches else {}
    return plan_removal(store, select(store, selection), matching)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def shown(store: JobStore) -> list[int]:
    data = catalog.load(Workspace.from_environment(), "tiny")
    return sorted(int(str(record.settings["hidden"])) for record in current_results(data, store).records)


def test_a_result_goes_with_its_scores_and_its_training(results: JobStore, folder: Path) -> None:
    assert shown(results) == [6, 8, 10]
    one = job(6)
    plan = planned(results, ResultSelection(settings=SETTINGS | {"hidden": "6"}))
    assert (plan.data, plan.trainings, plan.scores) == ({"tiny"}, (one.training_key,), (one.scoring_key,))
    assert (len(plan.results), plan.searches, plan.n_shared) == (1, (), 0)
    paths = [
        folder / plan.results[0],
        *(folder / "trainings" / one.training_key).iterdir(),
        *(folder / "scores" / one.scoring_key).iterdir(),
    ]
    assert plan.n_bytes == sum(path.stat().st_size for path in paths)
    remove(results, plan)
    assert not any(path.exists() for path in paths)
    assert shown(results) == [8, 10]
    assert files(folder / "trainings") == {job(hidden).training_key for hidden in (8, 10)}
    remove(results, planned(results))
    assert shown(results) == []
    assert files(folder / "trainings") == files(folder / "scores") == files(folder / "results") == set()


def test_a_training_that_another_result_needs_stays(results: JobStore, folder: Path) -> None:
    other = job(8, "baseline-maha")
    run_job(other.job, Workspace.from_environment(), results)
    evaluate(other, results)
    plan = planned(results, ResultSelection(systems=["baseline-maha"]))
    assert (plan.trainings, plan.scores, plan.n_shared) == ((), (other.scoring_key,), 1)
    remove(results, plan)
    assert results.snapshot().is_scored(job(8))
    assert shown(results) == [6, 8, 10]
    run_job(other.job, Workspace.from_environment(), results)
    evaluate(other, results)
    plan = planned(results, ResultSelection(systems=["baseline-mse"]))
    assert other.training_key not in plan.trainings
    assert set(plan.scores) == {job(hidden).scoring_key for hidden in (6, 8, 10)}


def test_scores_that_an_ensemble_joins_stay(results: JobStore) -> None:
    of = evaluate(job(8), results).record
    keys = ResultKeys((job(8).training_key,), "joined")
    ensemble = msgspec.structs.replace(of, system="ensemble", settings={}, changed_settings={}, keys=keys)
    results.root.write("results/joined.json", to_json(ensemble))
    plan = planned(results, ResultSelection(systems=["baseline-mse"]))
    assert set(plan.trainings) == {job(hidden).training_key for hidden in (6, 10)}
    assert set(plan.scores) == {job(hidden).scoring_key for hidden in (6, 10)}
    remove(results, plan)
    plan = planned(results)
    assert (plan.trainings, plan.scores) == ((job(8).training_key,), (job(8).scoring_key,))


def test_nothing_goes_while_a_result_cannot_be_read(results: JobStore, folder: Path) -> None:
    newer = [folder / name for name in select(results, ResultSelection()).selected["name"][:2]]
    for path in newer:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    before = {path for path in folder.rglob("*") if "index" not in path.parts}
    with pytest.raises(
        InputError, match=rf"nothing can be removed.*{newer[0].name} has schema version 99.*: \w"
    ):
        remove(results, planned(results))
    assert {path for path in folder.rglob("*") if "index" not in path.parts} == before
    for path in newer:
        path.unlink()
    remove(results, planned(results))
    assert files(folder / "results") == set()


def search(store: JobStore, *hidden: int) -> None:
    """Store a search of baseline-mse with one trial for each value, the first of them untuned."""
    start = job(hidden[0]).configured.values()
    trials = [
        {
            "number": number,
            "parameters": {"hidden": value},
            "state": "complete",
            "rungs": [0.5],
            "types": {},
            "began_unix_s": 0.0,
            "ended_unix_s": 1.0,
            "message": None,
        }
        for number, value in enumerate(hidden)
    ]
    record = {
        "kind": "study",
        "system": "baseline-mse",
        "data": "tiny",
        "subset": "dev",
        "protocol": "dev",
        "held_out": None,
        "pseudo_anomaly_data": None,
        "start": start,
        "seeds": [0],
        "description": {},
        "trials_done": len(hidden),
        "trials": trials,
        "best": None,
    }
    save_search(store, "abc", msgspec.convert(record, StudyRecord))


def test_a_search_goes_with_the_trainings_of_its_trials_if_asked_for(store: JobStore, folder: Path) -> None:
    evaluate(job(8), store)
    search(store, 8, 6)
    plan = planned(store)
    assert (plan.searches, plan.trainings) == ((), (job(8).training_key,))
    plan = planned(store, searches=True)
    assert plan.searches == ("abc",)
    assert set(plan.trainings) == {job(8).training_key, job(6).training_key}
    remove(store, plan)
    assert files(folder / "searches") == set()
    assert files(folder / "trainings") == {job(10).training_key}
    assert files(folder / "scores") == {job(10).scoring_key}


@pytest.mark.parametrize(
    ("selection", "is_meant"),
    [
        (ResultSelection(), True),
        (ResultSelection(systems=["baseline-maha"]), False),
        (ResultSelection(data="other"), False),
        (ResultSelection(seeds=[1]), False),
        (ResultSelection(seeds=[0, 1]), True),
        (ResultSelection(settings=SETTINGS), True),
        (ResultSelection(settings=SETTINGS | {"hidden": 6}), False),
    ],
    ids=str,
)
def test_which_searches_are_meant(store: JobStore, selection: ResultSelection, is_meant: bool) -> None:
    search(store, 8, 6)
    assert list(matching_searches(store, selection)) == (["abc"] if is_meant else [])


def test_nothing_goes_while_a_run_is_under_way(results: JobStore, folder: Path) -> None:
    plan = planned(results)
    run = RunStatus.from_command("asdbench run baseline-mse --data tiny")
    save_run(results.root, run)
    with pytest.raises(InputError, match="is under way and may use 'tiny'"):
        remove(results, plan)
    results.root.delete(f"runs/{run.run_id}.json")
    with (
        claim(results.root, plan.trainings[0], run="theirs"),
        pytest.raises(InputError, match=f"works on {plan.trainings[0]}; wait for its end"),
    ):
        remove(results, plan)
    assert len(files(folder / "trainings")) == len(files(folder / "results")) == 3


def test_an_interrupted_removal_is_finished_by_the_next(
    results: JobStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_left = iter(range(4))
    plan = planned(results)

    def failing(storage: Storage, name: str) -> None:
        if next(n_left, None) is None:
            raise StorageError("gone", True)
        delete(storage, name)

    delete = Storage.delete_folder
    with monkeypatch.context() as patched:
        patched.setattr(Storage, "delete_folder", failing)
        with pytest.raises(StorageError):
            remove(results, plan)
    assert len(files(folder / "results")) == 3
    again = planned(results)
    assert again.results == plan.results
    remove(results, again)
    assert files(folder / "trainings") == files(folder / "scores") == files(folder / "results") == set()


@pytest.fixture
def on_s3(results: JobStore, folder: Path, s3: Storage) -> JobStore:
    for path in folder.rglob("*"):
        if path.is_file() and "index" not in path.parts:
            s3.write(path.relative_to(folder).as_posix(), path.read_bytes())
    return JobStore(s3)


def test_results_in_an_object_store_go_as_well(on_s3: JobStore) -> None:
    remove(on_s3, planned(on_s3, ResultSelection(settings=SETTINGS | {"hidden": "6"})))
    assert shown(on_s3) == [8, 10]
    assert not on_s3.root.names(f"trainings/{job(6).training_key}")
    remove(on_s3, planned(on_s3))
    assert [on_s3.root.names(kind) for kind in ("results", "trainings", "scores")] == [[], [], []]
