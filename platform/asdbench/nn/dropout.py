"""Dropout with inexpensive random numbers, whose seed is an input of the layer.

torch draws one number of a Mersenne twister for every element, on one thread, which takes up to half of a
conformer's training step on a CPU. There this module draws one 64-bit number of numpy's SFC64 for eight
elements: an element is kept if its byte is at least ``round(256 p)``. On other devices the byte comes from
Wellons' hash of the element's index and the seed, which a compiler fuses with what surrounds it. The share of
dropped elements is thus ``p`` to within 1/512 (and never zero), and the scale is the inverse of the exact
share that is kept.

The training loop gives all layers of a system one seed per step (:class:`DropoutSeed`). The seed is a buffer:
compiled steps read it from its place, and where several trainings run as one model, each keeps its own, so
that its elements are dropped as in a training of its own. Without one, every call draws a seed from torch's
generator.

Srivastava et al., "Dropout: A simple way to prevent neural networks from overfitting", JMLR 15, 2014.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from asdbench.errors import InputError

_PART = 2_097_152  # elements; smaller parts cost more in waking threads than they save in memory traffic
_FACTORS = (0x7FEB352D, 0x846CA68B - 2**32)  # C. Wellons, "Prospecting for hash functions", 2018: lowbias32


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

    seed: Tensor | None

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise InputError(f"the dropout probability is {p}; give one from 0 to below 1")
        self.p, self.index = p, 0
        self.register_buffer("seed", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape and type of ``x``; ``x`` itself in evaluation or if ``p`` is 0."""
        if not self.training or self.p == 0.0:
            return x
        keep, scale = self._draw_keep(x)
        if x.device.type != "cpu":
            return x * (keep.to(x.dtype) * scale)
        return _masked(x, keep, scale, None)  # type: ignore[no-any-return]

    def residual(self, x: Tensor, branch: Tensor, *, weight: float = 1.0) -> Tensor:
        """Return ``x`` plus ``weight`` times the dropout of ``branch``, in one pass; the shapes are equal."""
        if not self.training or self.p == 0.0 or x.device.type != "cpu":
            return torch.add(x, self(branch), alpha=weight)
        keep, scale = self._draw_keep(branch)
        return _masked(branch, keep, weight * scale, x)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Return the probability."""
        return f"p={self.p}"

    def _draw_keep(self, x: Tensor) -> tuple[Tensor, float]:
        """Return which elements of ``x`` to keep, of its shape, and the scale."""
        dropped = min(max(round(256 * self.p), 1), 255)
        seed = torch.randint(2**62, (), device=x.device) if self.seed is None else self.seed
        draw = _keep_by_generator if x.device.type == "cpu" else keep_by_hash
        return draw(seed, list(x.shape), self.index, dropped), 256 / (256 - dropped)


class DropoutSeed:
    """The seed of all dropout layers of a module, set before each step.

    Parameters
    ----------
    module : whose layers draw from it, each its own decisions; on its device

    Examples
    --------
    >>> layers = nn.Sequential(Dropout(0.5), Dropout(0.5))
    >>> seed = DropoutSeed(layers)
    >>> seed.set(7)
    >>> first = layers(torch.ones(8))
    >>> bool((layers(torch.ones(8)) == first).all())
    True
    """

    def __init__(self, module: nn.Module) -> None:
        self._layers = [layer for layer in module.modules() if isinstance(layer, Dropout)]
        device = next((value.device for value in module.parameters()), torch.device("cpu"))
        seed = torch.zeros((), dtype=torch.long, device=device)
        for index, layer in enumerate(self._layers):
            layer.index, layer.seed = index, seed

    def set(self, seed: int) -> None:
        """Set the seed, from 0 to below 2^63; no synchronization."""
        if self._layers:
            shared = self._layers[0].seed  # as it is now: whoever stacks systems puts another in its place
            assert shared is not None
            shared.fill_(seed)


@torch.library.custom_op("asdbench::keep_by_generator", mutates_args=())
def _keep_by_generator(seed: Tensor, shape: list[int], index: int, dropped: int) -> Tensor:
    """Return which elements to keep, UInt8 of 0 and 1."""
    count = math.prod(shape)
    numbers = np.random.SFC64([int(seed), index]).random_raw(-(-count // 8))
    keep = numbers.view(np.uint8)[:count] >= dropped
    return torch.from_numpy(keep.view(np.uint8)).view(shape)


@_keep_by_generator.register_fake
def _(seed: Tensor, shape: list[int], index: int, dropped: int) -> Tensor:
    return seed.new_empty(shape, dtype=torch.uint8)


@_keep_by_generator.register_vmap
def _(
    info: Any, in_dims: tuple[int | None, ...], seed: Tensor, shape: list[int], index: int, dropped: int
) -> tuple[Tensor, int]:
    return torch.stack([_keep_by_generator(one, shape, index, dropped) for one in seed.unbind()]), 0


def keep_by_hash(seed: Tensor, shape: list[int], index: int, dropped: int) -> Tensor:
    """Return which elements to keep, Bool of this shape, on the seed's device.

    Parameters
    ----------
    seed : Long[Tensor, ""]
    shape : of the result
    index : of the layer; each has its own decisions
    dropped : elements in 256 that are dropped

    Examples
    --------
    >>> keep_by_hash(torch.tensor(7), [2, 500], 0, 128).float().mean(dim=1)
    tensor([0.5220, 0.4960])
    """
    element = torch.arange(math.prod(shape), device=seed.device, dtype=torch.int32)
    low, high = seed.to(torch.int32), (seed >> 32).to(torch.int32) + index
    mixed = _mixed(_mixed(element + low) + high)
    return ((mixed & 0xFF) >= dropped).view(shape)


def _mixed(x: Tensor) -> Tensor:
    """Return Wellons' hash of 32-bit numbers; products wrap around."""
    for factor, shift in zip(_FACTORS, (16, 15), strict=True):
        x = (x ^ ((x >> shift) & ((1 << (32 - shift)) - 1))) * factor
    return x ^ ((x >> 16) & 0xFFFF)


