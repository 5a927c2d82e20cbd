"""Data-parallel training with the same result as one process: gradients, batch norm and loss counts.

Each process holds some rows of the global batch. Losses are sums and counts; the count is summed over the
processes before the division. Batch norm takes its statistics over the global batch, on a CPU too, where
torch's SyncBatchNorm refuses.
"""

import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from asdbench.engine.runtime import Runtime
from asdbench.nn.all_rows import AllRows
from asdbench.system import Losses, System

# what torch's own batch norms compute; a subclass with another ``forward`` stays as it is
_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm.forward, nn.SyncBatchNorm.forward)


def distribute(system: System, runtime: Runtime, *, several_updates: bool) -> nn.Module:
    """Return the module that the training loop calls: the system, wrapped if there are several processes."""
    if runtime.size == 1 or not any(parameter.requires_grad for parameter in system.parameters()):
        return system
    for name, module in list(system.named_modules()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and type(module).forward in _BATCH_NORMS:
            parent, _, child = name.rpartition(".")
            setattr(system.get_submodule(parent), child, GlobalBatchNorm(module, runtime.group))
        elif isinstance(module, AllRows):
            module.group, module.is_shared = runtime.group, True
    devices = [runtime.device] if runtime.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(
        system,
        device_ids=devices,
        process_group=runtime.group,
        broadcast_buffers=False,
        find_unused_parameters=several_updates,
    )


def total_loss(losses: Losses, runtime: Runtime) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what this process differentiates, and the detached means of parts and monitors over all rows.

    Data-parallel training averages gradients over processes; the total is scaled so that this average is
    the gradient of the mean over the global batch.
    """
    minimized = len(losses.parts)
    named = [*losses.parts.items(), *losses.monitors.items()]
    names = [name for name, _ in named]
    parts = [part for _, part in named]
    weights = [losses.weights.get(name, 1.0) for name in losses.parts]
    if runtime.size == 1:
        means = [part.sum / _at_least_one(part.count) for part in parts]
        total = _weighted(means[0], weights[0])
        for mean, weight in zip(means[1:minimized], weights[1:], strict=True):
            total = total + _weighted(mean, weight)
        return total, {name: mean.detach() for name, mean in zip(names, means, strict=True)}
    counts = torch.stack(
        [torch.as_tensor(part.count, dtype=torch.float64, device=parts[0].sum.device) for part in parts]
    )
    sums = torch.stack([part.sum.detach().double() for part in parts])
    both = torch.stack([sums, counts])
    dist.all_reduce(both, group=runtime.group)
    counts = both[1].clamp(min=1)
    total = sum(
        (weight * runtime.size) * part.sum / count.to(part.sum.dtype)
        for weight, part, count in zip(weights, parts[:minimized], counts[:minimized], strict=True)
    )
    assert isinstance(total, Tensor)
    return total, {name: (both[0, k] / counts[k]).float() for k, name in enumerate(names)}


def _weighted(mean: Tensor, weight: float | Tensor) -> Tensor:
    return mean if isinstance(weight, float) and weight == 1.0 else mean * weight


def _at_least_one(count: int | Tensor) -> int | Tensor:
    return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)


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
        axes = [axis for axis in range(rows.dim()) if axis != 1]
        shape = [1, -1] + [1] * (rows.dim() - 2)
        wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
        count = rows.numel() // rows.shape[1] if rows.shape[1] else 0
        local = torch.cat([wide.sum(axes), wide.new_tensor([float(count)])])
        summed = _sum_over(local, self.group)
        count_of_all = summed[-1].detach()
        total = count_of_all.clamp(min=1)  # 0 where no process has a row
        mean = summed[:-1] / total
        centered = wide - mean.view(shape)
        variance = _sum_over(centered.square().sum(axes), self.group) / total
        with torch.no_grad():
            momentum = self.momentum * count_of_all.clamp(max=1)
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * (total / (total - 1).clamp(min=1)), momentum)
            self.num_batches_tracked.add_(1)
        normal = centered * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(rows.dtype)


class _SumOver(torch.autograd.Function):
    """Sum over the group's processes; the gradient is summed likewise."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: Any) -> Tensor:
        ctx.group = group
        summed = values.contiguous().clone()
        dist.all_reduce(summed, group=group)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        summed = gradient.contiguous().clone()
        dist.all_reduce(summed, group=ctx.group)
        return summed, None


def _sum_over(values: Tensor, group: Any) -> Tensor:
    return _SumOver.apply(values, group)  # type: ignore[no-any-return,no-untyped-call]
