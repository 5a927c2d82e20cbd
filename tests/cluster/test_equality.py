"""Two processes train what one trains, and the same when they do it again: every system that trains.

In double precision any difference is a mistake. In float32 rounding grows with the steps, in one process too
whose rows are put in another order: docs/decisions/0006.
"""

import json
import runpy
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
import torch

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.engine.evaluation import anomaly_scores, components_of
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, by_training
from asdbench.engine.pretrained import weights_needed
from asdbench.engine.run_task import run_task
from asdbench.engine.runtime import Runtime
from asdbench.engine.task_records import CurvePoint, TrainingRecord
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.system import System
from asdbench.testing.conformance import threads
from asdbench.testing.tiny import MACHINE_TYPES, write_tiny

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(800)]

PROGRAM = Path(__file__).with_name("train_together.py")
# Each goes to the systems that have it. The batch is odd, so that the two have different numbers of rows.
SMALL = {
    **{"epochs": 1, "steps": 12, "cvae_steps": 6, "adversarial_steps": 6},
    **{"batch_size": 45, "dropout": 0.0, "precision": "float32"},
    # Adam's steps, what it makes of rounding included, are proportional to these.
    **{"cvae_learning_rate": 1e-4, "discriminator_learning_rate": 2e-5, "generator_learning_rate": 1e-5},
    **{"hidden": 16, "width": 16, "heads": 2, "ffn": 16, "blocks": 1, "embedding": 4},
    **{"channels": 2, "clusters": 2},
    **{"n_mels": 16, "window_frames": 32, "window_hop_frames": 16, "time_stride": 1},
}
LEAST_STEPS = 10


def that_train() -> list[str]:
    """Return the names of the systems that train a model of their own, those of other packages included.

    Without those that need weights to be downloaded.
    """
    each = {name: registry.configure(name) for name in registry.names()}
    own = {name: found for name, found in each.items() if found.trained is None and not found.members}
    trained = [name for name, found in own.items() if found.system.forward is not System.forward]
    return [name for name in trained if not weights_needed(each[name])]


SYSTEMS = that_train()


@dataclass(frozen=True)
class Trained:
    """The same jobs done by one process, by two, and by two once more."""

    jobs: dict[str, ResolvedJob]
    alone: JobStore
    together: JobStore
    again: JobStore
    double_alone: dict[str, Any]
    double_together: dict[str, Any]


def together(folder: Path, jobs: list[Job], *, size: int, stores: list[Path], double: Path) -> None:
    """Do the jobs in ``size`` processes on this host."""
    listed = folder / "jobs.json"
    listed.write_text(json.dumps([asdict(job) for job in jobs]))
    group = ["--size", str(size), "--rendezvous", f"file://{folder}/group"]
    group += ["--stores", *map(str, stores), "--double", str(double)]
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(listed), "--rank", str(rank), *group],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=800)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("equality")
    with pytest.MonkeyPatch.context() as patch, threads(1):
        patch.setenv("ASDBENCH_HOME", str(folder / "home"))
        catalog.add(Workspace.from_environment(), "tiny", write_tiny(folder / "clips"))
        each = registry.configure_each(SYSTEMS, SMALL, preset="demo")
        jobs = [Job(name, found.changed(), "tiny", MACHINE_TYPES[0], seed=1) for name, found in each.items()]
        resolved = {job.system: ResolvedJob.from_workspace(job, Workspace.from_environment()) for job in jobs}
        alone, stores = (
            JobStore(Storage.from_location(folder / "alone")),
            [folder / "together", folder / "again"],
        )
        for task in by_training(resolved.values()):
            assert not run_task(task, Runtime(), alone)
        double = runpy.run_path(str(PROGRAM))["curves_in_double"](resolved.values(), Runtime())
        together(folder, jobs, size=2, stores=stores, double=folder / "double.json")
        yield Trained(
            resolved,
            alone,
            *(JobStore(Storage.from_location(store)) for store in stores),
            double,
            json.loads((folder / "double.json").read_text()),
        )


def record(resolved: ResolvedJob, store: JobStore) -> TrainingRecord:
    return store.training_record(resolved.training_key)


def minimized(resolved: ResolvedJob) -> dict[str, set[str]]:
    """Return what each stage minimizes, by its name; a curve has monitors beside that."""
    data = resolved.clips
    system = resolved.build_trained(data.facts).train()
    return {
        stage.name: {
            part
            for update in stage.updates
            for part in system(data.with_plan(stage.plan).batch(0), update.name, torch.zeros(())).parts
        }
        for stage in system.stages(data.steps_per_epoch)
    }


def assert_equal_losses(
    resolved: ResolvedJob, ours: Sequence[CurvePoint], theirs: Sequence[CurvePoint], *, within: float
) -> None:
    """Compare two curves: within a share of the loss, or of 1 where the loss is less than that.

    A loss near 0, as a cross-entropy is, has no relative accuracy: it is a sum of terms of either size.
    """
    parts = minimized(resolved)
    assert len(ours) == len(theirs) > 0
    for point, wanted in zip(ours, theirs, strict=True):
        assert (point.stage, point.epoch) == (wanted.stage, wanted.epoch)
        found = [{part: p.losses[part] for part in parts[point.stage]} for p in (point, wanted)]
        assert found[0]
        assert found[0] == pytest.approx(found[1], rel=within, abs=within), wanted


@pytest.mark.parametrize("name", SYSTEMS)
def test_two_processes_have_the_losses_of_one(name: str, trained: Trained) -> None:
    resolved = trained.jobs[name]
    one, two = (record(resolved, store) for store in (trained.alone, trained.together))
    assert (one.processes, two.processes) == (1, 2)
    assert one.steps == two.steps >= LEAST_STEPS
    assert_equal_losses(resolved, two.curve, one.curve, within=1e-4)


@pytest.mark.parametrize("name", SYSTEMS)
def test_in_double_precision_nothing_but_the_last_digits_differs(name: str, trained: Trained) -> None:
    """The curve of several processes is recorded in float32."""
    curves = msgspec.convert(
        [trained.double_together[name], trained.double_alone[name]], list[tuple[CurvePoint, ...]]
    )
    assert_equal_losses(trained.jobs[name], *curves, within=1e-6)


@pytest.mark.parametrize("name", SYSTEMS)
def test_two_processes_give_the_same_scores_again(name: str, trained: Trained) -> None:
    """To the bit: losses, components, and the anomaly scores that they make up."""
    resolved = trained.jobs[name]
    first, second = trained.together, trained.again
    assert record(resolved, first).curve == record(resolved, second).curve
    for found in (components_of, anomaly_scores):
        scores: list[pl.DataFrame] = [found(resolved, store) for store in (first, second)]
        assert scores[0].height > 0
        assert scores[0].equals(scores[1])
