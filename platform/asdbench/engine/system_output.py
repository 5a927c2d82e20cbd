"""Checks of what a system returns: its losses, its component scores, and what it keeps of a fit.

A message names the class, the method and the value, and says what to return instead.
"""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from asdbench.errors import InputError
from asdbench.system import InputSpec, Losses, Mean, Stage, System

_RESERVED = ("clip_id", "use")  # other columns of a table of component scores
_NAMED = 5
_FLOAT16_MAX = 65504.0


def checked_components(
    system: System | type[System], method: str, output: object, n_clips: int
) -> dict[str, Tensor]:
    """Return the components that ``method`` of a system has returned, Float64[Tensor, "clip"] on the CPU.

    Raises
    ------
    InputError
        They are not a dict of tensors with one finite number per clip.

    Examples
    --------
    >>> checked_components(System, "components", {"a": Tensor(2, 1)}, 2)
    Traceback (most recent call last):
    ...
    asdbench.errors.InputError: System.components returns (2, 1) values of 'a' for 2 clips; return one value \
per clip
    """
    return finite_components(system, method, components_of_clips(system, method, output, n_clips))


def components_of_clips(
    system: System | type[System], method: str, output: object, n_clips: int
) -> dict[str, Tensor]:
    """Return the components as `checked_components` does, on their device and whatever their values.

    Nothing waits for a GPU; `finite_components` checks the values of all batches together.
    """
    where = f"{_name(system)}.{method}"
    if not isinstance(output, Mapping):
        raise InputError(f"{where} returns {_kind(output)}; return a dict of tensors by component name")
    if not output:
        raise InputError(f"{where} returns an empty dict; return at least one component")
    for name in output:
        if not isinstance(name, str) or not name or name in _RESERVED:
            raise InputError(f"{where} returns a component named {name!r}; choose another name")
    return {name: _checked_scores(where, name, values, n_clips) for name, values in output.items()}


def _checked_scores(where: str, name: str, values: object, n_clips: int) -> Tensor:
    for_clips = _for_clips(n_clips)
    if not isinstance(values, Tensor):
        raise InputError(
            f"{where} returns {_kind(values)} as {name!r} {for_clips}; return a tensor with one value per "
            f"clip"
        )
    if values.shape != (n_clips,):
        raise InputError(
            f"{where} returns {tuple(values.shape)} values of {name!r} {for_clips}; return one value per clip"
        )
    if not values.is_floating_point():
        raise InputError(
            f"{where} returns values of {name!r} of type {values.dtype}; return floating-point values"
        )
    return values.detach().double()


