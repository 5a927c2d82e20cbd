"""Results of searched settings beside those of a user, and judging for a search."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asdbench.data.sets import catalog
from asdbench.engine import evaluation
from asdbench.engine.evaluation import (
    NoLabels,
    SearchProvenance,
    evaluate,
    judge_sections,
    labeled_clips,
    result_key,
)
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.stored_results import current_results, searched_settings
from asdbench.errors import InputError
from asdbench.io.files import write_json
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.report.leaderboard import rows
from asdbench.testing import write_tiny
from asdbench.testing.conformance import run_job

UNTUNED = {"epochs": 1, "hidden": 8, "frames": 2, "n_mels": 16}
FIRST, SECOND = (UNTUNED | {"hidden": hidden} for hidden in (6, 10))
TEN, TWENTY = SearchProvenance("abc", 10), SearchProvenance("abc", 20)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a job store with three settings scored on one machine type, in a data home."""
    with pytest.MonkeyPatch.context() as patched:
        home = tmp_path_factory.mktemp("home")
        patched.setenv("ASDBENCH_HOME", str(home))
        catalog.add(
            Workspace.from_environment(), "tiny", write_tiny(home / "recordings", machine_types=("fan",))
        )
        for settings in (UNTUNED, FIRST, SECOND):
            run_job(
                Job("baseline-mse", settings, "tiny", "fan", 0),
                JobStore(Storage.from_location(home / "jobs")),
            )
        yield home / "jobs"


@pytest.fixture
def folder(scored: Path, tmp_path: Path) -> Path:
    return shutil.copytree(scored, tmp_path / "jobs")


@pytest.fixture
def store(folder: Path) -> JobStore:
    return JobStore(Storage.from_location(folder))


def job(settings: dict[str, Any], **pseudo_anomaly_data: Any) -> ResolvedJob:
    return ResolvedJob.from_workspace(
        Job("baseline-mse", settings, "tiny", "fan", 0, **pseudo_anomaly_data), Workspace.from_environment()
    )


def search(folder: Path, name: str = "abc", **pseudo_anomaly_data: Any) -> None:
    record = {"system": "baseline-mse", "data": "tiny", "trials_done": 20, "protocol": "dev"}
    write_json(folder / "searches" / f"{name}.json", record | pseudo_anomaly_data)


def chosen(store: JobStore) -> list[tuple[int, int, str]]:
    """Return ``hidden``, trials and search of the results that count; 0 and nothing of untuned ones."""
    found, outdated = current_results(catalog.load(Workspace.from_environment(), "tiny"), store)
    assert outdated == 0
    untuned = {"trials": 0, "search": ""}
    shown = [(record["settings"]["hidden"], record["tuned"] or untuned) for record in found]
    return sorted((hidden, tuned["trials"], tuned["search"]) for hidden, tuned in shown)


def test_sections_are_judged_as_in_a_result_and_nothing_is_stored(folder: Path, store: JobStore) -> None:
    before = sorted(folder.rglob("*"))
    judged = judge_sections(job(FIRST), store, subset="dev")
    assert sorted(folder.rglob("*")) == before
    stored = evaluate(job(FIRST), store).record["sections"]
    assert judged == {section: metrics["official"] for section, metrics in stored.items()}
    assert set(judged) == {"00"}


