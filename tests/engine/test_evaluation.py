"""Judging of scored jobs, and the results that are stored."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from asdbench.data.sets import catalog
from asdbench.engine.evaluation import NoLabels, evaluate, judge_sections, labeled_clips, result_key
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.judge import judge_section
from asdbench.engine.result_record import SearchProvenance
from asdbench.engine.versions import installed
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.metrics import OFFICIAL

FIRST = {"epochs": 1, "hidden": 6, "frames": 2, "n_mels": 16}
TEN, TWENTY = SearchProvenance("abc", 10), SearchProvenance("abc", 20)


def job(settings: dict[str, Any], **pseudo_anomaly_data: Any) -> ResolvedJob:
    return ResolvedJob.from_workspace(
        Job("baseline-mse", settings, "tiny", "fan", 0, **pseudo_anomaly_data), Workspace.from_environment()
    )


def test_sections_are_judged_as_in_a_result_and_nothing_is_stored(folder: Path, store: JobStore) -> None:
    before = sorted(folder.rglob("*"))
    judged = judge_sections(job(FIRST), store, subset="dev")
    assert sorted(folder.rglob("*")) == before
    stored = evaluate(job(FIRST), store).record.sections
    assert judged == {section: metrics.official for section, metrics in stored.items()}
    assert set(judged) == {"00"}


def test_half_widths_are_over_recordings_where_they_are_known() -> None:
    rng = np.random.default_rng(0)
    anomaly = np.tile(np.repeat([False, True], 5), 8)
    columns = {
        "score": np.repeat(rng.normal(size=16), 5) + anomaly,
        "anomaly": anomaly,
        "domain": np.repeat(["source", "target"], 40),
    }
    recordings = np.repeat(np.arange(16), 5).astype(str).tolist()
    known = judge_section(pl.DataFrame(columns | {"recording": recordings}), {}, OFFICIAL)
    unknown = judge_section(pl.DataFrame(columns | {"recording": [None] * 80}), {}, OFFICIAL)
    assert known.official == unknown.official
    for metric in ("auc_source", "pauc"):
        assert known.half_width[metric] > 1.5 * unknown.half_width[metric]


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
    assert plain.record.tuned is None
    assert tuned.record.tuned == SearchProvenance("abc", 10, "dev")
    assert tuned.record.sections == plain.record.sections
    assert evaluate(job(FIRST), store, tuned=TEN).record.finished == tuned.record.finished
    truth = labeled_clips(catalog.load(Workspace.from_environment(), "tiny"))
    provenances = (
        None,
        TEN,
        TWENTY,
        SearchProvenance("abd", 10),
        SearchProvenance("abc", 10, "leave-one-type-out"),
    )
    keys = [result_key(job(FIRST), truth, subset="dev", tuned=provenance) for provenance in provenances]
    assert keys[:2] == [plain.key, tuned.key]
    assert len(set(keys)) == len(provenances)


@pytest.mark.parametrize("content", ["{", '{"system": "baseline-mse"}', '{"schema_version": 99}'])
def test_a_stored_result_that_does_not_fit_is_written_again(
    folder: Path, store: JobStore, content: str
) -> None:
    result = evaluate(job(FIRST), store)
    path = folder / "results" / f"{result.key}.json"
    path.write_text(content)
    again = evaluate(job(FIRST), store)
    assert (again.key, again.record.sections) == (result.key, result.record.sections)
    assert evaluate(job(FIRST), store) == again
    assert path.read_text() != content


def test_a_result_names_all_versions_that_made_it(store: JobStore) -> None:
    resolved = job(FIRST)
    first = evaluate(resolved, store).record
    assert first.versions == (installed(),)
    assert (first.data_version, len(first.fingerprint), first.rule) == (None, 64, resolved.data.rule)
    older = msgspec.structs.replace(installed(), torch="1.13.1")
    scoring = msgspec.structs.replace(store.scoring_record(resolved.scoring_key), versions=older)
    store.save_scoring_record(resolved.scoring_key, scoring)
    again = evaluate(resolved, store, tuned=TEN).record
    assert again.versions == (older, installed())


def test_a_result_from_the_store_equals_the_one_that_was_stored(store: JobStore) -> None:
    assert evaluate(job(FIRST), store, tuned=TEN) == evaluate(job(FIRST), store, tuned=TEN)
