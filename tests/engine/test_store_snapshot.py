"""Snapshots of the job store: the answers of the store, from few listings."""

from collections.abc import Callable
from pathlib import Path

import pytest

from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, TrainingTask
from asdbench.engine.store_snapshot import StoreSnapshot
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace

FILES = {
    "trainings": ("training.json", "model.pt"),
    "scores": ("scoring.json", "components.parquet", "backend.pt"),
}


@pytest.fixture
def jobs(folder: Path) -> list[ResolvedJob]:
    """Jobs that differ in their seed; nothing is stored of them."""
    workspace = Workspace.from_environment()
    return [
        ResolvedJob.from_workspace(Job("baseline-mse", {}, "tiny", "fan", n), workspace) for n in range(40)
    ]


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were listed."""
    listed: list[str] = []
    names: Callable[..., list[str]] = Storage.names
    monkeypatch.setattr(
        Storage, "names", lambda self, folder, suffix="": listed.append(folder) or names(self, folder, suffix)
    )
    return listed


def store_job(root: Storage, job: ResolvedJob, *, without: str = "") -> None:
    for kind, key in (("trainings", job.training_key), ("scores", job.scoring_key)):
        for file in FILES[kind]:
            if file != without:
                root.write(f"{kind}/{key}/{file}", b"")


@pytest.mark.parametrize("n_asked", [3, 40])
@pytest.mark.parametrize("place", ["folder", "s3"])
def test_a_snapshot_answers_as_the_store_does(
    request: pytest.FixtureRequest, tmp_path: Path, jobs: list[ResolvedJob], n_asked: int, place: str
) -> None:
    root = request.getfixturevalue("s3") if place == "s3" else Storage.from_location(tmp_path / "place")
    missing = [file for files in FILES.values() for file in files]
    for number, job in enumerate(jobs[::2]):
        store_job(root, job, without=missing[number % 10] if number % 10 < len(missing) else "")
    store, snapshot = JobStore(root), StoreSnapshot(root)
    asked = jobs[-n_asked:]
    for question in ("is_trained", "is_scored"):
        answers = [getattr(snapshot, question)(job) for job in asked]
        assert answers == [getattr(store, question)(job) for job in asked]
    tasks = [TrainingTask((job,)) for job in asked]
    assert list(map(snapshot.is_done, tasks)) == list(map(store.is_done, tasks))
    assert any(map(snapshot.is_done, tasks))


def test_many_jobs_take_one_listing_and_few_take_one_each(
    store: JobStore, jobs: list[ResolvedJob], listings: list[str]
) -> None:
    snapshot = store.snapshot()
    for job in jobs[:3] * 2:
        assert not snapshot.is_trained(job)
    assert listings == [f"trainings/{job.training_key}" for job in jobs[:3]]
    for job in jobs:
        store_job(store.root, job)
    assert not snapshot.is_trained(jobs[0])  # as it was
    assert all(map(snapshot.is_scored, jobs[3:]))
    assert sorted(set(listings) & {"trainings", "scores"}) == ["scores", "trainings"]
    assert len(listings) <= 22


def test_an_ensemble_is_scored_when_its_members_are(store: JobStore) -> None:
    workspace = Workspace.from_environment()
    members = {"members": "baseline-mse,baseline-maha"}
    job = ResolvedJob.from_workspace(Job("ensemble", members, "tiny", "fan", 0), workspace)
    first, *others = job.members
    store_job(store.root, first)
    assert not store.snapshot().is_scored(job)
    for member in others:
        store_job(store.root, member)
    assert store.snapshot().is_scored(job)
