"""Dropout with inexpensive random numbers on a CPU.

torch draws one number of a Mersenne twister for every element, on one thread, which takes up to half of a
conformer's training step. This module draws one 64-bit number of numpy's SFC64 for eight elements: an element
is kept if its byte is at least ``round(256 p)``. The share of dropped elements is thus ``p`` to within 1/512
(and never zero), and the scale is the inverse of the exact share that is kept. Every call seeds SFC64 from
torch's default generator, so that seeding torch is enough. On other devices this is torch's own dropout.

Srivastava et al., "Dropout: A simple way to prevent neural networks from overfitting", JMLR 15, 2014.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from asdbench.errors import InputError

_PART = 2_097_152  # elements; smaller parts cost more in waking threads than they save in memory traffic


class Dropout(nn.Module):
    """Layer that sets elements to zero with probability ``p`` in training and scales the others.

    Raises
    ------
    InputError
        ``p`` is not in [0, 1).

    Examples
    --------
    >>> dropout = Dropout(0.5).eval()
    >>> dropout(torch.ones(3))
    tensor([1., 1., 1.])
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise InputError(f"the dropout probability is {p}; give one from 0 to below 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape and type of ``x``; ``x`` itself in evaluation or if ``p`` is 0."""
        if not self.training or self.p == 0.0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.p)
        keep, scale = _draw_keep(x.shape, self.p)
        return _Masked.apply(x, keep, scale, None)  # type: ignore[no-any-return, no-untyped-call]

    def residual(self, x: Tensor, branch: Tensor, *, weight: float = 1.0) -> Tensor:
        """Return ``x`` plus ``weight`` times the dropout of ``branch``, in one pass; the shapes are equal."""
        if not self.training or self.p == 0.0 or x.device.type != "cpu":
            return torch.add(x, self(branch), alpha=weight)
        keep, scale = _draw_keep(branch.shape, self.p)
        return _Masked.apply(branch, keep, weight * scale, x)  # type: ignore[no-any-return, no-untyped-call]

    def extra_repr(self) -> str:
        """Return the probability."""
        return f"p={self.p}"


def _draw_keep(shape: torch.Size, p: float) -> tuple[Tensor, float]:
    """Return which elements to keep, UInt8 of 0 and 1 with as many elements as ``shape``, and the scale."""
    dropped = min(max(round(256 * p), 1), 255)
    seed = int(torch.randint(2**63 - 1, ()).item())
    numbers = np.random.SFC64(seed).random_raw(-(-shape.numel() // 8))
    keep = numbers.view(np.uint8)[: shape.numel()] >= dropped
    return torch.from_numpy(keep.view(np.uint8)), 256 / (256 - dropped)


def _mask(x: Tensor, keep: Tensor, scale: float, plus: Tensor | None) -> Tensor:
    """Return ``x * keep * scale + plus``, part by part, so that the mask as numbers needs little memory."""
    out = torch.empty(x.shape, dtype=x.dtype if plus is None else torch.result_type(x, plus))
    flat = [tensor.reshape(-1) for tensor in (x, keep, out, x if plus is None else plus)]
    for begin in range(0, keep.numel(), _PART):
        x_part, keep_part, out_part, plus_part = (tensor[begin : begin + _PART] for tensor in flat)
        numbers = keep_part.to(x.dtype)
        if plus is None:
            torch.mul(x_part, numbers.mul_(scale), out=out_part)
        else:
            torch.addcmul(plus_part, x_part, numbers, value=scale, out=out_part)
    return out


class _Context(FunctionCtx):
    """The state that the forward pass leaves for the backward pass."""

    saved_tensors: tuple[Tensor, ...]
    scale: float
    dtype: torch.dtype
    plus: torch.dtype | None


class _Masked(torch.autograd.Function):
    """``x * keep * scale + plus``."""

    @staticmethod
    def forward(ctx: _Context, x: Tensor, keep: Tensor, scale: float, plus: Tensor | None) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale, ctx.dtype = scale, x.dtype
        ctx.plus = None if plus is None else plus.dtype
        return _mask(x, keep, scale, plus)

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None, None, Tensor | None]:
        (keep,) = ctx.saved_tensors
        plus_gradient = None if ctx.plus is None else gradient.to(ctx.plus)
        return _mask(gradient.to(ctx.dtype), keep, ctx.scale, None), None, None, plus_gradient
