"""Results on any storage, and storages that are full or away."""

import gc
import os
import pickle
import shutil
import subprocess
import threading
import weakref
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from asdbench import registry
from asdbench.data import feature_store
from asdbench.data.loader import JobData
from asdbench.data.node_copies import node_home, publish, weights_files
from asdbench.data.sets import catalog
from asdbench.engine import task_training
from asdbench.engine.evaluation import evaluate
from asdbench.engine.events import Note, Report, TrainingProgress, Waiting
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, TrainingTask
from asdbench.engine.pretrained import weights_needed
from asdbench.engine.run_task import run_task
from asdbench.engine.runtime import Runtime
from asdbench.engine.stored_results import current_results
from asdbench.engine.task_training import TaskTraining, broadcast_from_rank_zero
from asdbench.io import retry as patience
from asdbench.io.retry import retry_until_stored
from asdbench.io.storage import Storage, StorageError
from asdbench.io.workspace import Workspace, node_cache_dir
from asdbench.testing import tiny_encoder, write_tiny
from asdbench.testing.conformance import threads

JOB = Job("baseline-mse", {"epochs": 4, "hidden": 16, "n_mels": 16, "batch_size": 64}, "tiny", "fan", 1)
FULL = StorageError("no space left in 'there'; make room there", transient=True)


class Interruption(BaseException):
    pass


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("storing")
    with pytest.MonkeyPatch.context() as patch, threads(1):
        patch.setenv("ASDBENCH_HOME", str(base / "home"))
        patch.setenv("ASDBENCH_CACHE", str(base / "cache"))
        patch.delenv("ASDBENCH_STORAGE", raising=False)
        catalog.add(Workspace.from_environment(), "tiny", write_tiny(base / "clips"))
        yield base


@pytest.fixture(scope="module")
def undisturbed(home: Path) -> tuple[ResolvedJob, JobStore]:
    return done(JobStore(Storage.from_location(home / "undisturbed")))


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_RETRY_S", 0.01)


def done(jobs: JobStore, **options: Any) -> tuple[ResolvedJob, JobStore]:
    resolved = ResolvedJob.from_workspace(JOB, Workspace.from_environment())
    failed = run_task(TrainingTask((resolved,)), Runtime(**options), jobs, checkpoint_epochs=1)
    assert failed == []
    return resolved, jobs


def results(of: tuple[ResolvedJob, JobStore]) -> tuple[pl.DataFrame, dict[str, torch.Tensor]]:
    resolved, jobs = of
    model = jobs.load_tensors(f"{jobs.training(resolved.training_key)}/model.pt")
    return jobs.components(resolved.scoring_key), model


def assert_same(one: tuple[ResolvedJob, JobStore], other: tuple[ResolvedJob, JobStore]) -> None:
    (scores, model), (pseudo_anomaly_data, their_model) = results(one), results(other)
    assert scores.equals(pseudo_anomaly_data)
    assert model.keys() == their_model.keys()
    assert all(torch.equal(model[name], their_model[name]) for name in model)


def failing(monkeypatch: pytest.MonkeyPatch, suffix: str, *faults: StorageError) -> list[str]:
    """Let the next writes of names that end in ``suffix`` fail; returns the names written, failed or not."""
    left, names, write = list(faults), [], Storage.write

    def written(self: Storage, name: str, content: Any) -> None:
        names.append(name)
        if name.endswith(suffix) and left:
            raise left.pop(0)
        write(self, name, content)

    monkeypatch.setattr(Storage, "write", written)
    return names


# Memory


