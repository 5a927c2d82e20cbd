"""Jobs that train as one stacked model have the results of jobs that train alone, and fail alone."""

import importlib.metadata
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.engine import stacks
from asdbench.engine.events import Note, Report, TrainingProgress
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, TrainingTask
from asdbench.engine.run_task import run_task
from asdbench.engine.runtime import Runtime
from asdbench.engine.stacks import Result, run_stack, stack_key
from asdbench.engine.task_training import Part, TaskTraining
from asdbench.engine.training import JobTraining, Saving
from asdbench.errors import InputError
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny
from asdbench.testing.conformance import threads

AUTOENCODER = {"epochs": 2, "hidden": 16, "n_mels": 16, "batch_size": 64}
MULTITASK = {
    **{"steps": 6, "batch_size": 16, "target_rows": 2, "blocks": 1, "width": 16, "heads": 2, "ffn": 32},
    **{"window_frames": 32, "n_mels": 32, "embedding": 8, "dropout": 0.2, "precision": "float32"},
}
ADACOS = {"steps": 4, "batch_size": 8, "window_frames": 16, "channels": 4, "embedding": 8, "clusters": 2}
ADVERSARIAL = {  # Adam's steps, what it makes of rounding included, are proportional to the rates
    **{"cvae_steps": 2, "adversarial_steps": 2, "batch_size": 8, "precision": "float32"},
    **{"cvae_learning_rate": 1e-4, "discriminator_learning_rate": 2e-5, "generator_learning_rate": 1e-5},
}
SEEDS = [("fan", 0), ("fan", 1), ("fan", 2)]
TYPES = [("fan", 0), ("fan", 1), ("valve", 0)]

THEIRS = '''
"""Systems that draw from torch's generator, or assign a buffer."""

import torch
from systems.baseline_mse import BaselineMse


class Noisy(BaselineMse):
    def forward(self, batch, update, progress):
        losses = super().forward(batch, update, progress)
        losses.parts["reconstruction"].sum.mul(torch.rand(()))
        return losses


class Assigning(BaselineMse):
    def __init__(self, config, facts):
        super().__init__(config, facts)
        self.register_buffer("n_steps", torch.zeros(()))

    def forward(self, batch, update, progress):
        self.n_steps = self.n_steps + 1
        return super().forward(batch, update, progress)


class Dropping(BaselineMse):
    def __init__(self, config, facts):
        super().__init__(config, facts)
        self.network.append(torch.nn.Dropout(0.1))
'''


class Interruption(BaseException):
    pass


@pytest.fixture(scope="module", autouse=True)
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    base = tmp_path_factory.mktemp("stacks")
    (base / "code").mkdir()
    (base / "code/their_stack_systems.py").write_text(THEIRS)
    theirs = [
        importlib.metadata.EntryPoint(name, f"their_stack_systems:{cls}", registry.ENTRY_POINTS)
        for name, cls in (("noisy", "Noisy"), ("assigning", "Assigning"), ("dropping", "Dropping"))
    ]
    with pytest.MonkeyPatch.context() as patch, threads(1):
        patch.setenv("ASDBENCH_HOME", str(base / "home"))
        patch.delenv("ASDBENCH_STORAGE", raising=False)
        patch.syspath_prepend(str(base / "code"))
        patch.setattr(
            importlib.metadata, "entry_points", lambda group: theirs if group == registry.ENTRY_POINTS else []
        )
        found = Workspace.from_environment()
        catalog.add(found, "tiny", write_tiny(base / "clips"))
        yield found
    registry.get.cache_clear()
    registry.source_hash.cache_clear()
    sys.modules.pop("their_stack_systems", None)


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(Storage.from_location(tmp_path / "stacked"))


@pytest.fixture
def alone(tmp_path: Path) -> JobStore:
    return JobStore(Storage.from_location(tmp_path / "alone"))


def tasks(
    workspace: Workspace, system: str, settings: dict[str, Any], jobs: Sequence[tuple[str, int]] = TYPES
) -> list[TrainingTask]:
    resolved = [
        ResolvedJob.from_workspace(Job(system, settings, "tiny", machine, seed), workspace)
        for machine, seed in jobs
    ]
    return [TrainingTask((each,)) for each in resolved]


def stacked(
    given: Sequence[TrainingTask], store: JobStore, report: Callable[[Report], object] = print, **options: Any
) -> list[Result]:
    return run_stack(given, [Runtime(report=report) for _ in given], store, **options)


def run_alone(given: Sequence[TrainingTask], store: JobStore) -> None:
    for task in given:
        assert run_task(task, Runtime(), store) == []


