import importlib
import importlib.metadata
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from asdbench import registry
from asdbench.data.loader import JobData
from asdbench.data.sets import catalog
from asdbench.engine import training
from asdbench.engine.distributed import total_loss
from asdbench.engine.evaluation import anomaly_scores
from asdbench.engine.events import Report, TrainingProgress
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, TrainingTask, by_training
from asdbench.engine.loss_sums import LossSums
from asdbench.engine.run_task import run_task
from asdbench.engine.runtime import Runtime
from asdbench.engine.task_records import TrainingRecord
from asdbench.engine.training import Saving
from asdbench.engine.training_step import fast_bfloat16
from asdbench.errors import InputError
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.system import BatchPlan, ClipBatch, Losses, Mean
from asdbench.testing import write_tiny
from asdbench.testing.conformance import threads

QUICK = {"epochs": 4, "hidden": 16, "n_mels": 16, "batch_size": 64}

THEIRS = '''
"""Two stages with a scheduler each, dropout, and a back end that is drawn at random."""

import torch
from dataclasses import dataclass
from asdbench.config import tunable
from asdbench.spec import MelSpec
from asdbench.system import BatchPlan, Losses, Mean, InputSpec, Stage, System, Update


@dataclass(frozen=True)
class Config:
    epochs: int = tunable(3)
    scale: float = tunable(1.0, affects="scoring")


class Theirs(System):
    Config = Config

    def __init__(self, config, facts):
        super().__init__(config, facts)
        self.one = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.Dropout(0.5))
        self.two = torch.nn.Linear(40, 40)
        self.register_buffer("direction", torch.zeros(40))

    @classmethod
    def input_spec(cls, config):
        mel = MelSpec(hop_samples=512, n_mels=8)
        return InputSpec(mel, window_frames=5, window_hop_frames=5, standardize=True)

    @classmethod
    def batch_plan(cls, config):
        return BatchPlan(8, "window-per-clip", pseudo_anomaly_share=0.25, target_rows=1)

    def stages(self, steps_per_epoch):
        def stage(name, module, **length):
            optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.7)
            return Stage(name, [Update(name, optimizer, scheduler, gradient_clip=1.0)], **length)
        return [stage("one", self.one, epochs=self.config.epochs), stage("two", self.two, steps=5)]

    def forward(self, batch, update, progress):
        vectors = batch.windows.flatten(1)
        error = (getattr(self, update)(vectors) - vectors).square() * (1 + progress)
        own = Mean.from_values(error.mean(1), batch.machine == 0)
        return Losses({"all": Mean.from_values(error), "own": own}, {"own": 0.5})

    def fit_backend(self, batches):
        count = sum(batch.n_clips for batch in batches)
        self.direction = count * torch.randn(40)

    def components(self, batch):
        score = (self.two(self.one(batch.windows.flatten(1))) @ self.direction).square() * self.config.scale
        rows = torch.bincount(batch.clip, minlength=batch.n_clips)
        return {"theirs": torch.zeros(batch.n_clips).index_add_(0, batch.clip, score) / rows}
'''


class Interruption(BaseException):
    pass


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("engine")
    (base / "code").mkdir()
    (base / "code/their_engine_system.py").write_text(THEIRS)
    entry = importlib.metadata.EntryPoint("theirs", "their_engine_system:Theirs", registry.ENTRY_POINTS)
    with pytest.MonkeyPatch.context() as patch, threads(1):
        patch.setenv("ASDBENCH_HOME", str(base / "home"))
        patch.syspath_prepend(str(base / "code"))
        patch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
        catalog.add(Workspace.from_environment(), "tiny", write_tiny(base / "clips"))
        yield base
    registry.get.cache_clear()
    registry.source_hash.cache_clear()
    sys.modules.pop("their_engine_system", None)


def job(system: str = "baseline-mse", *, seed: int = 1, **settings: Any) -> Job:
    return Job(system, ({} if system == "theirs" else QUICK) | settings, "tiny", "fan", seed)


