"""Cross-fitting: every source clip is scored by a model that was trained without its fold."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from asdbench import registry
from asdbench.data.loader import JobData
from asdbench.data.sets import catalog
from asdbench.engine import task_training, training
from asdbench.engine.evaluation import anomaly_scores, components_of, evaluate
from asdbench.engine.events import Report, TrainingProgress
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, TrainingTask, by_training
from asdbench.engine.run_task import run_task
from asdbench.engine.runtime import Runtime
from asdbench.engine.scoring import hold_out_scores
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny
from asdbench.testing.conformance import threads

SETTINGS = {"epochs": 1, "hidden": 8, "n_mels": 16, "batch_size": 512, "hold_out": "cross-fit"}


class Interruption(BaseException):
    pass


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("folds")
    with pytest.MonkeyPatch.context() as patch, threads(1):
        patch.setenv("ASDBENCH_HOME", str(base / "home"))
        patch.delenv("ASDBENCH_STORAGE", raising=False)
        catalog.add(Workspace.from_environment(), "tiny", write_tiny(base / "clips", machine_types=["fan"]))
        yield base


@pytest.fixture(scope="module")
def finished(home: Path) -> tuple[ResolvedJob, JobStore]:
    store = JobStore(Storage.from_location(home / "store"))
    for system in ("baseline-mse", "baseline-maha"):
        assert run_task(TrainingTask((resolved(system),)), Runtime(), store) == []
    return resolved(), store


def resolved(system: str = "baseline-mse", **settings: Any) -> ResolvedJob:
    return ResolvedJob.from_workspace(
        Job(system, {**SETTINGS, **settings}, "tiny", "fan", 1), Workspace.from_environment()
    )


def hold_out_of(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(use="hold-out").sort("clip_id")


def test_every_fold_trains_on_what_it_does_not_score() -> None:
    clips = resolved().clips
    own = clips.data.clips.filter(split="train")
    source, target = (set(own.filter(domain=domain)["clip_id"]) for domain in ("source", "target"))
    assert set(clips.training_ids) == source | target
    assert set(clips.hold_out_ids) == source
    assert set(clips.target_hold_out_ids) == target
    assert clips.n_folds == 5
    folds = [clips.without_fold(fold) for fold in range(5)]
    for fold in folds:
        left_out = set(fold.hold_out_ids) | set(fold.target_hold_out_ids)
        assert set(fold.training_ids) | left_out == source | target
        assert not set(fold.training_ids) & left_out
        assert fold.facts is clips.facts
        assert not any(fold.hold_out_ids[0] in other.hold_out_ids for other in folds if other is not fold)
    assert len(np.concatenate([fold.hold_out_ids for fold in folds])) == len(source)


def test_a_fold_keeps_nothing_of_the_other_clips() -> None:
    clips = resolved().clips
    steps, statistics = clips.steps_per_epoch, next(iter(clips.backend_batches())).windows
    fold = clips.without_fold(2)
    assert fold.steps_per_epoch <= steps
    assert {int(clip_id) for clip_id in fold._clips.clip_id} == set(fold.training_ids.tolist())
    assert clips.steps_per_epoch == steps
    assert torch.equal(next(iter(clips.backend_batches())).windows, statistics)


def test_hold_out_scores_are_those_of_models_without_the_fold(
    finished: tuple[ResolvedJob, JobStore],
) -> None:
    job, store = finished
    clips = job.clips.without_fold(3)
    training.seed_initial_weights(1)
    system = job.build_trained(clips.facts)
    training.train(system, clips, Runtime(), seed=1)
    expected = hold_out_scores(system, clips, device=torch.device("cpu"))
    stored = hold_out_of(components_of(job, store))
    assert stored["clip_id"].to_list() == job.clips.hold_out_ids.tolist()
    stored = components_of(job, store).filter(pl.col("use") != "test")
    assert set(stored["clip_id"]) == set(job.clips.training_ids)
    assert expected.height >= 4
    told = expected.join(stored, on="clip_id", suffix="_stored")
    np.testing.assert_allclose(told["mse"], told["mse_stored"], rtol=1e-5)
    embeddings = store.embeddings(job.scoring_key)
    assert embeddings is not None
    assert len(embeddings) == components_of(job, store).height


def test_a_back_end_is_fitted_without_the_fold(finished: tuple[ResolvedJob, JobStore]) -> None:
    maha = hold_out_of(components_of(resolved("baseline-maha"), finished[1]))
    assert maha["clip_id"].to_list() == resolved().clips.hold_out_ids.tolist()
    assert maha["released"].is_finite().all()


def test_a_training_counts_its_folds(finished: tuple[ResolvedJob, JobStore]) -> None:
    job, store = finished
    record = store.training_record(job.training_key)
    assert record.steps == total_steps_of(job) > 4 * job.clips.steps_per_epoch
    judged = evaluate(job, store).record
    assert judged.hold_out_clips == 21
    held_out = judged.thresholds["empirical"].held_out
    assert {domain: normals.normals for domain, normals in held_out.items()} == {"source": 21, "target": 3}


def total_steps_of(job: ResolvedJob) -> int:
    return training.total_steps(job.build_trained(job.clips.facts), job.clips)


def test_an_interrupted_cross_fitting_repeats_no_fold(
    home: Path, finished: tuple[ResolvedJob, JobStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JobStore(Storage.from_location(home / "interrupted"))
    reports: list[Report] = []

    def report(event: Report) -> None:
        reports.append(event)
        if sum(isinstance(told, TrainingProgress) for told in reports) == 3:
            raise Interruption

    with pytest.raises(Interruption):
        run_task(TrainingTask((resolved(),)), Runtime(report=report), store)
    trained: list[int] = []

    def watched(system: Any, data: JobData, *args: Any, **options: Any) -> Any:
        trained.append(len(data.hold_out_ids))
        return train(system, data, *args, **options)

    train = task_training.JobTraining
    monkeypatch.setattr(task_training, "JobTraining", watched)
    assert run_task(TrainingTask((resolved(),)), Runtime(), store) == []
    assert len(trained) == 4  # folds 2 to 4, and all clips
    assert components_of(resolved(), store).equals(components_of(finished[0], finished[1]))
    assert store.training_record(resolved().training_key).steps == total_steps_of(resolved())


def test_without_stages_back_ends_alone_are_fitted_without_a_fold(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.get("baseline-mse"), "stages", lambda system, steps: [])
    store = JobStore(Storage.from_location(home / "untrained"))
    job = resolved("baseline-maha")
    assert run_task(TrainingTask((job,)), Runtime(), store) == []
    assert not any("fold" in name for name in store.root.names(store.training(job.training_key)))
    assert hold_out_of(components_of(job, store)).height == 21
    assert store.training_record(job.training_key).steps == 0


def test_members_meet_on_the_clips_that_all_hold_out(
    home: Path, finished: tuple[ResolvedJob, JobStore]
) -> None:
    store = finished[1]
    settings: dict[str, Any] = {name: value for name, value in SETTINGS.items() if name != "hold_out"}
    settings["members"] = ("baseline-mse@hold_out=cross-fit", "baseline-mse")
    ensemble = ResolvedJob.from_workspace(
        Job("ensemble", settings, "tiny", "fan", 1), Workspace.from_environment()
    )
    for task in by_training(ensemble.parts):
        assert run_task(task, Runtime(), store) == []
    scores = anomaly_scores(ensemble, store)
    split = next(part for part in ensemble.parts if not part.clips.n_folds)
    assert hold_out_of(scores)["clip_id"].to_list() == split.clips.hold_out_ids.tolist()
    assert scores.filter(use="test").height == 8
    assert evaluate(ensemble, store).record.hold_out_clips == 9