def assert_same(given: Sequence[TrainingTask], one: JobStore, other: JobStore, within: float = 1e-2) -> None:
    """Compare losses, and scores in units of their deviation: Adam makes steps of what is only rounding."""
    for task in given:
        curves = [store.training_record(task.first.training_key).curve for store in (one, other)]
        for point, same in zip(*curves, strict=True):
            losses = {name: value for name, value in point.losses.items() if "right" not in name}
            assert {name: same.losses[name] for name in losses} == pytest.approx(losses, rel=1e-3, abs=1e-5)
        tables = [store.components(task.first.scoring_key) for store in (one, other)]
        for name in tables[0].columns:
            if (
                tables[0][name].dtype.is_float() and name != "lof"
            ):  # which divides by differences of densities
                values, others = (table[name].to_numpy() for table in tables)
                np.testing.assert_allclose(others, values, atol=within * values.std(), err_msg=name)


@pytest.mark.parametrize(
    ("system", "settings", "jobs"),
    [
        ("baseline-mse", AUTOENCODER, TYPES),
        ("multitask-mel", MULTITASK, TYPES),
        ("adacos", ADACOS, SEEDS),
        ("adversarial", ADVERSARIAL, TYPES),
    ],
)
def test_stacked_jobs_have_the_results_of_jobs_alone(
    system: str,
    settings: dict[str, Any],
    jobs: list[tuple[str, int]],
    workspace: Workspace,
    store: JobStore,
    alone: JobStore,
) -> None:
    given = tasks(workspace, system, settings, jobs)
    reports: list[Report] = []
    assert len({stack_key(task) for task in given}) == 1
    assert [[str(e) for _, e in r] for r in stacked(given, store, reports.append)] == [[], [], []]
    assert not [report for report in reports if isinstance(report, Note)]
    run_alone(given, alone)
    assert_same(given, alone, store)
    for task in given:
        records = [each.training_record(task.first.training_key) for each in (alone, store)]
        assert records[0].steps == records[1].steps
        one, other = (record.validation or {} for record in records)
        assert one == pytest.approx(other, rel=1e-3)
        assert store.scoring_record(task.first.scoring_key).isolation in ("kernel", "python")


