"""The records of trainings and scorings, as a job writes them."""

import json
from pathlib import Path

import pytest

from asdbench.engine.job_store import JobStore
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


@pytest.mark.parametrize("kind", ["another version", "missing key", "cut short"])
def test_a_record_that_does_not_fit_is_reported_with_its_path(
    folder: Path, store: JobStore, kind: str
) -> None:
    for place, read in (("trainings", store.training_record), ("scores", store.scoring_record)):
        key = key_in(folder, place)
        path = folder / place / key / ("training.json" if place == "trainings" else "scoring.json")
        content = json.loads(path.read_text())
        if kind == "another version":
            content["schema_version"] = 9
        elif kind == "missing key":
            del content["description"]
        text = json.dumps(content)
        path.write_text(text[:40] if kind == "cut short" else text)
        with pytest.raises(RecordError, match="the same 'asdbench run' makes it again") as caught:
            read(key)
        assert caught.value.path == str(path)
    assert store.training_speeds().keys() == {"baseline-mse"}  # from the other records