def finite_components(
    system: System | type[System], method: str, components: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return components on the CPU; one that is not finite is an :class:`InputError`."""
    scores = {name: values.cpu() for name, values in components.items()}
    for name, values in scores.items():
        n_bad = int((~values.isfinite()).sum())
        if n_bad:
            raise InputError(
                f"{_name(system)}.{method} returns {n_bad} values of {name!r} {_for_clips(len(values))} that "
                f"are not finite; return a finite value for every clip, silent ones included"
            )
    return scores


def _for_clips(n_clips: int) -> str:
    return f"for {n_clips} clip{'' if n_clips == 1 else 's'}"


def embeddings_of_clips(system: System, output: object, n_clips: int) -> Tensor | None:
    """Return the embeddings that a system has returned, Float[Tensor, "clip dim"], on their device.

    ``None`` is returned as it is. `stored_embeddings` checks the values of all batches together.

    Raises
    ------
    InputError
        They are not a tensor with one vector per clip.
    """
    if output is None:
        return None
    where, for_clips = f"{_name(system)}.embeddings", _for_clips(n_clips)
    if not isinstance(output, Tensor):
        raise InputError(
            f"{where} returns {_kind(output)} {for_clips}; return a tensor with one vector per clip, or None"
        )
    if output.dim() != 2 or len(output) != n_clips or not output.shape[1]:
        raise InputError(
            f"{where} returns shape {tuple(output.shape)} {for_clips}; return one vector per clip, of shape "
            f"({n_clips}, dim)"
        )
    return output.detach().float()


def stored_embeddings(system: System, embeddings: Tensor) -> Tensor:
    """Return embeddings as they are stored, Float16[Tensor, "clip dim"] on the CPU.

    Values beyond the range of float16 become its ends; one that is not finite is an :class:`InputError`.

    Examples
    --------
    >>> stored_embeddings(object.__new__(System), Tensor([[1.0, 1e9]]))
    tensor([[1.0000e+00, 6.5504e+04]], dtype=torch.float16)
    """
    values = embeddings.cpu()
    n_bad = int((~values.isfinite()).sum())
    if n_bad:
        raise InputError(
            f"{_name(system)}.embeddings returns {n_bad} values that are not finite; return finite values"
        )
    return values.clamp(-_FLOAT16_MAX, _FLOAT16_MAX).half()


def checked_labels(system: System, output: object) -> Tensor:
    """Return the pseudo-labels that a system has returned, Long[Tensor, "clip"] on the CPU.

    Raises
    ------
    InputError
        They are not a tensor with one whole number per clip.

    Examples
    --------
    >>> checked_labels(object.__new__(System), Tensor([0.5]))
    Traceback (most recent call last):
    ...
    asdbench.errors.InputError: System.pseudo_labels returns a tensor of shape (1,) and type torch.float32; \
return a tensor with one whole number per clip
    """
    if not isinstance(output, Tensor) or output.dim() != 1 or output.is_floating_point():
        raise InputError(
            f"{_name(system)}.pseudo_labels returns {_kind(output)}; return a tensor with one whole number "
            f"per clip"
        )
    return output.detach().long().cpu()


def check_stages(system: System, stages: Sequence[Stage], input_spec: InputSpec) -> None:
    """Raise :class:`InputError` if a system lacks what its stages of training need.

    Examples
    --------
    >>> system = object.__new__(System)
    >>> from asdbench.spec import MelSpec
    >>> check_stages(system, [Stage("one", [], epochs=1)], InputSpec(MelSpec(), window_frames=64))
    Traceback (most recent call last):
    ...
    asdbench.errors.InputError: System must define forward(self, batch, update, progress), because it has \
stages of training
    """
    if not stages:
        return
    if input_spec.window_frames is None:
        raise InputError(
            f"{_name(system)} has stages of training, which need windows; set InputSpec.window_frames to a "
            f"number of frames, or return no stages and train in fit_backend"
        )
    if type(system).forward is System.forward:
        raise InputError(
            f"{_name(system)} must define forward(self, batch, update, progress), because it has stages of "
            f"training"
        )
    for stage in stages:
        if stage.pseudo_labels and type(system).pseudo_labels is System.pseudo_labels:
            raise InputError(
                f"{_name(system)} must define pseudo_labels(self, batches), because its stage "
                f"{stage.name!r} has pseudo_labels=True"
            )


def check_same_names(system: System, first: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Raise :class:`InputError` unless two batches have components of the same names."""
    if first.keys() != other.keys():
        raise InputError(
            f"{_name(system)}.components returns the components {_listed(first)} for one batch and "
            f"{_listed(other)} for another; return the same components for every batch"
        )


def check_losses(system: System, update: str, losses: object) -> None:
    """Raise :class:`InputError` unless ``forward`` has returned :class:`~asdbench.system.Losses` that train.

    It compares types and shapes only, so that a GPU need not wait; see `check_finite` for the values.
    """
    where = f"{_name(system)}.forward"
    if not isinstance(losses, Losses):
        raise InputError(
            f"{where} returns {_kind(losses)} for update {update!r}; return Losses({{name: Mean(...)}})"
        )
    if not losses.parts:
        raise InputError(f"{where} returns Losses without parts for update {update!r}; return at least one")
    unknown = sorted(losses.weights.keys() - losses.parts.keys())
    if unknown:
        raise InputError(
            f"{where} weights the loss {unknown[0]!r}, which is not a part; the parts are "
            f"{_listed(losses.parts)}"
        )
    for name, mean in (*losses.parts.items(), *losses.monitors.items()):
        _check_mean(where, name, mean)
    if not any(mean.sum.requires_grad for mean in losses.parts.values()):
        raise InputError(
            f"{where} returns losses that depend on no parameter for update {update!r}; compute them without "
            f"detach(), item(), numpy() and no_grad()"
        )


def _check_mean(where: str, name: str, mean: object) -> None:
    if not isinstance(mean, Mean):
        raise InputError(f"{where} returns {_kind(mean)} as {name!r}; return Mean.from_values(values)")
    if not isinstance(mean.sum, Tensor) or mean.sum.dim() or not mean.sum.is_floating_point():
        raise InputError(
            f"{where} returns {_kind(mean.sum)} as the sum of {name!r}; return Mean.from_values(values) or a "
            f"floating-point tensor without dimensions"
        )
    if not isinstance(mean.count, int | Tensor) or (isinstance(mean.count, Tensor) and mean.count.dim()):
        raise InputError(
            f"{where} returns {_kind(mean.count)} as the count of {name!r}; return the number of terms"
        )


def check_finite(system: System, stage: str, losses: Mapping[str, float]) -> None:
    """Raise :class:`InputError` if one of the mean losses of a stage's first step is not finite."""
    for name, value in losses.items():
        if not math.isfinite(value):
            raise InputError(
                f"{_name(system)}.forward returns {value} as {name!r} in the first step of stage "
                f"{stage!r}; return a finite loss (look for divisions by 0 and logarithms of 0)"
            )


def _name(system: System | type[System]) -> str:
    return (system if isinstance(system, type) else type(system)).__name__


def _kind(value: object) -> str:
    """Return what a value is, for people."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and type {value.dtype}"
    kind = type(value)
    name = f"{kind.__module__}.{kind.__name__}".removeprefix("builtins.")
    return "None" if value is None else f"a value of type {name}"


def _listed(names: Mapping[str, object]) -> str:
    shown = ", ".join(map(repr, list(names)[:_NAMED]))
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
