"""What the job store holds of a job, and what counts as finished."""

from pathlib import Path

import pytest
import torch

from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, TrainingTask
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace

SETTINGS = {"epochs": 1, "hidden": 8, "frames": 2, "n_mels": 16}


def resolve(system: str = "baseline-mse", seed: int = 0) -> ResolvedJob:
    return ResolvedJob.from_workspace(
        Job(system, SETTINGS, "tiny", "fan", seed), Workspace.from_environment()
    )


def test_the_store_of_a_workspace_lies_in_its_storage(tmp_path: Path) -> None:
    workspace = Workspace.from_home(tmp_path / "home", storage=tmp_path / "results")
    assert JobStore.from_workspace(workspace).root.folder == tmp_path / "results" / "jobs"


@pytest.mark.parametrize("missing", ["training.json", "model.pt"])
def test_a_training_without_one_of_its_files_is_not_finished(store: JobStore, missing: str) -> None:
    job = resolve()
    assert store.is_trained(job)
    assert not store.is_trained(resolve(seed=1))
    store.root.delete(f"{store.training(job.training_key)}/{missing}")
    assert not store.is_trained(job)
    assert not store.is_scored(job)


@pytest.mark.parametrize("missing", ["scoring.json", "components.parquet", "backend.pt"])
def test_scores_without_one_of_their_files_are_not_finished(store: JobStore, missing: str) -> None:
    job = resolve()
    assert store.is_done(TrainingTask((job,)))
    store.root.delete(f"{store.scores(job.scoring_key)}/{missing}")
    assert store.is_trained(job)
    assert not store.is_scored(job)
    assert not store.is_done(TrainingTask((job,)))


def test_a_task_is_done_when_all_its_jobs_are(store: JobStore) -> None:
    assert not store.is_done(TrainingTask((resolve(), resolve("baseline-maha"))))


def test_tensors_come_back_and_code_in_a_file_is_not_run(store: JobStore, tmp_path: Path) -> None:
    store.save_tensors("trainings/x/model.pt", {"weight": torch.arange(3), "steps": 7})
    content = store.load_tensors("trainings/x/model.pt")
    assert content["weight"].tolist() == [0, 1, 2]
    assert content["steps"] == 7
    store.save_tensors("trainings/x/model.pt", {"path": tmp_path})
    with pytest.raises(Exception, match="weights_only"):
        store.load_tensors("trainings/x/model.pt")


def test_the_speed_of_a_system_is_known_once_it_ran(store: JobStore, folder: Path, tmp_path: Path) -> None:
    speeds = store.training_speeds()
    rates = []
    for path in (folder / "trainings").iterdir():
        record = store.training_record(path.name)
        rates.append(record.steps / record.seconds)
    assert speeds == {"baseline-mse": sorted(rates)[1]}
    next((folder / "trainings").glob("*/training.json")).write_text("damaged")
    assert store.training_speeds()["baseline-mse"] in rates
    assert JobStore(Storage.from_location(tmp_path / "empty")).training_speeds() == {}
