"""Batch norm over the rows of all processes, with one collective forward and one backward.

Forward, every process sends the count, the mean and the sum of squared deviations of its own rows, and all
combine them (T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating formulae and a pairwise algorithm for
computing sample variances", 1979), which loses no digit where the mean is far larger than the deviation. Sums
about a shared shift would do the same only where the shift is near the mean, as a running mean is not in the
first steps.

Backward, with n rows and positions in all, x̂ the normalized rows and g the gradient times the weight,

    dx = (g - Σ g / n - x̂ · Σ (g · x̂) / n) / √(variance + eps),

where the two sums over all processes are the one collective. Gradients of weight and bias are those of a
process's own rows, which data-parallel training averages like all others.
"""

import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from typing_extensions import TypeIs

# what torch's own batch norms compute; a subclass with another ``forward`` stays as it is
_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm.forward, nn.SyncBatchNorm.forward)


def is_replaceable(module: nn.Module) -> TypeIs[nn.modules.batchnorm._BatchNorm]:
    """Return whether a module computes what `GlobalBatchNorm` does for one process.

    Examples
    --------
    >>> is_replaceable(nn.BatchNorm1d(3)), is_replaceable(nn.LayerNorm(3))
    (True, False)
    """
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and type(module).forward in _BATCH_NORMS


class GlobalBatchNorm(nn.Module):
    """Batch norm over the rows of all processes; takes over the parameters and buffers of ``like``."""

    def __init__(self, like: nn.modules.batchnorm._BatchNorm, group: Any) -> None:
        super().__init__()
        if like.momentum is None or not like.track_running_stats:
            raise ValueError(
                "batch norm without momentum or running statistics cannot be shared by processes"
            )
        self.weight, self.bias = like.weight, like.bias
        for name, buffer in copy.copy(like._buffers).items():
            self.register_buffer(name, buffer)
        self.eps, self.momentum, self.group = like.eps, like.momentum, group

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, rows: Tensor) -> Tensor:
        """Normalize Float[Tensor, "row channel ..."] with the statistics of all processes' rows."""
        if not self.training:
            return nn.functional.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        with torch.no_grad():
            mean, variance, total = _combined(_gathered(_moments(rows), self.group))
            self._track(mean, variance, total)
            dtype = _wide(rows)
            scale = torch.rsqrt(variance + self.eps).to(dtype)
        return _normalized(rows, mean.to(dtype), scale, total.to(dtype), self.weight, self.bias, self.group)

    def _track(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        """Move the running statistics, with the unbiased variance; they stay where no process has a row."""
        momentum = self.momentum * total.clamp(max=1)
        unbiased = variance * (total / (total - 1).clamp(min=1))
        for running, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            running.lerp_(value.to(running.dtype), momentum.to(running.dtype))
        self.num_batches_tracked.add_(1)


def _wide(rows: Tensor) -> torch.dtype:
    return torch.promote_types(rows.dtype, torch.float32)


def _axes(rows: Tensor) -> list[int]:
    return [axis for axis in range(rows.dim()) if axis != 1]


def _per_channel(values: Tensor, rows: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (rows.dim() - 2))


def _moments(rows: Tensor) -> Tensor:
    """Return mean and sum of squared deviations of each channel, and the count: Float["2 · channel + 1"]."""
    wide = rows.to(_wide(rows))
    count = rows.numel() // max(rows.shape[1], 1)
    if not count:
        return wide.new_zeros(2 * rows.shape[1] + 1)
    variance, mean = torch.var_mean(wide, _axes(rows), correction=0)
    return torch.cat([mean, variance * count, wide.new_full((1,), count)])


def _gathered(values: Tensor, group: Any) -> Tensor:
    """Return the values of all processes, Float[Tensor, "process value"]."""
    gathered = [torch.empty_like(values) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, values, group=group)
    return torch.stack(gathered)


def _combined(moments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and variance of each channel over all processes, and the count, in float64."""
    moments, count = moments.double()[:, :-1], moments.double()[:, -1:]
    means, deviations = moments.chunk(2, dim=1)
    total = count.sum()
    mean = (count * means).sum(dim=0) / total.clamp(min=1)
    squares = deviations + count * (means - mean).square()
    return mean, squares.sum(dim=0) / total.clamp(min=1), total


class _Normalize(torch.autograd.Function):
    """Normalize with statistics that depend on the rows of all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        mean: Tensor,
        scale: Tensor,
        total: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        group: Any,
    ) -> Tensor:
        ctx.group = group
        ctx.save_for_backward(rows, mean, scale, total, weight)
        factor = scale if weight is None else scale * weight
        centered = rows - _per_channel(mean, rows)
        if bias is None:
            return (centered * _per_channel(factor, rows)).to(rows.dtype)
        return torch.addcmul(_per_channel(bias, rows), centered, _per_channel(factor, rows)).to(rows.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, mean, scale, total, weight = ctx.saved_tensors
        gradient, centered = gradient.to(mean.dtype), rows - _per_channel(mean, rows)
        own = torch.stack([gradient.sum(_axes(rows)), (gradient * centered).sum(_axes(rows)) * scale])
        summed = own.clone()
        dist.all_reduce(summed, group=ctx.group)
        offset, slope = summed / total.clamp(min=1)
        factor = scale if weight is None else scale * weight
        moved = gradient - _per_channel(offset, rows) - centered * _per_channel(scale * slope, rows)
        of_rows = (moved * _per_channel(factor, rows)).to(rows.dtype)
        of_weight, of_bias = (own[1], own[0]) if weight is not None else (None, None)
        return of_rows, None, None, None, of_weight, of_bias, None


def _normalized(*arguments: Any) -> Tensor:
    return _Normalize.apply(*arguments)  # type: ignore[no-any-return,no-untyped-call]