def test_what_cannot_be_judged_is_refused_alike(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for judge in (judge_sections, evaluate):
        with pytest.raises(NoLabels, match=r"machine type 'fan' of data set 'tiny'.* has a known label"):
            judge(job(FIRST), store, subset="eval")
    normal = catalog.truth(catalog.load(Workspace.from_environment(), "tiny")).filter(anomaly=False)
    monkeypatch.setattr(catalog, "truth", lambda name: normal)
    for judge in (judge_sections, evaluate):
        with pytest.raises(InputError, match="no anomal"):
            judge(job(FIRST), store, subset="dev")


def test_a_tuned_result_is_another_one_of_the_same_scores(store: JobStore) -> None:
    plain, tuned = evaluate(job(FIRST), store), evaluate(job(FIRST), store, tuned=TEN)
    assert plain.record["tuned"] is None
    assert tuned.record["tuned"] == {"search": "abc", "trials": 10, "protocol": "dev"}
    assert tuned.record["sections"] == plain.record["sections"]
    assert evaluate(job(FIRST), store, tuned=TEN).record["finished"] == tuned.record["finished"]
    truth = labeled_clips(catalog.load(Workspace.from_environment(), "tiny"))
    pseudo_anomaly_data = (
        None,
        TEN,
        TWENTY,
        SearchProvenance("abd", 10),
        SearchProvenance("abc", 10, "leave-one-type-out"),
    )
    keys = [result_key(job(FIRST), truth, subset="dev", tuned=of) for of in pseudo_anomaly_data]
    assert keys[:2] == [plain.key, tuned.key]
    assert len(set(keys)) == len(pseudo_anomaly_data)


def test_a_result_without_the_field_is_untuned_and_keeps_its_key(folder: Path, store: JobStore) -> None:
    key = evaluate(job(UNTUNED), store).key
    path = folder / "results" / f"{key}.json"
    record = json.loads(path.read_text())
    del record["tuned"]
    path.write_text(json.dumps(record))
    assert chosen(store) == [(8, 0, "")]


@pytest.mark.parametrize("tuned", [3, {"search": "abc"}, {"search": "abc", "trials": 11, "protocol": "dev"}])
def test_a_result_whose_search_was_altered_does_not_count(folder: Path, store: JobStore, tuned: Any) -> None:
    path = folder / "results" / f"{evaluate(job(FIRST), store, tuned=TEN).key}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tuned": tuned}))
    assert current_results(catalog.load(Workspace.from_environment(), "tiny"), store) == ([], 1)


