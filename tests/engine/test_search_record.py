"""The records of searches as JSON."""

from pathlib import Path

import msgspec
import pytest

from asdbench.engine.job_store import JobStore
from asdbench.engine.search_record import (
    BestTrial,
    BestWeights,
    FusionRecord,
    FusionReport,
    LeftOutReport,
    StoredTrial,
    StudyRecord,
    from_json,
    load_fusion,
    load_study,
    name_of,
    save_search,
)
from asdbench.io.records import RecordError
from asdbench.io.storage import Storage

COMMON = {
    "system": "multitask-mel",
    "data": "tiny",
    "subset": "dev",
    "protocol": "dev",
    "held_out": None,
    "pseudo_anomaly_data": None,
    "start": {"steps": 30, "members": ("a", "b")},
    "seeds": (0, 1),
    "description": {"seed": 0},
}
TRIAL = StoredTrial(0, {"backend": "gmm"}, "complete", (0.5, 0.6), {"fan": {"auc": 0.7}}, 1.0, 2.0, None)
STUDY = StudyRecord(**COMMON, best=BestTrial(0, 0.6, {"backend": "gmm"}), trials_done=2, trials=(TRIAL,))
FUSION = FusionRecord(
    **COMMON,
    best=BestWeights(0.7, {"weights": (0.25, 0.75)}),
    report=FusionReport(
        members=("a", "b"),
        weights=(0.25, 0.75),
        choices={"scale": "log"},
        score=0.7,
        member_trials=40,
        weight_vectors=4000,
        equal_weights=0.65,
        leave_one_type_out=0.66,
        left_out={"fan": LeftOutReport((0.5, 0.5), 0.6)},
    ),
)


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(Storage.from_location(tmp_path))


def test_both_kinds_come_back_as_they_were_written(store: JobStore) -> None:
    save_search(store, "study", STUDY)
    save_search(store, "fusion", FUSION)
    assert load_study(store, "study") == STUDY
    assert load_fusion(store, "fusion") == FUSION
    assert from_json(store.root.read(name_of("study")), path="a") == STUDY
    assert from_json(store.root.read(name_of("fusion")), path="a") == FUSION


def test_a_search_that_never_ran_has_no_record(store: JobStore) -> None:
    assert load_study(store, "study") is None
    assert load_fusion(store, "fusion") is None


def test_a_record_of_the_other_kind_is_reported(store: JobStore) -> None:
    save_search(store, "one", STUDY)
    with pytest.raises(RecordError, match=r"searches/one\.json"):
        load_fusion(store, "one")


@pytest.mark.parametrize("change", [b'"schema_version": 9', b'"schema_versio": 1'])
def test_a_record_of_another_schema_names_its_path_and_the_cure(store: JobStore, change: bytes) -> None:
    save_search(store, "one", msgspec.structs.replace(STUDY, best=None))
    content = store.root.read(name_of("one"))
    assert b'"schema_version": 1' in content
    store.root.write(name_of("one"), content.replace(b'"schema_version": 1', change))
    with pytest.raises(
        RecordError, match=r"searches/one\.json.*remove the file, and the same 'asdbench tune'"
    ):
        load_study(store, "one")
