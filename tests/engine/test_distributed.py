import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from asdbench.data import feature_store
from asdbench.data.loader import JobData
from asdbench.data.sets import catalog
from asdbench.engine.distributed import Distributed, total_loss
from asdbench.engine.global_batch_norm import GlobalBatchNorm
from asdbench.engine.runtime import Runtime
from asdbench.engine.scoring import component_scores
from asdbench.engine.training import train
from asdbench.io.workspace import Workspace
from asdbench.spec import MelSpec
from asdbench.system import (
    BatchPlan,
    ClipBatch,
    InputSpec,
    Losses,
    Mean,
    Stage,
    System,
    TrainingFacts,
    Update,
)
from asdbench.testing import write_tiny


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class _Named(nn.BatchNorm1d):
    """Batch norm of another name."""


class _Doubled(nn.BatchNorm1d):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(rows)


@pytest.mark.usefixtures("group")
def test_only_torchs_own_batch_norm_is_replaced() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), _Named(3), _Doubled(3))
    Distributed(model, Runtime(size=2), rows=4)
    kinds = [type(layer) for layer in model]
    assert kinds == [nn.Linear, GlobalBatchNorm, GlobalBatchNorm, _Doubled]


def test_a_single_process_is_not_wrapped() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    updates = [Update("all", torch.optim.SGD(model.parameters(), lr=1.0))] * 2
    assert Distributed(model, Runtime(), rows=4).of(Stage("all", updates, steps=1)) == [model, model]
    assert isinstance(model[1], nn.BatchNorm1d)


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1))

    def forward(self, rows: torch.Tensor, some: torch.Tensor) -> Losses:
        values = self.layers(rows).flatten()
        return Losses(
            {"all": Mean.from_values(values.square()), "some": Mean.from_values(values, some)}, {"some": 0.3}
        )


def _given() -> tuple[_Model, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return _Model(), torch.randn(9, 4), torch.arange(9) % 3 == 0


def _one_step(rank: int, size: int, folder: str) -> None:
    """Take gradients of the global batch's loss; 9 rows are shared unevenly."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=size)
    torch.save(_gradients(Runtime(rank=rank, size=size)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _gradients(runtime: Runtime) -> dict[str, Any]:
    """Return gradients, losses and buffers; the model ends before its group, else torch may wait for ever.

    With the last reference to the group, torch's Reducer joins its thread while it holds the interpreter's
    lock, for which that thread may wait.
    """
    model, rows, some = _given()
    update = Update("all", torch.optim.SGD(model.parameters(), lr=1.0))
    [wrapped] = Distributed(model, runtime, rows=9).of(Stage("all", [update], steps=1))  # type: ignore[arg-type]
    own = slice(runtime.rank, None, runtime.size)
    total, parts = total_loss(wrapped(rows[own], some[own]), runtime)
    total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return {"gradients": gradients, "parts": parts, "buffers": dict(model.named_buffers())}


@pytest.mark.cluster
@pytest.mark.parametrize("size", [2, 3])
def test_gradients_do_not_depend_on_the_number_of_processes(tmp_path: Path, size: int) -> None:
    model, rows, some = _given()
    total, parts = total_loss(model(rows, some), Runtime())
    total.backward()
    _start(_one_step, size, str(tmp_path))
    for rank in range(size):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found["gradients"][name], parameter.grad, rtol=1e-4, atol=1e-6)
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(found["buffers"][name], buffer)
        assert {k: float(v) for k, v in found["parts"].items()} == {
            k: pytest.approx(float(v), rel=1e-5) for k, v in parts.items()
        }


class _Rivals(nn.Module):
    """Two networks; the loss of each update reaches both, and one of the parameters is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.maker, self.critic = nn.Linear(4, 4), nn.Linear(4, 1)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, rows: torch.Tensor, update: str) -> Losses:
        opinion = self.critic(self.maker(rows)).flatten()
        return Losses({update: Mean.from_values(opinion.square() if update == "critic" else opinion)})

    def updates(self, *, shared: bool) -> list[Update]:
        own = [[*self.maker.parameters(), self.unused], [*self.critic.parameters()]]
        optimizers = [torch.optim.Adam(parameters, lr=1e-2) for parameters in own]
        names = ("maker", "critic", "maker again") if shared else ("maker", "critic")
        return [Update(name, optimizers[index % 2]) for index, name in enumerate(names)]