def done(given: Job, store: JobStore, **options: Any) -> ResolvedJob:
    resolved = ResolvedJob.from_workspace(given, Workspace.from_environment())
    run_task(TrainingTask((resolved,)), options.pop("runtime", Runtime()), store, **options)
    return resolved


def model(resolved: ResolvedJob, store: JobStore) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = store.load_tensors(f"{store.training(resolved.training_key)}/model.pt")
    return found


def record(resolved: ResolvedJob, store: JobStore) -> TrainingRecord:
    return store.training_record(resolved.training_key)


def components(resolved: ResolvedJob, store: JobStore) -> pl.DataFrame:
    return store.components(resolved.scoring_key)


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# Going on from a checkpoint


@pytest.mark.parametrize("system", ["baseline-mse", "theirs"])
@pytest.mark.parametrize("checkpoint_epochs", [1, 2])
def test_a_resumed_training_equals_an_undisturbed_one(
    tmp_path: Path, system: str, checkpoint_epochs: int
) -> None:
    undisturbed, disturbed = (
        JobStore(Storage.from_location(tmp_path / "a")),
        JobStore(Storage.from_location(tmp_path / "b")),
    )
    resolved = done(job(system), undisturbed)
    checkpoint = tmp_path / "b" / disturbed.training(resolved.training_key) / "checkpoint.pt"
    interruptions, seen = 0, set()

    def report(event: Report) -> None:
        if event.step not in seen:
            seen.add(event.step)
            raise Interruption

    while True:
        try:
            done(job(system), disturbed, runtime=Runtime(report=report), checkpoint_epochs=checkpoint_epochs)
            break
        except Interruption:
            interruptions += 1
            assert checkpoint.exists() == (interruptions > checkpoint_epochs)
            torch.rand(interruptions)  # the process's own random state has no say
    assert interruptions == len(record(resolved, undisturbed).curve)
    assert not checkpoint.exists()
    assert_same(model(resolved, disturbed), model(resolved, undisturbed))
    assert record(resolved, disturbed).curve == record(resolved, undisturbed).curve
    assert record(resolved, disturbed).steps == record(resolved, undisturbed).steps
    assert components(resolved, disturbed).equals(components(resolved, undisturbed))


def test_what_is_there_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = JobStore(Storage.from_location(tmp_path))
    resolved = done(job(), store)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("trained again"))
    assert store.is_done(TrainingTask((resolved,)))
    done(job(), store)
    done(job("baseline-maha"), store)  # scores the training that is there
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_scores_do_not_depend_on_who_trained(tmp_path: Path) -> None:
    """A back end that draws numbers draws the same ones after training and after loading the training."""
    fresh, loaded = (
        JobStore(Storage.from_location(tmp_path / "a")),
        JobStore(Storage.from_location(tmp_path / "b")),
    )
    resolved = done(job("theirs"), fresh)
    trained = done(job("theirs", scale=2.0), loaded)
    assert trained.training_key == resolved.training_key
    done(job("theirs"), loaded)
    assert components(resolved, loaded).equals(components(resolved, fresh))


def test_scorers_of_one_work_do_not_disturb_each_other(tmp_path: Path) -> None:
    together, apart = (
        JobStore(Storage.from_location(tmp_path / "a")),
        JobStore(Storage.from_location(tmp_path / "b")),
    )
    jobs = [
        ResolvedJob.from_workspace(job("theirs", scale=scale), Workspace.from_environment())
        for scale in (1.0, 2.0)
    ]
    run_task(TrainingTask(tuple(jobs)), Runtime(), together)
    for resolved in reversed(jobs):
        run_task(TrainingTask((resolved,)), Runtime(), apart)
    for resolved in jobs:
        assert components(resolved, together).equals(components(resolved, apart))


def test_the_random_state_of_the_caller_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    done(job(), JobStore(Storage.from_location(tmp_path)))
    assert torch.equal(torch.rand(3), expected)


# Keys


