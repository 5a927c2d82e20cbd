"""Compiled training steps: when they are, what happens if one cannot be, and how products are computed."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from asdbench.data.sets import catalog
from asdbench.engine import compiled_step, training
from asdbench.engine.compiled_step import fast_products
from asdbench.engine.guard import run_isolated
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.landlock import has_landlock
from asdbench.engine.runtime import Runtime
from asdbench.engine.training import TrainingOutcome
from asdbench.io.workspace import Workspace
from asdbench.system import Losses
from asdbench.testing.conformance import threads
from asdbench.testing.tiny import MACHINE_TYPES, write_tiny
from systems.baseline_mse import BaselineMse

GPU = torch.device("cuda")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResolvedJob]:
    base = tmp_path_factory.mktemp("compiled")
    workspace = Workspace.from_home(base / "home")
    catalog.add(workspace, "tiny", write_tiny(base / "clips"))
    settings = {"epochs": 2, "hidden": 8, "batch_size": 64}
    with threads(1), torch.random.fork_rng(devices=[]):
        found = ResolvedJob.from_workspace(
            Job("baseline-mse", settings, "tiny", MACHINE_TYPES[0], 0), workspace
        )
        found.clips.batch(0)  # builds the features, which an isolated task cannot
        yield found


def trained(job: ResolvedJob, runtime: Runtime) -> tuple[TrainingOutcome, dict[str, torch.Tensor]]:
    training.seed_initial_weights(0)
    system = job.build_trained(job.clips.facts)
    return training.train(system, job.clips, runtime, seed=0), system.state_dict()


def by_aot_eager(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Compile without generating code, for speed; return the functions that are compiled."""
    compile_, compiled = torch.compile, []

    def recorded(function: Any, **options: Any) -> Any:
        compiled.append(function)
        return compile_(function, backend="aot_eager", **{k: v for k, v in options.items() if k != "mode"})

    monkeypatch.setattr(torch, "compile", recorded)
    return compiled


@pytest.mark.parametrize(
    ("compile_", "device", "size", "expected"),
    [
        ("auto", "cpu", 1, False),
        ("auto", "cuda", 1, True),
        ("always", "cpu", 1, True),
        ("never", "cuda", 1, False),
        ("always", "cuda", 2, False),
    ],
)
def test_the_runtime_says_what_is_compiled(compile_: Any, device: str, size: int, expected: bool) -> None:
    assert Runtime(device=torch.device(device), size=size, compile=compile_).compiles is expected


def test_a_compiled_training_is_that_of_the_steps_as_written(
    job: ResolvedJob, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    by_aot_eager(monkeypatch)
    with caplog.at_level(logging.WARNING):
        (plain, expected), (compiled, found) = (
            trained(job, Runtime(compile=each)) for each in ("never", "always")
        )
    assert (plain.is_compiled, compiled.is_compiled) == (False, True)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not caplog.records


@pytest.mark.parametrize("breaks", ["forward", "backward"])
def test_a_step_that_cannot_be_compiled_runs_as_it_is_written(
    job: ResolvedJob, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, breaks: str
) -> None:
    by_aot_eager(monkeypatch)
    forward = BaselineMse.forward

    def breaking(self: Any, batch: Any, update: str, progress: torch.Tensor) -> Losses:
        losses = forward(self, batch, update, progress)
        if breaks == "forward":
            torch._dynamo.graph_break()
        elif torch.compiler.is_compiling():
            losses.parts["reconstruction"].sum.register_hook(_failing)
        return losses

    monkeypatch.setattr(BaselineMse, "forward", breaking)
    with caplog.at_level(logging.WARNING, logger=compiled_step.__name__):
        (_, expected), (outcome, found) = (
            trained(job, Runtime(compile=each)) for each in ("never", "always")
        )
    assert not outcome.is_compiled
    (record,) = caplog.records
    assert record.getMessage().startswith("BaselineMse is trained without compilation: ")
    assert len(record.getMessage().splitlines()) == 1
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def _failing(gradient: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no gradient of this")


def test_the_last_batch_of_an_epoch_compiles_nothing(
    job: ResolvedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_aot_eager(monkeypatch)
    sizes = []
    differentiate = compiled_step.differentiate

    def watched(*args: Any, **options: Any) -> Any:
        sizes.append((len(args[3].batch.windows), "losses" in options))
        return differentiate(*args, **options)

    monkeypatch.setattr(compiled_step, "differentiate", watched)
    trained(job, Runtime(compile="always"))
    assert {size for size, is_compiled in sizes if is_compiled} == {64}
    assert any(size < 64 and not is_compiled for size, is_compiled in sizes)


def test_a_gpu_computes_float32_products_with_tf32_while_it_trains() -> None:
    before = products()
    with fast_products(GPU):
        assert products() == ("high", True)
    with pytest.raises(ZeroDivisionError), fast_products(GPU):
        _ = 1 / 0
    assert products() == before
    with fast_products(torch.device("cpu")):
        assert products() == before


def products() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.mark.skipif(not has_landlock(), reason="the kernel cannot restrict reading")
def test_a_task_whose_temporary_folder_holds_the_data_home_is_not_compiled(
    job: ResolvedJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = Workspace.from_home(tmp_path / "home")
    (workspace.home / "truth").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with caplog.at_level(logging.WARNING, logger=compiled_step.__name__):
        outcome, _ = run_isolated(lambda: trained(job, Runtime(compile="always")), [workspace])
    assert not outcome.is_compiled
    (record,) = caplog.records
    assert f"temporary folder {tmp_path}, which holds the data home" in record.getMessage()
    assert not any(path.name.startswith("asdbench-") for path in tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("g++") is None, reason="code for a CPU is compiled with g++")
def test_an_isolated_task_generates_code_that_computes_the_same(
    job: ResolvedJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("TMPDIR", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    short = replace(job.job, settings=job.job.settings | {"epochs": 1})
    one = ResolvedJob.from_job(short, job.data)
    (expected, _), (found, _) = (
        run_isolated(partial(trained, one, Runtime(compile=each)), [job.data.workspace])
        for each in ("never", "always")
    )
    assert found.is_compiled
    assert found.curve[0].losses == pytest.approx(expected.curve[0].losses, rel=1e-3)