def test_of_a_search_that_went_on_the_last_choice_counts(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(job(UNTUNED), store)
    evaluate(job(FIRST), store, tuned=TEN)
    evaluate(job(UNTUNED), store, tuned=SearchProvenance("other", 5))
    evaluate(job(SECOND), store, tuned=TWENTY)  # perhaps within the same second
    expected = [(8, 0, ""), (8, 5, "other"), (10, 20, "abc")]
    assert chosen(store) == expected
    monkeypatch.setattr(evaluation, "now", lambda: "2999-01-01T00:00:00+00:00")
    evaluate(job(FIRST), store, tuned=SearchProvenance("abc", 12))  # the search began anew
    assert chosen(store) == [(6, 10, "abc"), (6, 12, "abc"), *expected[:2]]


def test_a_search_that_went_on_to_the_same_choice_has_one_row(store: JobStore) -> None:
    for tuned in (TEN, TWENTY, None):
        evaluate(job(FIRST), store, tuned=tuned)
    found, _ = current_results(catalog.load(Workspace.from_environment(), "tiny"), store)
    shown = rows(found, machine_types=["fan"])
    assert [row["tuned"] and row["tuned"]["trials"] for row in shown] == [None, 20]
    assert shown[0]["official_score"] == shown[1]["official_score"]


def test_what_a_user_runs_with_searched_settings_is_tuned(folder: Path, store: JobStore) -> None:
    for settings in (UNTUNED, FIRST, SECOND):
        evaluate(job(settings), store)
    untuned = [(6, 0, ""), (8, 0, ""), (10, 0, "")]
    assert chosen(store) == untuned
    assert searched_settings(store, catalog.load(Workspace.from_environment(), "tiny")) == []
    search(folder, best=None)
    search(folder, "other-data", data="demo", best={"settings": FIRST})
    search(folder, "other-system", system="baseline-maha", best={"settings": FIRST})
    assert chosen(store) == untuned
    all_settings = job(FIRST).configured.values()
    search(folder, best={"settings": all_settings, "number": 7})
    assert chosen(store) == [(6, 20, "abc"), *untuned[1:]]
    search(folder, "def", trials_done=30, protocol="leave-one-type-out", best={"settings": FIRST})
    assert chosen(store) == [(6, 30, "def"), *untuned[1:]]
    most = searched_settings(store, catalog.load(Workspace.from_environment(), "tiny"))[0]
    assert most.tuned == SearchProvenance("def", 30, "leave-one-type-out")


def test_a_user_and_a_search_with_the_same_settings_share_a_row(folder: Path, store: JobStore) -> None:
    evaluate(job(FIRST), store)
    evaluate(job(FIRST), store, tuned=TWENTY)
    search(folder, best={"settings": FIRST})
    found, _ = current_results(catalog.load(Workspace.from_environment(), "tiny"), store)
    [row] = rows(found, machine_types=["fan"])
    assert row["tuned"] == {"trials": 20, "search": "abc", "protocol": "dev"}


@pytest.mark.parametrize(
    "best",
    [
        {"best": {"settings": UNTUNED, "number": 0}},
        {"best": {"settings": UNTUNED, "number": 3}, "start": UNTUNED},
    ],
)
def test_settings_that_a_search_left_alone_are_nobodys_choice(
    folder: Path, store: JobStore, best: dict[str, Any]
) -> None:
    evaluate(job(UNTUNED), store)
    evaluate(job(UNTUNED), store, tuned=TWENTY)
    search(folder, **best)
    assert chosen(store) == [(8, 0, ""), (8, 20, "abc")]


def test_what_was_the_best_before_a_search_went_on_stays_tuned(folder: Path, store: JobStore) -> None:
    trials = [
        {"number": number, "parameters": {"hidden": hidden}, "state": state, "rungs": rungs}
        for number, (hidden, state, rungs) in enumerate(
            [
                (8, "complete", [0.5]),
                (9, "pruned", [0.9]),
                (6, "complete", [0.6]),
                (7, "failed", []),
                (10, "complete", [0.7]),
                (12, "complete", [0.65]),
            ]
        )
    ]
    evaluate(job(UNTUNED), store)
    evaluate(job(FIRST), store)
    evaluate(job(SECOND), store)
    search(folder, start=UNTUNED, trials=trials, best={"settings": SECOND, "number": 4})
    assert chosen(store) == [(6, 4, "abc"), (8, 0, ""), (10, 20, "abc")]


def test_damaged_searches_are_left_out(folder: Path, store: JobStore) -> None:
    evaluate(job(FIRST), store)
    search(folder, "gone-system", system="gone", best={"settings": {}})
    search(folder, "gone-setting", best={"settings": {"gone": 1}})
    search(folder, "no-settings", best={})
    search(folder, "no-rungs", start=UNTUNED, trials=[{"state": "complete"}] * 2, best={"settings": FIRST})
    write_json(folder / "searches" / "list.json", [1])
    (folder / "searches" / "cut.json").write_text('{"system": "base')
    assert searched_settings(store, catalog.load(Workspace.from_environment(), "tiny")) == []
    assert chosen(store) == [(6, 0, "")]


def test_pseudo_anomalies_of_another_data_set_matter_to_systems_that_take_some(
    folder: Path, store: JobStore
) -> None:
    evaluate(job(FIRST), store)
    search(folder, pseudo_anomaly_data="demo", best={"settings": FIRST})
    assert chosen(store) == [(6, 20, "abc")]
    search(
        folder, "mel", system="multitask-mel", pseudo_anomaly_data="demo", best={"settings": {"blocks": 2}}
    )
    found = {
        of.configured.name: of.pseudo_anomaly_data
        for of in searched_settings(store, catalog.load(Workspace.from_environment(), "tiny"))
    }
    assert found == {"baseline-mse": None, "multitask-mel": "demo"}
