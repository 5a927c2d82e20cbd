"""Batch norm over processes: as torch's over the whole batch, and one collective in each direction."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from asdbench.engine.global_batch_norm import GlobalBatchNorm


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


_CASES = ("usual", "far from zero", "bfloat16", "empty share")


def _case(name: str) -> tuple[Any, torch.Tensor, torch.Tensor, list[int]]:
    """Return a batch norm, a batch, weights of its outputs, and the rows of each of two processes."""
    torch.manual_seed(1)
    plain = nn.BatchNorm1d(6)
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    rows, weights = torch.randn(9, 6, 11), torch.randn(9, 6, 11)
    if name == "far from zero":
        rows = 1e4 + rows  # the running mean, 0, is no help in the first step
    if name == "bfloat16":
        rows = (rows * torch.arange(1, 7)[:, None] + 3).bfloat16()
    return plain, rows, weights, [0, 9] if name == "empty share" else [6, 3]


class _Counted:
    """Counts the collectives of this process."""

    def __init__(self) -> None:
        self.gathered, self.reduced = 0, 0
        gather, reduce = dist.all_gather, dist.all_reduce

        def all_gather(*arguments: Any, **named: Any) -> Any:
            self.gathered += 1
            return gather(*arguments, **named)

        def all_reduce(*arguments: Any, **named: Any) -> Any:
            self.reduced += 1
            return reduce(*arguments, **named)

        dist.all_gather, dist.all_reduce = all_gather, all_reduce

    def taken(self) -> list[int]:
        counts, self.gathered, self.reduced = [self.gathered, self.reduced], 0, 0
        return counts


def _normalize_shares(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    counted = _Counted()
    for name in _CASES:
        plain, rows, weights, sizes = _case(name)
        shared = GlobalBatchNorm(plain, None)
        own = rows.split(sizes)[rank].clone().requires_grad_()
        found = shared(own)
        forward = counted.taken()
        (found.float() * weights.split(sizes)[rank]).sum().backward()
        torch.save(
            {
                "collectives": [forward, counted.taken()],
                "tensors": [found.detach(), own.grad],
                "gradients": [parameter.grad for parameter in shared.parameters()],
                "buffers": [shared.running_mean, shared.running_var],
            },
            f"{folder}/{name} {rank}.pt",
        )
    dist.destroy_process_group()


@pytest.mark.cluster
def test_two_processes_normalize_as_one_does(tmp_path: Path) -> None:
    mp.spawn(_normalize_shares, (str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    for name in _CASES:
        plain, rows, weights, _ = _case(name)
        exact = copy.deepcopy(plain).double()
        whole = rows.double().requires_grad_()
        expected = exact(whole)
        (expected * weights).sum().backward()
        parts = [torch.load(tmp_path / f"{name} {rank}.pt") for rank in range(2)]
        assert [part["collectives"] for part in parts] == [[[1, 0], [0, 1]]] * 2
        near = {"bfloat16": 4e-2, "far from zero": 5e-3}.get(name, 1e-5)
        for found, wanted in zip(_joined(parts), (expected, whole.grad), strict=True):
            torch.testing.assert_close(found.double(), wanted, rtol=near, atol=near)
        for index, parameter in enumerate(exact.parameters()):
            summed = sum(part["gradients"][index] for part in parts)
            torch.testing.assert_close(summed.double(), parameter.grad, rtol=near, atol=20 * near)
        for part in parts:
            for found, wanted in zip(part["buffers"], (exact.running_mean, exact.running_var), strict=True):
                torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-5)


def _joined(parts: list[Any]) -> list[torch.Tensor]:
    return [torch.cat(shares) for shares in zip(*(part["tensors"] for part in parts), strict=True)]


@pytest.mark.usefixtures("group")
def test_it_compiles_without_a_graph_break() -> None:
    shared = GlobalBatchNorm(nn.BatchNorm1d(5), None)
    compiled = torch.compile(copy.deepcopy(shared), backend="aot_eager", fullgraph=True)
    rows = torch.randn(7, 5)
    one, other = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    for module, given in ((shared, one), (compiled, other)):
        module(given).square().sum().backward()
    torch.testing.assert_close(one.grad, other.grad)