def _rivals_after(runtime: Runtime, *, shared: bool, steps: int = 3) -> tuple[Any, list[int]]:
    """Train rivals; returns their state, and the number of gradients that each update reduces."""
    torch.manual_seed(0)
    model = _Rivals()
    updates = model.updates(shared=shared)
    shared = Distributed(model, runtime, rows=9)  # type: ignore[arg-type]
    runs = shared.of(Stage("rivals", updates, steps=steps))
    for rows in torch.randn(steps, 9, 4):
        for update, run in zip(updates, runs, strict=True):
            total, _ = total_loss(run(rows[runtime.rank :: runtime.size], update.name), runtime)
            update.optimizer.zero_grad()
            total.backward()
            update.optimizer.step()
    return model.state_dict(), [sum(p.numel() for p in run.parameters()) for run in runs]


def _train_rivals(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=size)
    runtime = Runtime(rank=rank, size=size)
    torch.save([_rivals_after(runtime, shared=shared) for shared in (False, True)], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.cluster
def test_each_update_reduces_only_the_gradients_that_its_optimizer_takes(tmp_path: Path) -> None:
    _start(_train_rivals, 2, str(tmp_path))
    alone = [_rivals_after(Runtime(), shared=shared)[0] for shared in (False, True)]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert [reduced for _, reduced in found] == [[22, 5], [27, 27, 27]]
        for (state, _), expected in zip(found, alone, strict=True):
            torch.testing.assert_close(state, expected, rtol=1e-4, atol=1e-6)


class Exact(System):
    """An autoencoder in float64 without what only amplifies rounding: biases ahead of batch norm."""

    Config = type(None)

    def __init__(self) -> None:
        super().__init__(None, TrainingFacts(("00",), {}))
        layers: list[nn.Module] = []
        for inputs, outputs in ((48, 16), (16, 4), (4, 16)):
            layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Linear(16, 48)).double()

    def stages(self, steps_per_epoch: int) -> list[Stage]:
        return [Stage("all", [Update("all", torch.optim.Adam(self.parameters(), lr=1e-2))], epochs=10)]

    def _errors(self, batch: ClipBatch) -> Tensor:
        vectors = batch.windows.flatten(1).double() / 50
        return (self.network(vectors) - vectors).square()

    def forward(self, batch: ClipBatch, update: str, progress: Tensor) -> Losses:
        return Losses({"error": Mean.from_values(self._errors(batch))})

    def components(self, batch: ClipBatch) -> dict[str, Tensor]:
        sums = torch.zeros(batch.n_clips, dtype=torch.float64)
        return {"error": sums.index_add_(0, batch.clip, self._errors(batch).sum(dim=1))}


def _train_exact(rank: int, size: int, folder: str) -> None:
    os.environ["ASDBENCH_HOME"] = f"{folder}/home"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group{size}", rank=rank, world_size=size)
    input_spec = InputSpec(MelSpec(n_mels=16), window_frames=3, window_hop_frames=1)
    data = JobData(
        catalog.load(Workspace.from_environment(), "tiny"),
        "fan",
        input_spec=input_spec,
        plan=BatchPlan(65, draw="every-window"),
        seed=0,
    )
    torch.manual_seed(0)
    system = Exact()
    record = train(system, data, Runtime(rank=rank, size=size), seed=0)
    if rank == 0:
        restored = Exact()
        restored.load_state_dict(system.state_dict())
        table = component_scores(restored, data, device=torch.device("cpu"))
        curve = torch.tensor([point.losses["error"] for point in record.curve])
        torch.save([curve, torch.from_numpy(table["error"].to_numpy())], f"{folder}/{size}.pt")
    dist.destroy_process_group()


@pytest.mark.cluster
def test_a_training_in_double_precision_is_the_same_on_one_and_three_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    data = catalog.add(Workspace.from_environment(), "tiny", write_tiny(tmp_path / "clips"))
    feature_store.mels(data, "fan", MelSpec(n_mels=16), min_frames=3)
    for size in (1, 3):
        _start(_train_exact, size, str(tmp_path))
    curve, scores = torch.load(tmp_path / "1.pt")
    assert curve[-1] < curve[0] / 2
    other_curve, other_scores = torch.load(tmp_path / "3.pt")
    torch.testing.assert_close(other_curve, curve, rtol=1e-6, atol=0)
    torch.testing.assert_close(other_scores, scores, rtol=1e-6, atol=0)


def _start(function: Any, size: int, folder: str) -> None:
    """Run ``function(rank, size, folder)`` in ``size`` processes."""
    mp.spawn(function, (size, folder), nprocs=size)  # type: ignore[no-untyped-call]