def test_both_baselines_share_one_training(tmp_path: Path) -> None:
    mse, maha = (
        ResolvedJob.from_workspace(job(), Workspace.from_environment()),
        ResolvedJob.from_workspace(job("baseline-maha", maha_mode="per_frame"), Workspace.from_environment()),
    )
    assert mse.training_key == maha.training_key
    assert mse.scoring_key != maha.scoring_key
    (task,) = by_training([mse, maha])
    store = JobStore(Storage.from_location(tmp_path))
    run_task(task, Runtime(), store)
    assert len(list((tmp_path / "trainings").iterdir())) == 1
    assert components(mse, store).columns == ["clip_id", "use", "mse"]
    assert components(maha, store).columns == ["clip_id", "use", "released", "per_frame"]


def test_a_setting_changes_what_it_affects() -> None:
    maha = ResolvedJob.from_workspace(job("baseline-maha"), Workspace.from_environment())
    fused = ResolvedJob.from_workspace(
        job("baseline-maha", maha_mode="per_frame"), Workspace.from_environment()
    )
    assert (fused.training_key, fused.scoring_key) == (maha.training_key, maha.scoring_key)
    theirs, scored = (
        ResolvedJob.from_workspace(job("theirs"), Workspace.from_environment()),
        ResolvedJob.from_workspace(job("theirs", scale=2.0), Workspace.from_environment()),
    )
    assert scored.training_key == theirs.training_key
    assert scored.scoring_key != theirs.scoring_key
    for changed in (
        job(epochs=5),
        job(precision="bfloat16"),
        job(seed=2),
        replace(job(), machine_type="valve"),
    ):
        assert (
            ResolvedJob.from_workspace(changed, Workspace.from_environment()).training_key
            != ResolvedJob.from_workspace(job(), Workspace.from_environment()).training_key
        )
        assert (
            ResolvedJob.from_workspace(changed, Workspace.from_environment()).scoring_key
            != ResolvedJob.from_workspace(job(), Workspace.from_environment()).scoring_key
        )
    assert (
        ResolvedJob.from_workspace(
            job(epochs="4", learning_rate="0.001"), Workspace.from_environment()
        ).training_key
        == ResolvedJob.from_workspace(job(), Workspace.from_environment()).training_key
    )


def test_a_fusion_setting_changes_the_score_alone(tmp_path: Path) -> None:
    store = JobStore(Storage.from_location(tmp_path))
    scores = [
        anomaly_scores(done(job("baseline-maha", maha_mode=mode), store), store)["score"].to_numpy()
        for mode in ("released", "per_frame")
    ]
    assert not np.allclose(*scores)
    assert len(list((tmp_path / "scores").iterdir())) == 1


def test_other_machine_types_count_where_they_are_read(home: Path, tmp_path: Path) -> None:
    other = catalog.add(Workspace.from_environment(), "other", write_tiny(tmp_path / "clips", seed=0))
    valve = pl.col("machine_type") == "valve"
    changed = other.clips.with_columns(
        content_hash=pl.when(valve).then(pl.lit("0")).otherwise(pl.col("content_hash"))
    )
    changed_set = replace(other, clips=changed)
    for system, same in (("baseline-mse", True), ("theirs", False)):
        keys = {ResolvedJob.from_job(job(system), data).training_key for data in (other, changed_set)}
        assert (len(keys) == 1) is same


def test_test_clips_change_scores_and_no_training() -> None:
    data = catalog.load(Workspace.from_environment(), "tiny")
    test = pl.col("split") == "test"
    changed = data.clips.with_columns(
        content_hash=pl.when(test).then(pl.lit("0")).otherwise(pl.col("content_hash"))
    )
    found = ResolvedJob.from_job(job(), replace(data, clips=changed))
    assert found.training_key == ResolvedJob.from_workspace(job(), Workspace.from_environment()).training_key
    assert found.scoring_key != ResolvedJob.from_workspace(job(), Workspace.from_environment()).scoring_key


# The loop


