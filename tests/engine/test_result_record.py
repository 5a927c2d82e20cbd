"""A result record as JSON."""

from pathlib import Path

import msgspec
import pytest

from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.result_record import ResultRecord, SearchProvenance, from_json, to_json
from asdbench.io.records import RecordError
from asdbench.io.workspace import Workspace


@pytest.fixture
def record(folder: Path, store: JobStore) -> ResultRecord:
    settings = {"epochs": 1, "hidden": 8, "frames": 2, "n_mels": 16}
    job = Job("baseline-mse", settings, "tiny", "fan", 0)
    resolved = ResolvedJob.from_workspace(job, Workspace.from_environment())
    return evaluate(resolved, store, tuned=SearchProvenance("abc", 7)).record


def test_a_record_comes_back_as_it_was_written(record: ResultRecord) -> None:
    settings = {**record.settings, "members": ("a", "b"), "weights": None, "share": 0.1 + 0.2}
    changed = msgspec.structs.replace(record, settings=settings)
    assert from_json(to_json(changed), path="results/a.json") == changed
    assert changed.tuned == SearchProvenance("abc", 7, "dev")


def test_a_damaged_record_is_reported_with_a_cure(record: ResultRecord) -> None:
    with pytest.raises(
        RecordError, match=r"^results/a.json .*: remove the file, and the same 'asdbench run'"
    ):
        from_json(to_json(record)[:-9], path="results/a.json")
