"""Whether results are current: found out once, and again when anything that matters has changed."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine import evaluation, result_checks
from asdbench.engine.evaluation import JudgedTypes, evaluate, labeled_clips
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.record_index import indexed_records
from asdbench.engine.result_checks import with_checks
from asdbench.engine.result_index import RESULTS
from asdbench.engine.stored_results import current_results
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny

SETTINGS = {"epochs": 1, "hidden": 8, "frames": 2, "n_mels": 16}


@pytest.fixture
def data(store: JobStore) -> DataSet:
    """A data set with two results."""
    workspace = Workspace.from_environment()
    for hidden in (8, 6):
        job = Job("baseline-mse", SETTINGS | {"hidden": hidden}, "tiny", "fan", 0)
        evaluate(ResolvedJob.from_workspace(job, workspace), store)
    return catalog.load(workspace, "tiny")


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The machine types of the results whose key was made again."""
    done: list[str] = []
    key: Callable[..., str] = JudgedTypes.result_key

    def noted(self: JudgedTypes, resolved: ResolvedJob, **named: object) -> str:
        done.append(resolved.machine_type)
        return key(self, resolved, **named)

    monkeypatch.setattr(JudgedTypes, "result_key", noted)
    return done


def n_current(data: DataSet, store: JobStore) -> tuple[int, int]:
    stored = current_results(data, store)
    return len(stored.records), stored.n_outdated


def test_a_result_is_checked_once(data: DataSet, store: JobStore, checked: list[str]) -> None:
    assert [n_current(data, store) for _ in range(3)] == [(2, 0)] * 3
    assert len(checked) == 2
    store.root.delete_folder("index/checks")
    assert n_current(data, store) == (2, 0)
    assert len(checked) == 4


@pytest.mark.parametrize("change", ["code", "platform", "labels", "recordings", "judging"])
def test_what_changes_is_noticed(
    data: DataSet, store: JobStore, monkeypatch: pytest.MonkeyPatch, change: str, tmp_path: Path
) -> None:
    assert n_current(data, store) == (2, 0)
    source_hash = result_checks.registry.source_hash
    if change == "code":
        monkeypatch.setattr("asdbench.registry.source_hash", lambda name: source_hash(name) + "changed")
        expected = (0, 2)
    elif change == "platform":
        monkeypatch.setattr(result_checks, "_platform_hash", lambda: "other")
        expected = (2, 0)
    elif change == "judging":  # a change of the platform, as its sources differ
        monkeypatch.setattr(result_checks, "_platform_hash", lambda: "other")
        monkeypatch.setattr(evaluation, "judging_code", lambda: "other")
        expected = (0, 2)
    elif change == "labels":
        truth = catalog.truth
        monkeypatch.setattr(
            catalog, "truth", lambda data: truth(data).with_columns(anomaly=~pl.col("anomaly"))
        )
        expected = (0, 2)
    else:
        folder = write_tiny(tmp_path / "other", machine_types=("fan",), seed=1)
        workspace = Workspace.from_home(tmp_path / "home")
        catalog.add(workspace, "tiny", folder)
        data, expected = catalog.load(workspace, "tiny"), (0, 2)
    assert n_current(data, store) == expected


def test_what_is_out_of_date_may_become_current_again(
    data: DataSet, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("asdbench.registry.source_hash", lambda name: "other")
        assert n_current(data, store) == (0, 2)
    assert n_current(data, store) == (2, 0)


def test_rows_keep_their_order(data: DataSet, store: JobStore) -> None:
    results = indexed_records(store.root, RESULTS).rows
    found = with_checks(results, data, JudgedTypes(labeled_clips(data)), store.root)
    assert found["name"].to_list() == results["name"].to_list()
    assert found["is_current"].to_list() == [True, True]