def test_a_diverged_training_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = registry.get("baseline-mse").forward

    def diverging(self: Any, batch: Any, update: str, progress: torch.Tensor) -> Losses:
        part = forward(self, batch, update, progress).parts["reconstruction"]
        return Losses({"reconstruction": Mean(part.sum * (math.nan if progress >= 0.5 else 1.0), part.count)})

    monkeypatch.setattr(registry.get("baseline-mse"), "forward", diverging)
    store = JobStore(Storage.from_location(tmp_path))
    with pytest.raises(
        InputError, match=r"diverged: in epoch 3 of stage 'reconstruction' .* lower learning rate"
    ):
        done(job(), store)
    assert not store.is_trained(ResolvedJob.from_workspace(job(), Workspace.from_environment()))


@pytest.mark.parametrize("system", ["baseline-mse", "theirs"])
def test_progress_is_reported_every_epoch(tmp_path: Path, system: str) -> None:
    events: list[Report] = []
    resolved = done(
        job(system), JobStore(Storage.from_location(tmp_path)), runtime=Runtime(report=events.append)
    )
    steps = [event.step for event in events if isinstance(event, TrainingProgress)]
    total = training.total_steps(resolved.build_trained(resolved.clips.facts), resolved.clips)
    assert steps == sorted(set(steps))
    assert steps[-1] == total == record(resolved, JobStore(Storage.from_location(tmp_path))).steps
    assert {event.steps for event in events if isinstance(event, TrainingProgress)} == {total}
    if system == "theirs":
        stages = [entry.stage for entry in record(resolved, JobStore(Storage.from_location(tmp_path))).curve]
        assert stages == ["one"] * 3 + ["two"] * math.ceil(5 / resolved.clips.steps_per_epoch)
        assert total == 3 * resolved.clips.steps_per_epoch + 5


def test_the_curve_holds_means_of_every_part() -> None:
    resolved = ResolvedJob.from_workspace(job("theirs", epochs=1), Workspace.from_environment())
    with torch.random.fork_rng(devices=[]):
        system = resolved.build_trained(resolved.clips.facts)
        initial = {name: value.clone() for name, value in system.state_dict().items()}
        curve = training.train(system, resolved.clips, Runtime(), seed=1).curve
        system.load_state_dict(initial)
        losses = by_hand(resolved.clips, system)
    assert (curve[0].stage, curve[0].epoch) == ("one", 1)
    assert curve[0].losses == pytest.approx(losses)


def by_hand(data: JobData, system: Any) -> dict[str, float]:
    stage = system.train().stages(data.steps_per_epoch)[0]
    (update,) = stage.updates
    sums = {"all": 0.0, "own": 0.0}
    for step in range(data.steps_per_epoch):
        training.seed_torch(1, step)
        losses = system(data.batch(step), "one", torch.tensor(step / data.steps_per_epoch))
        means = {name: part.sum / part.count for name, part in losses.parts.items()}
        total, _ = total_loss(losses, Runtime())
        torch.testing.assert_close(total, means["all"] + 0.5 * means["own"])
        update.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(system.one.parameters(), 1.0)
        update.optimizer.step()
        update.scheduler.step()
        sums = {name: sums[name] + float(means[name].detach()) for name in sums}
    return {name: value / data.steps_per_epoch for name, value in sums.items()}


def test_monitors_are_recorded_and_minimize_nothing() -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    losses = Losses(
        {"part": Mean(weight * 3, 2)}, {"part": 4.0}, monitors={"seen": Mean(torch.tensor(5.0), 2)}
    )
    total, means = total_loss(losses, Runtime())
    assert float(total.detach()) == 12.0
    assert {name: float(value) for name, value in means.items()} == {"part": 3.0, "seen": 2.5}


