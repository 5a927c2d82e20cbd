import copy
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
from asdbench.engine.distributed import GlobalBatchNorm, distribute, total_loss
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


@pytest.mark.parametrize("shape", [(7, 5), (3, 5, 11), (2, 5, 3, 4)])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.usefixtures("group")
def test_one_process_has_plain_batch_norm(shape: tuple[int, ...], affine: bool) -> None:
    torch.manual_seed(0)
    kinds: dict[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}
    plain = kinds[len(shape)](5, eps=1e-3, momentum=0.1, affine=affine)
    if affine:
        nn.init.normal_(plain.weight)
        nn.init.normal_(plain.bias)
    shared = GlobalBatchNorm(copy.deepcopy(plain), None)
    assert list(shared.state_dict()) == list(plain.state_dict())
    for _ in range(3):
        rows = (3 * torch.randn(shape) + 2).requires_grad_()
        same = rows.detach().clone().requires_grad_()
        weights = torch.randn(shape)
        expected, found = plain(rows), shared(same)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        (expected * weights).sum().backward()
        (found * weights).sum().backward()
        torch.testing.assert_close(same.grad, rows.grad, rtol=1e-4, atol=1e-5)
    for (name, one), other in zip(plain.named_parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5, msg=name)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(dict(shared.named_buffers())[name], buffer, rtol=1e-5, atol=1e-6)
    rows = torch.randn(shape)
    torch.testing.assert_close(shared.eval()(rows), plain.eval()(rows))


@pytest.mark.usefixtures("group")
def test_a_batch_without_rows_leaves_batch_norm_as_it_was() -> None:
    plain = nn.BatchNorm1d(5)
    shared = GlobalBatchNorm(copy.deepcopy(plain), None)
    rows = torch.randn(0, 5, 11, requires_grad=True)
    found = shared(rows)
    found.sum().backward()
    assert found.shape == rows.shape
    for name, buffer in plain.named_buffers():
        assert name == "num_batches_tracked" or dict(shared.named_buffers())[name].equal(buffer)
    for parameter in shared.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


def test_batch_norm_that_cannot_be_shared_is_refused() -> None:
    for unsuitable in (nn.BatchNorm1d(3, momentum=None), nn.BatchNorm1d(3, track_running_stats=False)):
        with pytest.raises(ValueError, match="cannot be shared"):
            GlobalBatchNorm(unsuitable, None)


class _Named(nn.BatchNorm1d):
    """Batch norm of another name."""


class _Doubled(nn.BatchNorm1d):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(rows)


@pytest.mark.usefixtures("group")
def test_only_torchs_own_batch_norm_is_replaced() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), _Named(3), _Doubled(3))
    shared: Any = distribute(model, Runtime(size=2), several_updates=False)
    kinds = [type(layer) for layer in shared.module]
    assert kinds == [nn.Linear, GlobalBatchNorm, GlobalBatchNorm, _Doubled]


def test_a_single_process_is_not_wrapped() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    assert distribute(model, Runtime(), several_updates=False) is model
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
    model, rows, some = _given()
    runtime = Runtime(rank=rank, size=size)
    wrapped = distribute(model, runtime, several_updates=False)  # type: ignore[arg-type]
    total, parts = total_loss(wrapped(rows[rank::size], some[rank::size]), runtime)
    total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    torch.save(
        {"gradients": gradients, "parts": parts, "buffers": dict(model.named_buffers())},
        f"{folder}/{rank}.pt",
    )
    dist.destroy_process_group()


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
