"""The records of trainings and scorings, as a job writes them."""

import json
from pathlib import Path

import pytest

from asdbench.engine.job_store import DamagedFileError, JobStore
from asdbench.engine.task_records import scoring_from_json, to_json, training_from_json
from asdbench.io.records import RecordError


def key_in(folder: Path, kind: str) -> str:
    return min(path.name for path in (folder / kind).iterdir())


def test_records_come_back_as_they_were_written(folder: Path, store: JobStore) -> None:
    training = store.training_record(key_in(folder, "trainings"))
    assert training_from_json(to_json(training), path="a") == training
    assert (training.data, len(training.curve)) == ("tiny", 1)
    scoring = store.scoring_record(key_in(folder, "scores"))
    assert scoring_from_json(to_json(scoring), path="a") == scoring
    assert scoring.description["system"] == "baseline-mse"


RECORDS = [("trainings", "training.json"), ("scores", "scoring.json")]


@pytest.mark.parametrize(("place", "file"), RECORDS)
def test_a_record_of_another_version_is_reported_with_its_path(
    folder: Path, store: JobStore, place: str, file: str
) -> None:
    read = store.training_record if place == "trainings" else store.scoring_record
    path = folder / place / key_in(folder, place) / file
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 9}))
    with pytest.raises(RecordError, match="the same 'asdbench run' makes it again") as caught:
        read(path.parent.name)
    assert caught.value.path == str(path)
    assert path.exists()


@pytest.mark.parametrize(("place", "file"), RECORDS)
@pytest.mark.parametrize(
    ("damage", "reason"),
    [("missing key", "missing required field `description`"), ("cut short", "truncated")],
)
def test_a_damaged_record_is_set_aside_and_the_reason_said(
    folder: Path, store: JobStore, place: str, file: str, damage: str, reason: str
) -> None:
    read = store.training_record if place == "trainings" else store.scoring_record
    path = folder / place / key_in(folder, place) / file
    content = json.loads(path.read_text())
    del content["description"]
    path.write_text(json.dumps(content) if damage == "missing key" else path.read_text()[:40])
    with pytest.raises(DamagedFileError, match=reason) as caught:
        read(path.parent.name)
    assert str(caught.value).count(str(path)) == 1
    assert not path.exists()
    assert path.with_name(f"{file}.damaged").exists()
    assert store.training_speeds().keys() == {"baseline-mse"}  # from the other records


def test_the_median_time_of_scoring_is_known_by_system(folder: Path, store: JobStore) -> None:
    for seconds, path in enumerate(sorted((folder / "scores").glob("*/scoring.json"))):
        times = {"backend_seconds": 0.5, "scoring_seconds": seconds}
        path.write_text(json.dumps({**json.loads(path.read_text()), **times}))
    assert store.scoring_seconds() == {"baseline-mse": 1.5}
