"""Several systems of equal architecture as one model, whose tensors have a leading job axis.

Every parameter and buffer of the k-th system becomes a view of entry k of a stacked tensor. One call of
``torch.vmap`` over the stacked tensors then computes the losses of all jobs: a matrix product becomes a
batched one, a convolution a grouped one. After the backward pass the gradient of a system's parameter is a
view of the stacked gradient, so that each system keeps its own optimizers, schedulers and checkpoints, and
what happens to one job, such as a loss that is not finite, does not reach another.

Random numbers come from row keys and from the seeds of dropout layers, both of which are stacked too: a job
computes what it would compute alone, up to rounding. A system that draws from torch's generator cannot be
stacked, nor one whose shapes depend on data or that assigns buffers in ``forward``; the call then raises.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from asdbench.engine.pretrained import frozen_names
from asdbench.engine.system_output import check_losses
from asdbench.system import ClipBatch, Losses, System, TrainingFacts, Update

KindT = TypeVar("KindT", ClipBatch, Losses)
_FACTS = tuple(field.name for field in fields(TrainingFacts))


class StackedModel:
    """Systems of equal architecture whose losses and gradients are computed together.

    Parameters
    ----------
    systems : on one device; their parameters and buffers become views of stacked tensors. Frozen pretrained
        parameters are those of the first system

    Raises
    ------
    ValueError
        The tensors of the systems differ in names or shapes.
    """

    def __init__(self, systems: Sequence[System]) -> None:
        torch._C._functorch._set_vmap_fallback_warning_enabled(False)  # type: ignore[attr-defined]  # attention on a CPU
        self._systems = systems
        self._tensors = _tensors_by_name(systems)
        frozen = frozen_names(systems[0])
        self._leaves = {
            name: tensors[0] if name in frozen else _stacked(tensors)
            for name, tensors in self._tensors.items()
        }
        self._dims = {name: None if name in frozen else 0 for name in self._leaves}
        for name, leaf in self._leaves.items():
            views = [leaf.detach()] * len(systems) if name in frozen else leaf.detach().unbind()
            self._put(name, views)
        self._checked = set[str]()  # updates whose losses are what they should be
        self._facts = _common_facts([system.facts for system in systems])

    def losses(self, batches: Sequence[ClipBatch], update: str, progress: Tensor) -> Losses:
        """Return the losses of all jobs, each sum and count with a job axis, Float[Tensor, "job"].

        Parameters
        ----------
        batches : one for each system, of equal shapes
        update : as ``System.forward`` is told
        progress : Float[Tensor, "job"], likewise

        Raises
        ------
        RuntimeError, ValueError
            The system cannot be stacked, or the shapes of the batches differ.
        """
        system, batch, of_job = self._systems[0], stacked_batches(batches), list[Losses]()

        def job(leaves: dict[str, Tensor], inputs: list[Tensor], progress: Tensor) -> list[Tensor]:
            given = (_with_tensors(batch, inputs), update, progress)
            now = dict(leaves)
            of_job.append(functional_call(system, now, given))
            _check_in_place(leaves, now)
            return _tensors(of_job[0])

        stacked = vmap(job, in_dims=(self._dims, 0, 0), randomness="error")
        with _replaced_facts(system, self._facts):
            sums = stacked(self._leaves, _tensors(batch), progress)
        losses = _with_tensors(of_job[0], sums)
        if update not in self._checked:
            check_losses(system, update, _map_tensors(lambda of_jobs: of_jobs[0], losses))
            self._checked.add(update)
        return losses

    def backward(self, total: Tensor, updates: Sequence[Update]) -> None:
        """Set the gradients of the parameters that each system's update trains.

        Parameters
        ----------
        total : Float[Tensor, "job"], the loss of each job
        updates : of the systems, in their order
        """
        trained = {id(p) for group in updates[0].optimizer.param_groups for p in group["params"]}
        names = [
            name
            for name, tensors in self._tensors.items()
            if id(tensors[0]) in trained and tensors[0].requires_grad
        ]
        leaves = [self._leaves[name] for name in names]
        gradients = torch.autograd.grad(total.sum(), leaves, allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            # a fused optimizer reads gradients in the order of memory that the parameters have
            of_jobs = [None] * len(self._systems) if gradient is None else gradient.contiguous().unbind()
            for parameter, of_job in zip(self._tensors[name], of_jobs, strict=True):
                parameter.grad = of_job

    def release(self) -> None:
        """Give every system tensors of its own again, with the present values."""
        for name, dim in self._dims.items():
            if dim is not None:
                self._put(name, [value.clone() for value in self._leaves[name].detach().unbind()])

    def _put(self, name: str, values: Sequence[Tensor]) -> None:
        """Let the systems' tensor of this name, under all its names, have other storage."""
        for system, tensor, value in zip(self._systems, self._tensors[name], values, strict=True):
            if isinstance(tensor, nn.Parameter):
                tensor.data = value
                continue
            for module in system.modules():
                for key, buffer in module._buffers.items():
                    if buffer is tensor:
                        module._buffers[key] = value
        self._tensors[name] = [_at(system, name) for system in self._systems]


