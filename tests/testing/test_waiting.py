"""What makes a GPU's program wait is found on a CPU, and named with its line and its cure."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from asdbench.errors import InputError
from asdbench.nn.dropout import Dropout
from asdbench.testing.waiting import WithoutWaiting


def assigned(rows: Tensor, value: Any) -> Tensor:
    rows = rows.clone()
    rows[rows > 0] = value
    return rows


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda x: x.sum().item(), "item"),
        (lambda x: 1.0 if x.sum() > 0 else 0.0, "bool"),
        (lambda x: x.tolist(), "tolist"),
        (lambda x: x.numpy(), "numpy"),
        (lambda x: x.cpu(), "cpu"),
        (lambda x: x[x > 0], r"x\[mask\] .*Mean.from_values"),
        (lambda x: assigned(x, torch.ones(2)), r"x\[mask\]"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: torch.where(x > 0), "nonzero"),
        (lambda x: x.masked_select(x > 0), "masked_select"),
        (lambda x: x.unique(), "unique"),
        (lambda x: x.long().bincount(), "bincount"),
        (lambda x: x.repeat_interleave(torch.arange(3)), "output_size"),
        (lambda x: x + x.new_tensor([1.0]), "new_tensor"),
        (lambda x: x + torch.tensor([1.0]), "buffer"),
        (lambda x: torch.as_tensor([1.0]), "as_tensor"),
    ],
)
def test_a_call_that_waits_is_named(call: Callable[[Tensor], Any], told: str) -> None:
    rows = torch.arange(3.0)
    call(rows)
    with (
        pytest.raises(InputError, match=rf"Mine\.forward calls .*{told}") as raised,
        WithoutWaiting("Mine.forward"),
    ):
        call(rows)
    assert "test_waiting.py, line" in str(raised.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: assigned(x, 0.0),
        lambda x: x[torch.arange(2)],
        lambda x: x.repeat_interleave(2) + torch.full((6,), 0.5),
        lambda x: Dropout(0.5)(x),
    ],
)
def test_a_call_that_does_not_wait_runs(call: Callable[[Tensor], Tensor]) -> None:
    with WithoutWaiting("Mine.forward"):
        assert len(call(torch.arange(3.0))) in (2, 3, 6)


def test_the_backward_pass_is_watched() -> None:
    class Reading(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * gradient.sum().item()

    rows = torch.ones(3, requires_grad=True)
    with pytest.raises(InputError, match="Mine calls item"), WithoutWaiting("Mine"):
        Reading.apply(rows).sum().backward()