def test_a_stage_has_its_own_plan_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = ResolvedJob.from_workspace(job("theirs", epochs=1), Workspace.from_environment())
    system = registry.get("theirs")
    stages, forward = system.stages, system.forward
    seen = []

    def planned(self: Any, steps_per_epoch: int) -> Any:
        one, two = stages(self, steps_per_epoch)
        plan = BatchPlan(4, draw="window-per-clip")
        return [replace(one, plan=plan), replace(two, precision="bfloat16")]

    def watched(self: Any, batch: Any, update: str, progress: torch.Tensor) -> Losses:
        seen.append((update, len(batch.machine), torch.is_autocast_enabled("cpu")))
        return forward(self, batch, update, progress)

    monkeypatch.setattr(system, "stages", planned)
    monkeypatch.setattr(system, "forward", watched)
    with torch.random.fork_rng(devices=[]):
        made = resolved.build_trained(resolved.clips.facts)
        steps = training.total_steps(made, resolved.clips)
        curve = training.train(made, resolved.clips, Runtime(), seed=1).curve
    size = resolved.plan.size
    source = int((resolved.clips._clips.domain[resolved.clips._clips.machine == 0] == 0).sum())
    assert seen == [("one", 4, False)] * -(-source // 4) + [("two", size, True)] * 5
    assert len(seen) == steps
    assert [point.epoch for point in curve if point.stage == "one"] == [1]


def test_auto_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    for amx, avx512 in ((True, False), (False, True), (False, False)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx512=avx512: avx512)
        assert fast_bfloat16(torch.device("cpu")) is (amx or avx512)


def test_checkpoints_take_a_small_share_of_the_time() -> None:
    saved: list[int] = []

    def slow(state: dict[str, Any]) -> None:
        saved.append(state["step"])
        time.sleep(0.5)

    resolved = ResolvedJob.from_workspace(job("theirs", epochs=6), Workspace.from_environment())
    with torch.random.fork_rng(devices=[]):
        made = resolved.build_trained(resolved.clips.facts)
        training.train(made, resolved.clips, Runtime(), seed=1, checkpoint=slow, checkpoint_epochs=1)
    assert len(saved) == 1  # the next is due after ten seconds


def test_a_mean_over_no_rows_is_zero() -> None:
    values = torch.ones(3, requires_grad=True)
    total, parts = total_loss(
        Losses({"none": Mean.from_values(values, torch.zeros(3, dtype=torch.bool))}), Runtime()
    )
    assert float(total.detach()) == float(parts["none"]) == 0.0


@pytest.mark.parametrize("other", [(1, 1, 0), (2, 0, 0), (1, 0, 1)])
def test_random_numbers_differ_by_seed_step_and_rank(other: tuple[int, int, int]) -> None:
    def drawn(seed: int, step: int, rank: int) -> torch.Tensor:
        training.seed_torch(seed, step, rank=rank)
        return torch.rand(4)

    with torch.random.fork_rng(devices=[]):
        assert torch.equal(drawn(1, 0, 0), drawn(1, 0, 0))
        assert not torch.equal(drawn(1, 0, 0), drawn(*other))


def test_a_job_whose_scoring_fails_leaves_the_others_of_its_training_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both baselines score one training; only one of them fails."""
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    catalog.add(Workspace.from_environment(), "tiny", write_tiny(tmp_path / "clips"))
    settings = {"epochs": 2, "hidden": 8, "batch_size": 64}
    jobs = [
        ResolvedJob.from_workspace(Job(s, settings, "tiny", "fan", 0), Workspace.from_environment())
        for s in ("baseline-maha", "baseline-mse")
    ]

    def broken(*_: Any) -> None:
        raise RuntimeError("no covariance today")

    monkeypatch.setattr(registry.get("baseline-maha"), "fit_backend", broken)
    store = JobStore(Storage.from_location(tmp_path / "jobs"))
    (task,) = by_training(jobs)
    ((failed, error),) = run_task(task, Runtime(), store)
    assert failed.job.system == "baseline-maha"
    assert "no covariance today" in str(error)
    assert store.is_scored(jobs[1])
    assert not store.is_scored(jobs[0])
    assert not store.is_done(task)


def test_results_whose_files_were_removed_count_as_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    catalog.add(Workspace.from_environment(), "tiny", write_tiny(tmp_path / "clips"))
    resolved = ResolvedJob.from_workspace(
        Job("baseline-mse", {"epochs": 2, "hidden": 8}, "tiny", "fan", 0), Workspace.from_environment()
    )
    store = JobStore(Storage.from_location(tmp_path / "jobs"))
    run_task(TrainingTask((resolved,)), Runtime(), store)
    assert store.is_done(TrainingTask((resolved,)))
    (tmp_path / "jobs" / store.scores(resolved.scoring_key) / "components.parquet").unlink()
    assert store.is_trained(resolved)
    assert not store.is_scored(resolved)
    run_task(TrainingTask((resolved,)), Runtime(), store)
    (tmp_path / "jobs" / store.training(resolved.training_key) / "model.pt").unlink()
    assert not store.is_done(TrainingTask((resolved,)))


def test_a_long_curve_of_short_epochs_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_MOST_POINTS", 4)
    resolved = ResolvedJob.from_workspace(job("theirs", epochs=1), Workspace.from_environment())
    events: list[Report] = []
    system = registry.get("theirs")
    stages = system.stages
    plan = BatchPlan(64, draw="window-per-clip")  # one step an epoch
    monkeypatch.setattr(
        system, "stages", lambda self, steps: [replace(stages(self, steps)[1], steps=11, plan=plan)]
    )
    with torch.random.fork_rng(devices=[]):
        made = resolved.build_trained(resolved.clips.facts)
        record = training.train(made, resolved.clips, Runtime(report=events.append), seed=1)
    assert [point.epoch for point in record.curve] == [3, 6, 9, 11]
    assert [event.step for event in events if isinstance(event, TrainingProgress)] == [3, 6, 9, 11]


def test_multiply_accumulates_of_attention_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from asdbench.engine.scoring import macs_per_clip

    resolved = ResolvedJob.from_workspace(job("theirs"), Workspace.from_environment())
    system = resolved.build_trained(resolved.clips.facts)

    def attending(batch: ClipBatch) -> dict[str, torch.Tensor]:
        x = torch.ones(1, 2, 10, 4)  # two heads, ten frames, four features
        return {
            "theirs": torch.nn.functional.scaled_dot_product_attention(x, x, x).sum().expand(batch.n_clips)
        }

    monkeypatch.setattr(system, "components", attending)
    assert macs_per_clip(system, resolved.clips, device=torch.device("cpu")) == 2 * (2 * 10 * 10 * 4)


@pytest.mark.parametrize(("trainings", "saved"), [(1, [1, 3, 5]), (4, [1, 6])])
def test_trainings_that_are_saved_in_turn_share_the_time_for_it(
    trainings: int, saved: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch takes 10 s and a checkpoint 0.6 s: a training alone may be saved every 12 s."""
    now, epochs = [0.0], list[int]()
    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])

    def save(_: object) -> None:
        now[0] += 0.6

    saving = Saving(save, 1, trainings=trainings)
    for epoch in range(1, 7):
        now[0] += 10

        def state(epoch: int = epoch) -> Any:
            return epochs.append(epoch)

        saving.save_if_due(epoch, state)
    assert epochs == saved


def test_losses_have_the_same_names_in_every_step() -> None:
    sums = LossSums()
    sums.add({"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
    sums.add({"b": torch.tensor(4.0), "a": torch.tensor(3.0)})
    assert sums.read()[1] == {"a": 2.0, "b": 3.0}
    sums.add({"a": torch.tensor(1.0)})
    with pytest.raises(InputError, match="'c' in some steps"):
        sums.add({"c": torch.tensor(1.0), "a": torch.tensor(1.0)})


def test_a_share_of_a_few_windows_may_keep_none_for_validation() -> None:
    job = Job("baseline-mse", QUICK | {"epochs": 1}, "tiny", "fan", 0)
    resolved = ResolvedJob.from_workspace(job, Workspace.from_environment())
    plan = BatchPlan(64, draw="every-window", validation_share=1e-6)
    clips = JobData(resolved.data, "fan", input_spec=resolved.clips.input_spec, plan=plan, seed=0)
    outcome = training.train(resolved.build_trained(clips.facts), clips, Runtime(), seed=0)
    assert outcome.validation == {}