def _check_in_place(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    for name, tensor in before.items():
        if after[name] is not tensor:  # the new one would be lost
            raise ValueError(f"forward assigns the buffer {name!r}; change it in place, with copy_")


def _at(module: nn.Module, name: str) -> Tensor:
    owner, _, key = name.rpartition(".")
    tensor: Tensor = getattr(module.get_submodule(owner), key)
    return tensor


def _tensors_by_name(systems: Sequence[System]) -> dict[str, list[Tensor]]:
    """Return the parameters and buffers of systems by name; one with several names under its first."""
    named = [dict(system.named_parameters()) | dict(system.named_buffers()) for system in systems]
    shapes = [{name: tensor.shape for name, tensor in tensors.items()} for tensors in named]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("systems whose tensors differ in names or shapes cannot be stacked")
    return {name: [tensors[name] for tensors in named] for name in named[0]}


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors with a job axis in front, a leaf of gradients as they are."""
    stacked = torch.stack([tensor.detach() for tensor in tensors]).contiguous()
    return stacked.requires_grad_(tensors[0].requires_grad)


def stacked_batches(batches: Sequence[ClipBatch]) -> ClipBatch:
    """Return batches as one whose tensors have a job axis in front.

    Raises
    ------
    ValueError, RuntimeError
        They differ in shapes or in numbers that all jobs have in common.

    Examples
    --------
    >>> zeros = torch.zeros(2, dtype=torch.long)
    >>> batch = ClipBatch(torch.zeros(2, 64, 128), clip=zeros, n_clips=1, machine=zeros, section=zeros)
    >>> stacked_batches([batch, batch, batch]).windows.shape
    torch.Size([3, 2, 64, 128])
    """
    batch: ClipBatch = _map_tensors(lambda *tensors: torch.stack(tensors), *batches)
    return batch


def have_equal_shapes(batches: Sequence[ClipBatch]) -> bool:
    """Return whether the tensors of all batches have the same shapes, so that they can be stacked.

    The last batch of an epoch has as many rows as are left, which depends on the machine type.
    """
    shapes = [[tensor.shape for tensor in _tensors(batch)] for batch in batches]
    return all(each == shapes[0] for each in shapes)


def facts_shape(facts: TrainingFacts, name: str) -> object:
    """Return what a system's tensors and the names of its losses can depend on in one of its facts.

    Examples
    --------
    >>> facts_shape(TrainingFacts(("00",), {"speed": ("1", "2")}), "attributes")
    (('speed', 2),)
    """
    value = getattr(facts, name)
    if isinstance(value, Mapping):
        return tuple((column, len(values)) for column, values in value.items())
    return value if isinstance(value, int) else len(value)


def _common_facts(facts: Sequence[TrainingFacts]) -> Any:
    """Return those of the facts whose shape is the same for all jobs; there are no others to be read."""
    shapes = {name: {facts_shape(each, name) for each in facts} for name in _FACTS}
    return SimpleNamespace(**{name: getattr(facts[0], name) for name in _FACTS if len(shapes[name]) == 1})


@contextmanager
def _replaced_facts(system: System, facts: Any) -> Iterator[None]:
    before = system.facts
    system.facts = facts
    try:
        yield
    finally:
        system.facts = before


def _map_tensors(function: Callable[..., Tensor], *values: Any) -> Any:
    """Return the first of some dataclasses or mappings, with a function of the tensors of all in its place.

    All else in them must be equal.
    """
    first = values[0]
    if isinstance(first, Tensor):
        return function(*values)
    if is_dataclass(first) and not isinstance(first, type):
        mapped = _map_tensors(function, *(_content(value) for value in values))
        return replace(first, **mapped)
    if any(
        value.keys() != first.keys() if isinstance(first, Mapping) else value != first for value in values
    ):
        raise ValueError("batches that differ in more than the values of their tensors cannot be stacked")
    if isinstance(first, Mapping):
        return {name: _map_tensors(function, *(value[name] for value in values)) for name in first}
    return first


def _content(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in a dataclass, in order."""
    tensors: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    _map_tensors(note, value)
    return tensors


def _with_tensors(value: KindT, tensors: Iterable[Tensor]) -> KindT:
    """Return a dataclass with other tensors, in the same order."""
    remaining = iter(tensors)
    changed: KindT = _map_tensors(lambda _: next(remaining), value)
    return changed