def test_a_job_that_diverges_fails_alone(
    workspace: Workspace, store: JobStore, alone: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Part.begin

    def spoiled(part: Part, trainings: int) -> JobTraining:
        begun = begin(part, trainings)
        if part.owner.task.first.seed == 1:
            next(begun.system.parameters()).data.fill_(float("nan"))
        return begun

    given = tasks(workspace, "baseline-mse", AUTOENCODER, SEEDS)
    with monkeypatch.context() as patch:
        patch.setattr(Part, "begin", spoiled)
        results = stacked(given, store)
    assert results[0] == results[2] == []
    assert isinstance(results[1], InputError)
    assert "first step" in str(results[1])
    run_alone(given[::2], alone)
    assert_same(given[::2], alone, store)
    assert stacked(given, store) == [[], [], []]  # the two that are done are not trained again


def test_jobs_at_different_steps_and_finished_ones_resume_together(
    workspace: Workspace, store: JobStore, alone: JobStore
) -> None:
    given = tasks(workspace, "baseline-mse", AUTOENCODER | {"epochs": 4}, SEEDS)
    run_alone(given, alone)
    run_alone(given[:1], store)

    def interrupt() -> None:
        raise Interruption

    with pytest.raises(Interruption):
        run_task(given[1], Runtime(after_checkpoint=interrupt), store, checkpoint_epochs=1)
    reports: list[Report] = []
    assert stacked(given, store, reports.append) == [[], [], []]
    progress = [report.step for report in reports if isinstance(report, TrainingProgress)]
    assert len(progress) == 3 + 4  # epochs of the second and of the third job
    assert_same(given, alone, store)


def test_what_optimizers_remember_lies_in_memory_as_the_parameters_do(
    workspace: Workspace, store: JobStore
) -> None:
    """Fused optimizers compute in the order of memory; the classifier's differs in a stack and alone."""
    parts = [
        TaskTraining(task, Runtime(), store, checkpoint_epochs=1).left()[0]
        for task in tasks(workspace, "adversarial", ADVERSARIAL, SEEDS[:2])
    ]
    begun = [part.begin() for part in parts]
    for each in begun:
        for update in each.stages[1].updates:
            for parameter in update.optimizer.param_groups[0]["params"]:
                parameter.grad = torch.ones_like(parameter)
            update.optimizer.step()
    strides = parameter_strides(begun[0])
    stack = stacks._Stack(begun)
    stack._restack((0, 1))
    assert parameter_strides(begun[0]) != strides
    assert state_strides(begun[0]) == parameter_strides(begun[0])
    alone = JobTraining(
        *(parts[0].owner.initial(), parts[0].clips, Runtime()),
        seed=0,
        saving=Saving(None, 1),
        resume=begun[0]._checkpoint(),
    )
    assert state_strides(alone) == parameter_strides(alone) == strides


def parameter_strides(training: JobTraining) -> list[tuple[int, ...]]:
    updates = training.stages[1].updates
    return [p.stride() for update in updates for p in update.optimizer.param_groups[0]["params"]]


def state_strides(training: JobTraining) -> list[tuple[int, ...]]:
    optimizers = [update.optimizer for update in training.stages[1].updates]
    return [of["exp_avg"].stride() for optimizer in optimizers for of in optimizer.state.values()]


def test_a_checkpoint_holds_its_own_job_only(
    workspace: Workspace, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tasks(workspace, "baseline-mse", AUTOENCODER, SEEDS)

    def size(trained: Callable[[], object]) -> int:
        sizes: list[int] = []
        save = JobStore.save_tensors

        def saved(self: JobStore, name: str, content: Any) -> None:
            save(self, name, content)
            if "checkpoint" in name:
                sizes.append(len(self.root.read(name)))

        with monkeypatch.context() as patch:
            patch.setattr(JobStore, "save_tensors", saved)
            trained()
        return max(sizes)

    of_stack = size(lambda: stacked(given, store, checkpoint_epochs=1))
    other = JobStore(Storage.from_location(Path(str(store.root) + "-other")))
    of_one = size(lambda: run_task(given[0], Runtime(), other, checkpoint_epochs=1))
    assert of_stack == pytest.approx(of_one, rel=0.1)


def test_the_trainings_of_a_cross_fitting_are_stacked_too(
    workspace: Workspace, store: JobStore, alone: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = AUTOENCODER | {"epochs": 1, "hold_out": "cross-fit"}
    given = tasks(workspace, "baseline-mse", settings, SEEDS[:2])
    sizes: list[int] = []
    take_steps = stacks.take_steps

    def noted(model: Any, steps: Any) -> Any:
        sizes.append(len(steps))
        return take_steps(model, steps)

    monkeypatch.setattr(stacks, "take_steps", noted)
    assert stacked(given, store) == [[], []]
    assert max(sizes) == 2 * (given[0].first.clips.n_folds + 1)
    run_alone(given, alone)
    assert_same(given, alone, store)


@pytest.mark.parametrize("system", ["noisy", "assigning"])
def test_systems_that_turn_out_not_to_stack_train_one_by_one(
    system: str, workspace: Workspace, store: JobStore, alone: JobStore
) -> None:
    given = tasks(workspace, system, AUTOENCODER, SEEDS[:2])
    reports: list[Report] = []
    assert stacked(given, store, reports.append) == [[], []]
    notes = [report.message for report in reports if isinstance(report, Note)]
    assert len(notes) == 2
    assert all("one by one" in note for note in notes)
    run_alone(given, alone)
    assert_same(given, alone, store, within=1e-6)


def test_jobs_that_do_not_fit_in_memory_together_are_left_to_whoever_can_ask_for_fewer(
    workspace: Workspace, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(parts: Sequence[Part]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(stacks, "_train_together", full)
    given = tasks(workspace, "baseline-mse", AUTOENCODER, SEEDS[:2])
    with pytest.raises(torch.OutOfMemoryError):
        stacked(given, store)
    assert not any(store.is_trained(task.first) for task in given)


def test_the_key_is_equal_where_architecture_and_settings_are(workspace: Workspace) -> None:
    keys = {
        name: [stack_key(task) for task in tasks(workspace, "baseline-mse", settings)]
        for name, settings in (("one", AUTOENCODER), ("other", AUTOENCODER | {"hidden": 8}))
    }
    assert None not in keys["one"]
    assert [len(set(each)) for each in keys.values()] == [1, 1]
    assert keys["one"] != keys["other"]


@pytest.mark.parametrize("system", ["spectra-knn", "dropping"])
def test_what_trains_nothing_or_draws_from_the_generator_of_torch_has_no_key(
    workspace: Workspace, system: str
) -> None:
    (task,) = tasks(workspace, system, {}, SEEDS[:1])
    assert stack_key(task) is None
    assert "clips" not in vars(task.first)  # a driver that holds many tasks would hold all their windows
