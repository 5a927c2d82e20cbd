"""What the job store holds of a job, and what counts as finished."""

from pathlib import Path

import numpy as np
import pytest
import torch

from asdbench.engine.job_store import DamagedFileError, JobStore
from asdbench.engine.jobs import Job, ResolvedJob, TrainingTask
from asdbench.io.records import RecordError
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
    with pytest.raises(DamagedFileError, match="Weights only load failed"):
        store.load_tensors("trainings/x/model.pt")


FILES = ["training.json", "model.pt", "scoring.json", "components.parquet", "backend.pt"]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "folder"])
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_set_aside(
    store: JobStore, file: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    job = resolve()
    task = TrainingTask((job,))
    assert store.is_readable(task)
    in_training = file in ("training.json", "model.pt")
    folder = store.training(job.training_key) if in_training else store.scores(job.scoring_key)
    spoil(path := store.root.folder / folder / file, damage)
    assert not (store.is_done(task) and store.is_readable(task))
    assert not store.is_done(task)
    if damage == "folder":  # it is set aside where the file is written again
        store.root.write(f"{folder}/{file}", b"1")
        assert path.read_bytes() == b"1"
    else:
        assert not path.exists()
    assert path.with_name(f"{file}.damaged").exists()
    assert caplog.text.count(f"it is renamed to {file}.damaged and made again") == 1


def test_embeddings_come_back(store: JobStore) -> None:
    key = resolve().scoring_key
    embeddings = store.embeddings(key)
    assert embeddings is not None
    assert embeddings.shape == (store.components(key).height, 8)  # the bottleneck of the autoencoder
    assert embeddings.dtype == np.float16
    store.root.delete(f"scores/{key}/embeddings.npy")
    assert store.embeddings(key) is None


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_damaged_embeddings_are_made_again_with_the_scores(store: JobStore, damage: str) -> None:
    job = resolve()
    spoil(store.root.folder / f"scores/{job.scoring_key}/embeddings.npy", damage)
    with pytest.raises(
        DamagedFileError, match=r"embeddings.npy was damaged .* the same command makes it again"
    ):
        store.embeddings(job.scoring_key)
    assert not store.is_scored(job)
    assert store.embeddings(job.scoring_key) is None


def spoil(path: Path, damage: str) -> None:
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(
            {"cut": content[: len(content) // 2], "garbage": b"\xff\x00garbage" * 40, "empty": b""}[damage]
        )


def test_a_record_of_another_version_is_left_alone(store: JobStore) -> None:
    job = resolve()
    name = f"{store.training(job.training_key)}/training.json"
    store.root.write(name, store.root.read(name).replace(b'"schema_version": 3', b'"schema_version": 9'))
    with pytest.raises(RecordError, match="schema version 9; expected version 3"):
        store.training_record(job.training_key)
    assert store.root.exists(name)


def test_a_second_damaged_file_replaces_the_first_one_set_aside(s3: Storage, tmp_path: Path) -> None:
    for storage in (s3, Storage.from_location(tmp_path)):
        store = JobStore(storage)
        for content in (b"garbage", b"rubbish"):
            storage.write("scores/x/components.parquet", content)
            with pytest.raises(DamagedFileError, match=r"components\.parquet was damaged .* again"):
                store.components("x")
        assert storage.names("") == ["scores/x/components.parquet.damaged"]
        assert storage.read("scores/x/components.parquet.damaged") == b"rubbish"
        storage.set_aside("scores/x/components.parquet", "another process did it before")


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
