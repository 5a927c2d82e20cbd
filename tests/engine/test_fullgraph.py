"""Losses and gradients of every update of every system compile into one graph, which computes the same."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from asdbench import registry
from asdbench.data.raw_batch import RawBatch
from asdbench.data.sets import catalog
from asdbench.engine import training
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.runtime import Runtime
from asdbench.engine.training_step import TrainingStep, differentiate, mean_losses
from asdbench.io.workspace import Workspace
from asdbench.system import Stage, System
from asdbench.testing import tiny_encoder
from asdbench.testing.conformance import threads
from asdbench.testing.tiny import MACHINE_TYPES, write_tiny

CONFIGURED = {name: registry.configure(name) for name in registry.names()}
TRAINED = [name for name, each in CONFIGURED.items() if not each.members and each.trained is None]


@pytest.fixture(scope="module", autouse=True)
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    base = tmp_path_factory.mktemp("fullgraph")
    workspace = Workspace.from_home(base / "home")
    catalog.add(workspace, "tiny", write_tiny(base / "clips"))
    with threads(1), tiny_encoder.installed(workspace), torch.random.fork_rng(devices=[]):
        yield workspace
    torch.compiler.reset()


def resolved(name: str, workspace: Workspace) -> ResolvedJob:
    """Return a job with the demo's settings, and small ones of these where the system has them."""
    few = {"encoder": tiny_encoder.ID, "batch_size": 6, "window_s": 0.5, "blocks": 1, "target_rows": 1}
    few |= {"precision": "float32"}  # another order of sums is no mistake in bfloat16
    settings = {key: value for key, value in few.items() if CONFIGURED[name].accepts(key)}
    preset = "demo" if "demo" in CONFIGURED[name].system.presets else None
    demo = registry.preset_settings(name, preset) if preset else {}
    return ResolvedJob.from_workspace(Job(name, demo | settings, "tiny", MACHINE_TYPES[0], 0), workspace)


def built(job: ResolvedJob) -> tuple[System, list[Stage]]:
    """Return a system with its initial weights."""
    training.seed_initial_weights(0)
    system = job.build_trained(job.clips.facts).train()
    return system, list(system.stages(job.clips.steps_per_epoch))


def gradients(
    job: ResolvedJob, stage: int, update: int, losses: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the means of an update's losses, and the gradients and buffers after it."""
    system, stages = built(job)
    batch = job.clips.with_plan(stages[stage].plan).batch(0)
    step = TrainingStep(stages[stage], batch, 1, 2, 1)
    training.seed_torch(0, 0)
    means = differentiate(system, system, stages[stage].updates[update].name, step, Runtime(), losses=losses)
    after = {name: value.grad for name, value in system.named_parameters() if value.grad is not None}
    return means, after | dict(system.named_buffers())


@pytest.mark.parametrize("name", TRAINED)
def test_each_update_compiles_into_one_graph(name: str, workspace: Workspace) -> None:
    job = resolved(name, workspace)
    _, stages = built(job)
    if not stages:
        pytest.skip("the system trains nothing")
    torch.compiler.reset()
    compiled = torch.compile(mean_losses, fullgraph=True, dynamic=False, backend="aot_eager")
    for stage, of_stage in enumerate(stages):
        for update in range(len(of_stage.updates)):
            expected, found = (gradients(job, stage, update, losses) for losses in (mean_losses, compiled))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_transforms_and_spectrograms_are_in_the_graph(name: str, workspace: Workspace) -> None:
    """From raw batch to losses; spectrograms are rounded to float16, which a rounding may flip."""
    job = resolved(name, workspace)
    if not job.plan.augmentations:
        pytest.skip("the system transforms no rows")
    system, stages = built(job)
    update, prepare, raw = stages[0].updates[0].name, job.clips.preparation, job.clips.raw_batch(0)
    progress = torch.zeros(())

    def losses(raw: RawBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return mean_losses(system, system, prepare(raw), update, progress, Runtime())

    training.seed_torch(0, 0)
    _, expected = losses(raw)
    torch.compiler.reset()
    training.seed_torch(0, 0)
    total, found = torch.compile(losses, fullgraph=True, dynamic=False, backend="aot_eager")(raw)
    total.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