def test_a_task_lets_go_of_its_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds 600 tasks would hold 600 times the windows of a training."""
    read: list[weakref.ref[JobData]] = []
    train = task_training.JobTraining

    def watched(system: Any, data: JobData, *args: Any, **options: Any) -> Any:
        read.append(weakref.ref(data))
        return train(system, data, *args, **options)

    monkeypatch.setattr(task_training, "JobTraining", watched)
    resolved, _ = done(JobStore(Storage.from_location(tmp_path)))
    gc.collect()
    assert [clips() for clips in read] == [None]
    assert resolved.keys


# Damaged files


@pytest.mark.parametrize("content", [b"", b"garbage" * 100], ids=["empty", "garbage"])
@pytest.mark.parametrize("file", ["model.pt", "checkpoint.pt"])
def test_a_damaged_model_or_checkpoint_is_made_again(
    tmp_path: Path, undisturbed: tuple[ResolvedJob, JobStore], file: str, content: bytes
) -> None:
    resolved, complete = undisturbed
    jobs = JobStore(Storage.from_location(shutil.copytree(str(complete.root), tmp_path / "jobs")))
    folder = jobs.training(resolved.training_key)
    jobs.root.delete_folder("scores")
    if file == "checkpoint.pt":
        jobs.root.delete(f"{folder}/model.pt")
    jobs.root.write(f"{folder}/{file}", content)
    assert_same(done(jobs), undisturbed)
    assert jobs.root.read(f"{folder}/{file}.damaged") == content


# Where results are


def test_results_in_an_object_store_are_those_in_a_folder(
    s3: Storage, undisturbed: tuple[ResolvedJob, JobStore]
) -> None:
    jobs, stopped = JobStore(s3), []

    def stop(event: Report) -> None:
        if event.epoch == 3 and not stopped:
            stopped.append(event)
            raise Interruption

    with pytest.raises(Interruption):
        done(jobs, report=stop)
    assert [Path(name).name for name in s3.names("trainings")] == ["checkpoint.pt"]
    steps: list[int] = []
    resolved, _ = done(jobs, report=lambda event: steps.append(event.epoch))
    assert steps[0] > 1  # it went on from the checkpoint
    assert_same((resolved, jobs), undisturbed)
    assert jobs.is_done(TrainingTask((resolved,)))
    assert jobs.training_speeds()["baseline-mse"] == pytest.approx(
        (record := jobs.training_record(resolved.training_key)).steps / record.seconds
    )
    assert "multitask-mel" not in jobs.training_speeds()
    for result in (evaluate(resolved, jobs), evaluate(resolved, jobs)):  # the second from the store
        assert result.record.sections == evaluate(*undisturbed).record.sections
    assert len(current_results(resolved.data, jobs).records) == 1
    folder = undisturbed[1].root
    for kind in ("trainings", "scores", "results"):
        assert s3.names(kind) == folder.names(kind)
    s3.delete(f"{jobs.training(resolved.training_key)}/model.pt")
    assert not jobs.is_done(TrainingTask((resolved,)))


def test_the_job_store_is_in_the_storage_that_the_user_chose(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert JobStore.from_workspace(Workspace.from_environment()).root.folder == home / "home" / "jobs"
    monkeypatch.setenv("ASDBENCH_STORAGE", "s3://me:hidden@b/x?region=r")
    jobs = JobStore.from_workspace(Workspace.from_environment())
    assert jobs.uri == "s3://me:hidden@b/x/jobs?region=r"
    assert "hidden" not in repr(jobs)
    assert pickle.loads(pickle.dumps(jobs)) == JobStore(Storage.from_location(jobs.uri)) == jobs
    with pytest.raises(FrozenInstanceError):
        jobs.root = Storage.from_location(tmp_path)  # type: ignore[misc]


ALL = [
    name
    for name in registry.names()
    if not (configured := registry.configure(name, {})).members and not weights_needed(configured)
]


@pytest.mark.parametrize("system", ALL)
def test_a_node_that_has_what_a_job_names_builds_nothing(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _check_node(Job(system, {}, "tiny", "fan", 1), tmp_path, monkeypatch)


def test_a_node_has_the_embeddings_and_what_names_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tiny_encoder.installed(Workspace.from_environment()):
        _check_node(Job("encoder-knn", {"encoder": tiny_encoder.ID}, "tiny", "fan", 1), tmp_path, monkeypatch)


def _check_node(given: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = ResolvedJob.from_workspace(given, Workspace.from_environment())
    for data, spec in resolved.features:
        feature_store.build(data, spec)
    files = [file for _, spec in resolved.features for file in weights_files(resolved.data.workspace, spec)]
    place = node_home(
        shared := Storage.from_location(tmp_path),
        publish(resolved.stored_clips, shared, weights_files=files),
        cache_dir=node_cache_dir(),
    )
    monkeypatch.setenv("ASDBENCH_HOME", str(place))
    monkeypatch.setattr(feature_store, "stored_rows", lambda *_, **__: pytest.fail("built on the node"))
    there = ResolvedJob.from_workspace(given, Workspace.from_environment())
    assert there.keys == resolved.keys
    one, other = (next(iter(job.clips.scoring_batches(job.clips.test_ids))) for job in (there, resolved))
    assert torch.equal(one.windows, other.windows)
    if one.encoded is not None:
        assert torch.equal(one.encoded, other.encoded)
    if there.input_spec.window_frames is not None:
        assert torch.equal(there.clips.batch(0).windows, resolved.clips.batch(0).windows)


def test_a_training_that_is_stopped_at_a_checkpoint_goes_on_there(
    tmp_path: Path, undisturbed: tuple[ResolvedJob, JobStore]
) -> None:
    def stop() -> None:
        raise Interruption

    store, steps = JobStore(Storage.from_location(tmp_path)), list[int]()

    def report(event: Report) -> None:
        if isinstance(event, TrainingProgress):
            steps.append(event.step)

    resolved = ResolvedJob.from_workspace(JOB, Workspace.from_environment())
    with pytest.raises(Interruption):
        run_task(
            TrainingTask((resolved,)),
            Runtime(after_checkpoint=stop, report=report),
            store,
            checkpoint_epochs=1,
        )
    stopped = len(steps)
    assert stopped == 1
    assert_same(done(store, report=report), undisturbed)
    assert steps[stopped:][0] > steps[0]  # no step is done twice


# Storages that are full or away


def test_training_goes_on_without_a_checkpoint(
    tmp_path: Path, undisturbed: tuple[ResolvedJob, JobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Report] = []
    names = failing(monkeypatch, "/checkpoint.pt", FULL, FULL)
    ran = done(JobStore(Storage.from_location(tmp_path)), report=events.append)
    assert len([name for name in names if name.endswith("/checkpoint.pt")]) >= 2
    notes = [event.message for event in events if isinstance(event, Note)]
    assert notes == [f"training continues without a checkpoint for now: {FULL}"] * 2
    assert not any(isinstance(event, Waiting) for event in events)
    assert_same(ran, undisturbed)


@pytest.mark.parametrize(
    "file", ["model.pt", "training.json", "backend.pt", "components.parquet", "scoring.json"]
)
@pytest.mark.parametrize("transient", [True, False])
def test_what_is_finished_waits_until_it_can_be_stored(
    tmp_path: Path,
    undisturbed: tuple[ResolvedJob, JobStore],
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    transient: bool,
) -> None:
    events: list[Report] = []
    fault = StorageError("cannot; mend it", transient)
    names = failing(monkeypatch, f"/{file}", fault, fault, fault)
    ran = done(JobStore(Storage.from_location(tmp_path)), report=events.append)
    assert len([name for name in names if name.endswith(f"/{file}")]) == 4
    assert [event for event in events if not isinstance(event, TrainingProgress)] == [
        Waiting("cannot; mend it")
    ]
    assert_same(ran, undisturbed)


def test_a_wait_is_told_at_once_and_every_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told, tries = [0.0], [], []
    monkeypatch.setattr(patience, "_RETRY_S", 5.0)
    monkeypatch.setattr(patience.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: clock.append(clock.pop() + seconds))

    def action() -> str:
        tries.append(clock[0])
        if clock[0] < 150:
            raise FULL
        return "stored"

    assert (
        retry_until_stored(
            action, on_wait=Runtime(report=lambda event: told.append((clock[0], event))).report_waiting
        )
        == "stored"
    )
    assert told == [(t, Waiting(str(FULL))) for t in (0, 60, 120)]
    assert tries == [5.0 * n for n in range(31)]


def test_what_does_not_pass_is_raised_while_nothing_is_lost() -> None:
    def action() -> None:
        raise StorageError("denied")

    with pytest.raises(StorageError, match="denied"):
        retry_until_stored(action, on_wait=print, transient_only=True)


def test_a_storage_that_cannot_be_written_is_found_out_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(task_training, "JobTraining", lambda *_, **__: pytest.fail("trained in vain"))
    with pytest.raises(
        StorageError, match=r"the storage '.*/file' cannot be used \(.*\); fix this, or choose"
    ):
        done(JobStore(Storage.from_location(tmp_path / "file")))


def test_a_full_disk_keeps_nobody_from_training(
    tmp_path: Path, undisturbed: tuple[ResolvedJob, JobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, ".probe", FULL)
    assert_same(done(JobStore(Storage.from_location(tmp_path))), undisturbed)


def test_a_storage_that_is_away_for_a_moment_is_waited_for(
    tmp_path: Path, undisturbed: tuple[ResolvedJob, JobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    left, names = [FULL, FULL], Storage.names

    def away(self: Storage, *arguments: str) -> list[str]:
        if left:
            raise left.pop()
        return names(self, *arguments)

    monkeypatch.setattr(Storage, "names", away)
    events: list[Report] = []
    assert_same(done(JobStore(Storage.from_location(tmp_path)), report=events.append), undisturbed)
    assert events[0] == Waiting(str(FULL))


def test_a_model_that_vanished_is_trained_again(
    tmp_path: Path, undisturbed: tuple[ResolvedJob, JobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    told, is_trained = [True], JobStore.is_trained
    monkeypatch.setattr(
        JobStore, "is_trained", lambda self, resolved: bool(told and told.pop()) or is_trained(self, resolved)
    )
    monkeypatch.setattr(JobStore, "is_done", lambda self, task: False)
    assert_same(done(JobStore(Storage.from_location(tmp_path))), undisturbed)


def test_a_real_disk_that_fills_up(tmp_path: Path, undisturbed: tuple[ResolvedJob, JobStore]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        waits = threading.Event()
        events: list[Report] = []

        def fill() -> None:
            with (disk / "filler").open("ab", buffering=0) as filler:
                try:
                    while filler.write(b"0" * 4096):
                        pass
                except OSError:
                    return

        def report(event: Report) -> None:
            events.append(event)
            if isinstance(event, TrainingProgress) and event.epoch == 1:
                fill()
            if isinstance(event, Waiting):
                waits.set()

        def make_room() -> None:
            assert waits.wait(60)
            (disk / "filler").unlink()

        room = threading.Thread(target=make_room)
        room.start()
        ran = done(JobStore(Storage.from_location(disk / "jobs")), report=report)
        room.join()
        assert_same(ran, undisturbed)
        notes = [event.message for event in events if isinstance(event, Note)]
        assert notes
        assert all("no space left in" in note for note in notes)
        (waiting,) = (event.reason for event in events if isinstance(event, Waiting))
        assert waiting.startswith(f"no space left in '{disk}/jobs' (")
        assert not list(disk.rglob("*.part"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Several processes


def test_the_others_get_what_the_leader_reads() -> None:
    def read() -> Any:
        pytest.fail("only the leader reads")

    other = Runtime(rank=1, size=2, broadcast=lambda _: (("model", None), None))
    assert broadcast_from_rank_zero(other, read) == ("model", None)
    told = Runtime(rank=1, size=2, broadcast=lambda _: (None, StorageError("denied")))
    with pytest.raises(StorageError, match="denied"):
        broadcast_from_rank_zero(told, read)
    sent: list[Any] = []

    def denied() -> Any:
        raise StorageError("denied")

    leader = Runtime(size=2, broadcast=lambda value: sent.append(value) or value)
    with pytest.raises(StorageError, match="denied"):
        broadcast_from_rank_zero(leader, denied)
    assert str(sent[0][1]) == "denied"


def _agreed(value: Any) -> Any:
    shared = [value]
    dist.broadcast_object_list(shared, src=0)
    return shared[0]


def _gathered(value: Any) -> list[Any]:
    every = [None] * dist.get_world_size()
    dist.all_gather_object(every, value)
    return every


def _member(rank: int, size: int, folder: str) -> None:
    os.environ["ASDBENCH_HOME"] = f"{folder}/home"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=size)
    jobs, task = (
        JobStore(Storage.from_location(f"{folder}/jobs")),
        TrainingTask((ResolvedJob.from_workspace(JOB, Workspace.from_environment()),)),
    )
    runtime = Runtime(rank=rank, size=size, broadcast=_agreed, gather=_gathered)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patience, "_RETRY_S", 0.5)
        if rank == 0:
            failing(patch, "/model.pt", FULL, FULL, FULL)
        run_task(task, runtime, jobs)
    run_task(task, runtime, jobs)  # the others come here at once, and wait for the leader
    trained = TaskTraining(task, runtime, jobs, checkpoint_epochs=5).stored()
    assert trained is not None
    torch.save(trained.system.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.cluster
def test_the_others_wait_while_the_leader_does(home: Path, tmp_path: Path) -> None:
    (tmp_path / "home").symlink_to(home / "home")
    mp.spawn(_member, (2, str(tmp_path)), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert JobStore(Storage.from_location(tmp_path / "jobs")).is_done(
        TrainingTask((ResolvedJob.from_workspace(JOB, Workspace.from_environment()),))
    )
