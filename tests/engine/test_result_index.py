"""Results as a table: the records that are in the files, in little memory."""

import json
from pathlib import Path

from asdbench.data.sets import catalog
from asdbench.engine import result_record
from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.record_index import indexed_records
from asdbench.engine.result_index import RESULTS, IndexedResults, values
from asdbench.engine.result_record import SearchProvenance
from asdbench.engine.stored_results import current_results
from asdbench.io.workspace import Workspace
from asdbench.report.leaderboard import rows

SETTINGS = {"epochs": 1, "hidden": 8, "frames": 2, "n_mels": 16}


def evaluated(store: JobStore) -> None:
    """Judge three jobs, one of them for a search, too."""
    workspace = Workspace.from_environment()
    for hidden in (8, 6, 10):
        job = Job("baseline-mse", SETTINGS | {"hidden": hidden}, "tiny", "fan", 0)
        evaluate(ResolvedJob.from_workspace(job, workspace), store)
    evaluate(ResolvedJob.from_workspace(job, workspace), store, tuned=SearchProvenance("abc", 7))


def test_records_come_back_as_they_are_in_their_files(folder: Path, store: JobStore) -> None:
    evaluated(store)
    paths = sorted((folder / "results").iterdir())
    expected = [result_record.from_json(path.read_bytes(), path=str(path)) for path in paths]
    for _ in range(2):  # from the files, then from the index
        found = IndexedResults(indexed_records(store.root, RESULTS).rows)
        assert list(found) == expected
        assert [result_record.to_json(record) for record in found] == [path.read_bytes() for path in paths]
    assert found[1] == expected[1]
    assert list(found[1:3]) == expected[1:3]
    assert len(found) == 4
    first, second = list(found)[:2]
    assert first.rule is second.rule  # decoded once


def test_some_values_of_results_are_those_of_the_records(folder: Path, store: JobStore) -> None:
    evaluated(store)
    table = IndexedResults(indexed_records(store.root, RESULTS).rows)
    names = ("official_metrics", "tuned", "settings", "seed")
    expected = [
        ([section.official for section in r.sections.values()], r.tuned, r.settings, r.seed) for r in table
    ]
    assert list(values(table, *names)) == list(values(list(table), *names)) == expected


def test_a_leaderboard_is_that_of_the_files(folder: Path, store: JobStore) -> None:
    evaluated(store)
    files = sorted((folder / "results").iterdir())
    records = [result_record.from_json(path.read_bytes(), path=str(path)) for path in files]
    data = catalog.load(Workspace.from_environment(), "tiny")
    for by_type in (False, True):
        expected = rows(records, machine_types=["fan"], by_type=by_type)
        for _ in range(2):
            stored = current_results(data, store)
            shown = rows(stored.records, machine_types=["fan"], by_type=by_type)
            assert json.dumps(shown) == json.dumps(expected)  # to the digit, and in this order
