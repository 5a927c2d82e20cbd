"""The stored results that count, those of searches included, and the records that cannot be read."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine import evaluation
from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.result_record import SearchProvenance
from asdbench.engine.search_record import StudyRecord, save_search
from asdbench.engine.stored_results import SearchedSettings, current_results, searched_settings
from asdbench.io.workspace import Workspace
from asdbench.report.leaderboard import rows

UNTUNED = {"epochs": 1, "hidden": 8, "frames": 2, "n_mels": 16}
FIRST, SECOND = (UNTUNED | {"hidden": hidden} for hidden in (6, 10))
TEN, TWENTY = SearchProvenance("abc", 10), SearchProvenance("abc", 20)


def job(settings: dict[str, Any], **pseudo_anomaly_data: Any) -> ResolvedJob:
    return ResolvedJob.from_workspace(
        Job("baseline-mse", settings, "tiny", "fan", 0, **pseudo_anomaly_data), Workspace.from_environment()
    )


def tiny() -> DataSet:
    return catalog.load(Workspace.from_environment(), "tiny")


def trial(number: int, hidden: int, state: str, rungs: list[float]) -> dict[str, Any]:
    return {
        "number": number,
        "parameters": {"hidden": hidden},
        "state": state,
        "rungs": rungs,
        "types": {},
        "began_unix_s": 0.0,
        "ended_unix_s": 1.0,
        "message": None,
    }


def search(store: JobStore, key: str = "abc", **changed: Any) -> None:
    """Store a search; ``best`` gives the settings of its best trial, ``None`` if there is none."""
    record: dict[str, Any] = {
        "kind": "study",
        "system": "baseline-mse",
        "data": "tiny",
        "subset": "dev",
        "protocol": "dev",
        "held_out": None,
        "pseudo_anomaly_data": None,
        "start": {},
        "seeds": [0],
        "description": {},
        "trials_done": 20,
        "trials": [],
    }
    best = changed.pop("best")
    number = changed.pop("number", 1)
    record["best"] = None if best is None else {"number": number, "score": 0.7, "settings": best}
    save_search(store, key, msgspec.convert(record | changed, StudyRecord))


def settings_of_searches(store: JobStore) -> list[SearchedSettings]:
    settings, unreadable = searched_settings(store, tiny())
    assert unreadable == []
    return settings


def chosen(store: JobStore) -> list[tuple[int, int, str]]:
    """Return ``hidden``, trials and search of the results that count; 0 and nothing of untuned ones."""
    stored = current_results(tiny(), store)
    assert (stored.n_outdated, stored.unreadable) == (0, ())
    untuned = SearchProvenance("", 0)
    shown = [(record.settings["hidden"], record.tuned or untuned) for record in stored.records]
    return sorted((hidden, tuned.trials, tuned.search) for hidden, tuned in shown)  # type: ignore[misc]


def test_a_result_whose_search_was_altered_is_out_of_date(folder: Path, store: JobStore) -> None:
    path = folder / "results" / f"{evaluate(job(FIRST), store, tuned=TEN).key}.json"
    tuned = {"search": "abc", "trials": 11, "protocol": "dev"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tuned": tuned}))
    stored = current_results(tiny(), store)
    assert (list(stored.records), stored.n_outdated, stored.unreadable) == ([], 1, ())
    assert stored.notes() == [
        "1 stored result is out of date (recordings, labels or code have changed) and hidden"
    ]


def damage(content: str, kind: str) -> str:
    record = json.loads(content)
    if kind == "another version":
        record["schema_version"] = 7
    elif kind == "no version":
        del record["schema_version"]
    elif kind == "missing key":
        del record["data"]
    elif kind == "unknown key":
        record["more"] = 1
    elif kind == "wrong type":
        record["seed"] = record["seeds"] = "one"
    else:
        return content[: len(content) // 2]
    return json.dumps(record)


KINDS = ("another version", "no version", "missing key", "unknown key", "wrong type", "cut short")


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_that_cannot_be_read_is_reported_until_it_is_removed(
    folder: Path, store: JobStore, kind: str
) -> None:
    kept = evaluate(job(UNTUNED), store)
    path = folder / "results" / f"{evaluate(job(FIRST), store).key}.json"
    path.write_text(damage(path.read_text(), kind))
    stored = current_results(tiny(), store)
    assert [record.settings for record in stored.records] == [kept.record.settings]
    assert stored.n_outdated == 0
    assert [error.path for error in stored.unreadable] == [str(path)]
    [note] = stored.notes()
    assert str(path) in note
    assert "remove the file, and the same 'asdbench run' writes it again" in note
    path.unlink()
    assert current_results(tiny(), store).notes() == []
    evaluate(job(FIRST), store)
    assert len(current_results(tiny(), store).records) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_that_cannot_be_read_is_reported(folder: Path, store: JobStore, kind: str) -> None:
    evaluate(job(FIRST), store)
    search(store, best=FIRST)
    path = folder / "searches" / "abc.json"
    path.write_text(damage(path.read_text(), kind))
    stored = current_results(tiny(), store)
    assert [record.tuned for record in stored.records] == [None]
    assert [error.path for error in stored.unreadable] == [str(path)]


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
    evaluate(job(FIRST), store, tuned=SearchProvenance("abc", 12))  # the search started over
    assert chosen(store) == [(6, 10, "abc"), (6, 12, "abc"), *expected[:2]]


def test_a_search_that_went_on_to_the_same_choice_has_one_row(store: JobStore) -> None:
    for tuned in (TEN, TWENTY, None):
        evaluate(job(FIRST), store, tuned=tuned)
    found = current_results(tiny(), store).records
    shown = rows(found, machine_types=["fan"])
    assert [row["tuned"] and row["tuned"]["trials"] for row in shown] == [None, 20]
    assert shown[0]["official_score"] == shown[1]["official_score"]


def test_what_a_user_runs_with_searched_settings_is_tuned(folder: Path, store: JobStore) -> None:
    for settings in (UNTUNED, FIRST, SECOND):
        evaluate(job(settings), store)
    untuned = [(6, 0, ""), (8, 0, ""), (10, 0, "")]
    assert chosen(store) == untuned
    assert settings_of_searches(store) == []
    search(store, best=None)
    search(store, "other-data", data="demo", best=FIRST)
    search(store, "other-system", system="baseline-maha", best=FIRST)
    assert chosen(store) == untuned
    all_settings = job(FIRST).configured.values()
    search(store, best=all_settings, number=7)
    assert chosen(store) == [(6, 20, "abc"), *untuned[1:]]
    search(store, "def", trials_done=30, protocol="leave-one-type-out", best=FIRST)
    assert chosen(store) == [(6, 30, "def"), *untuned[1:]]
    most = settings_of_searches(store)[0]
    assert most.tuned == SearchProvenance("def", 30, "leave-one-type-out", (0,), 0.7)


def test_a_user_and_a_search_with_the_same_settings_share_a_row(folder: Path, store: JobStore) -> None:
    evaluate(job(FIRST), store)
    evaluate(job(FIRST), store, tuned=TWENTY)
    search(store, best=FIRST)
    found = current_results(tiny(), store).records
    [row] = rows(found, machine_types=["fan"])
    assert (row["tuned"]["trials"], row["tuned"]["search"]) == (20, "abc")


@pytest.mark.parametrize(
    "best",
    [
        {"best": UNTUNED, "number": 0, "start": UNTUNED},
        {"best": UNTUNED, "number": 3, "start": UNTUNED},
    ],
)
def test_settings_that_a_search_left_alone_are_nobodys_choice(
    folder: Path, store: JobStore, best: dict[str, Any]
) -> None:
    evaluate(job(UNTUNED), store)
    evaluate(job(UNTUNED), store, tuned=TWENTY)
    search(store, **best)
    assert chosen(store) == [(8, 0, ""), (8, 20, "abc")]


def test_what_was_the_best_before_a_search_went_on_stays_tuned(folder: Path, store: JobStore) -> None:
    trials = [
        trial(number, hidden, state, rungs)
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
    search(store, start=UNTUNED, trials=trials, best=SECOND, number=4)
    assert chosen(store) == [(6, 4, "abc"), (8, 0, ""), (10, 20, "abc")]


def test_searches_of_what_no_longer_exists_are_left_out(store: JobStore) -> None:
    evaluate(job(FIRST), store)
    search(store, "gone-system", system="gone", best={})
    search(store, "gone-setting", best={"gone": 1})
    assert settings_of_searches(store) == []
    assert chosen(store) == [(6, 0, "")]


def test_pseudo_anomalies_of_another_data_set_matter_to_systems_that_take_some(
    folder: Path, store: JobStore
) -> None:
    evaluate(job(FIRST), store)
    search(store, pseudo_anomaly_data="demo", best=FIRST)
    assert chosen(store) == [(6, 20, "abc")]
    search(store, "mel", system="multitask-mel", pseudo_anomaly_data="demo", best={"blocks": 2})
    found = {of.configured.name: of.pseudo_anomaly_data for of in settings_of_searches(store)}
    assert found == {"baseline-mse": None, "multitask-mel": "demo"}