@torch.library.custom_op("asdbench::masked", mutates_args=())
def _masked(x: Tensor, keep: Tensor, scale: float, plus: Tensor | None) -> Tensor:
    """Return ``x * keep * scale + plus``, part by part, so that the mask as numbers needs little memory."""
    out = _masked_like(x, keep, scale, plus)
    flat = [tensor.reshape(-1) for tensor in (x, keep, out, x if plus is None else plus)]
    for begin in range(0, keep.numel(), _PART):
        x_part, keep_part, out_part, plus_part = (tensor[begin : begin + _PART] for tensor in flat)
        numbers = keep_part.to(x.dtype)
        if plus is None:
            torch.mul(x_part, numbers.mul_(scale), out=out_part)
        else:
            torch.addcmul(plus_part, x_part, numbers, value=scale, out=out_part)
    return out  # type: ignore[no-any-return]


@_masked.register_fake
def _masked_like(x: Tensor, keep: Tensor, scale: float, plus: Tensor | None) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype if plus is None else torch.result_type(x, plus))


@_masked.register_vmap
def _(
    info: Any, in_dims: Sequence[int | None], x: Tensor, keep: Tensor, scale: float, plus: Tensor | None
) -> tuple[Tensor, int]:
    stacked = [
        tensor if tensor is None else _stacked(tensor, dim, info.batch_size)
        for tensor, dim in ((x, in_dims[0]), (keep, in_dims[1]), (plus, in_dims[3]))
    ]
    return _masked(stacked[0], stacked[1], scale, stacked[2]), 0


def _stacked(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """Return a tensor with the dimension that is mapped over in front."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


class _Context(FunctionCtx):
    """The state that the forward pass leaves for the backward pass."""

    saved_tensors: tuple[Tensor, ...]
    scale: float
    dtype: torch.dtype
    plus: torch.dtype | None


def _save(ctx: _Context, inputs: tuple[Tensor, Tensor, float, Tensor | None], output: Tensor) -> None:
    x, keep, ctx.scale, plus = inputs
    ctx.save_for_backward(keep)
    ctx.dtype, ctx.plus = x.dtype, None if plus is None else plus.dtype


def _backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None, None, Tensor | None]:
    (keep,) = ctx.saved_tensors
    plus_gradient = None if ctx.plus is None else gradient.to(ctx.plus)
    return _masked(gradient.to(ctx.dtype), keep, ctx.scale, None), None, None, plus_gradient


_masked.register_autograd(_backward, setup_context=_save)
