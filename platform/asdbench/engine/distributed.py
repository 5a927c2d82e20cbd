"""Data-parallel training with the same result as one process: gradients, batch norm and loss counts.

Each process holds some rows of the global batch. Losses are sums and counts; the count is summed over the
processes before the division. Batch norm takes its statistics over the global batch, on a CPU too, where
torch's SyncBatchNorm refuses.

A training step has one collective for the losses, two for each batch norm, and the buckets of gradients,
which are reduced while the backward pass goes on. The losses' comes first, since a mean over all rows is
differentiated with the number of all rows; on a GPU only the device waits for it.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import register_pytree_node

from asdbench.engine.global_batch_norm import GlobalBatchNorm, is_replaceable
from asdbench.engine.runtime import Runtime
from asdbench.nn.all_rows import AllRows
from asdbench.system import Losses, Mean, Stage, System

_BUCKETS = 4  # of gradients, so that most of them are on their way before the backward pass ends
_LEAST_MB, _MOST_MB = 1.0, 25.0  # of a bucket: below, latency counts; the upper one is torch's default

# DDP looks for tensors in what a module returns
register_pytree_node(Mean, lambda mean: ([mean.sum, mean.count], None), lambda parts, _: Mean(*parts))
register_pytree_node(
    Losses,
    lambda losses: ([losses.parts, losses.weights, losses.monitors], None),
    lambda parts, _: Losses(*parts),
)


class Distributed:
    """A system whose batch norms and `AllRows` work over all processes, which begin with rank 0's state.

    Parameters
    ----------
    system : changed in place, if there are several processes
    runtime : the processes
    rows : of the largest global batch
    """

    def __init__(self, system: System, runtime: Runtime, *, rows: int) -> None:
        self._system, self._runtime = system, runtime
        self._stage: Stage | None = None
        self._models: list[nn.Module] = []
        if runtime.size > 1:
            _share_layers(system, runtime, rows)
            _begin_as_rank_zero(system, runtime)

    def of(self, stage: Stage) -> list[nn.Module]:
        """Return what is called in each update of a stage: the system, wrapped for several processes.

        Only the parameters of an update's optimizer get a gradient, so only those are reduced. Which of them
        the update uses is learned from its first step. Where two updates share parameters, each step has to
        look for those that it does not use.
        """
        if stage is not self._stage:
            self._stage, self._models = stage, self._models_of(stage)
        return self._models

    def _models_of(self, stage: Stage) -> list[nn.Module]:
        trained = [_trained_by(update.optimizer) for update in stage.updates]
        if self._runtime.size == 1:
            return [self._system] * len(trained)
        every = list(dict.fromkeys(parameter for of_update in trained for parameter in of_update))
        if len(every) < sum(map(len, trained)):
            return [self._replica(every, static_graph=False)] * len(trained)
        return [self._replica(of_update, static_graph=True) for of_update in trained]

    def _replica(self, trained: Sequence[nn.Parameter], *, static_graph: bool) -> nn.Module:
        if not trained:
            return self._system
        total_mb = sum(parameter.nbytes for parameter in trained) / 2**20
        return nn.parallel.DistributedDataParallel(
            _OneUpdate(self._system, trained),
            device_ids=[self._runtime.device] if self._runtime.device.type == "cuda" else None,
            process_group=self._runtime.group,
            bucket_cap_mb=min(max(total_mb / _BUCKETS, _LEAST_MB), _MOST_MB),
            gradient_as_bucket_view=True,
            static_graph=static_graph,
            find_unused_parameters=not static_graph,
        )


class _OneUpdate(nn.Module):
    """A system whose only parameters are ``trained``; the others get no gradient."""

    def __init__(self, system: System, trained: Sequence[nn.Parameter]) -> None:
        super().__init__()
        own = set(trained)
        self._hidden = [system]  # from `nn.Module`, which would add all parameters
        self._others = [each for each in system.parameters() if each.requires_grad and each not in own]
        self._trained = nn.ParameterList(trained)

    def forward(self, *inputs: Any) -> Losses:
        for parameter in self._others:
            parameter.requires_grad_(False)
        try:
            losses: Losses = self._hidden[0](*inputs)
        finally:
            for parameter in self._others:
                parameter.requires_grad_(True)
        return losses


def _trained_by(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [parameter for parameter in parameters if parameter.requires_grad]


def _share_layers(system: System, runtime: Runtime, rows: int) -> None:
    for name, module in list(system.named_modules()):
        if is_replaceable(module):
            parent, _, child = name.rpartition(".")
            setattr(system.get_submodule(parent), child, GlobalBatchNorm(module, runtime.group))
        elif isinstance(module, AllRows):
            module.share(runtime.group, rows=rows)


def _begin_as_rank_zero(system: System, runtime: Runtime) -> None:
    """Weights come from the seed, but another processor may round some of them otherwise."""
    state = [*system.parameters(), *system.buffers()]
    sent = [dist.broadcast(values.detach(), 0, group=runtime.group, async_op=True) for values in state]
    for work in sent:
        work.wait()


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
    sums = [part.sum.detach().double() for part in parts]
    both = torch.stack([*sums, *(_on_device(part) for part in parts)]).view(2, -1)
    dist.all_reduce(both, group=runtime.group)
    counts = both[1].clamp(min=1)
    total = sum(
        _weighted(part.sum, weight) * (runtime.size / count).to(part.sum.dtype)
        for weight, part, count in zip(weights, parts[:minimized], counts[:minimized], strict=True)
    )
    assert isinstance(total, Tensor)
    return total, {name: (both[0, k] / counts[k]).float() for k, name in enumerate(names)}


def _weighted(mean: Tensor, weight: float | Tensor) -> Tensor:
    return mean if isinstance(weight, float) and weight == 1.0 else mean * weight


def _at_least_one(count: int | Tensor) -> int | Tensor:
    return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)


def _on_device(part: Mean) -> Tensor:
    """Return the count where the sum is; a number gets there without a copy from the host's memory."""
    if isinstance(part.count, Tensor):
        return part.count.double()
    return torch.full((), part.count, dtype=torch.float64, device=part.sum.device)
