"""A check after each fit of a back end: its stored state, loaded again, must give the same scores.

What a system keeps outside its parameters and buffers is not in ``state_dict()``: the fitted system scores,
and the one that is loaded later fails or scores differently. One batch shows that before there is a result.
A model that is loaded later is so in another process: what the fit has kept in a module or a class is set
back for the check.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.module_state import ModuleState
from asdbench.engine.state import State, load_backend, load_trained
from asdbench.engine.system_output import checked_components
from asdbench.errors import InputError
from asdbench.system import ClipBatch, System

_TOLERANCE = 1e-4  # relative to the largest score; a GPU sums in another order each time
_OF_TORCH = frozenset(vars(nn.Module()))
_NAMED = 3
_DEPTH = 4  # of containers and objects that are compared


def check_fit(
    fitted: System,
    resolved: ResolvedJob,
    trained: State,
    backend: State,
    *,
    modules: ModuleState,
    device: torch.device,
) -> None:
    """Score one batch with a fitted system and with one that is built from what is stored of it.

    Parameters
    ----------
    fitted : the scoring system after `fit_backend`
    resolved : its job
    trained : the state after training
    backend : the state that the fit has added
    modules : the state of the system's modules before the fit; it stays restored if this raises an error
    device : where the system is

    Raises
    ------
    InputError
        The scores differ, or the state cannot be loaded; the message names what is not stored.
    """
    clips = resolved.clips
    ids = clips.test_ids if len(clips.test_ids) else clips.training_ids
    batch = next(iter(clips.scoring_batches(ids))).to(device)
    with torch.inference_mode():
        expected = _scores(fitted, batch)

    def check(explain: Callable[[System, str], str]) -> None:
        loaded = loaded_system(fitted, resolved, trained, backend).to(device).eval()
        why = _difference(loaded, batch, expected)
        if why is not None:
            raise InputError(explain(loaded, why))

    check(lambda loaded, why: _message(fitted, loaded, why))
    changed = modules.changed()
    if changed:
        with modules.restored():
            check(lambda loaded, why: _message_of_modules(fitted, changed, why))


def _difference(loaded: System, batch: ClipBatch, expected: Mapping[str, Tensor]) -> str | None:
    """Return how a loaded system scores a batch otherwise than expected; ``None`` if it does not."""
    try:
        with torch.inference_mode():
            actual = _scores(loaded, batch)
    except Exception as error:
        return f"cannot score ({error})"
    for name, values in expected.items():
        tolerance = _TOLERANCE * values.abs().max()
        n_far = int(((actual[name] - values).abs() > tolerance).sum()) if name in actual else batch.n_clips
        if n_far:
            return f"has another value of {name!r} for {n_far} of {batch.n_clips} clips"
    return None


def _scores(system: System, batch: ClipBatch) -> dict[str, Tensor]:
    return checked_components(system, "components", system.components(batch), batch.n_clips)


def loaded_system(fitted: System, resolved: ResolvedJob, trained: State, backend: State) -> System:
    """Return a new scoring system with the stored state, as :func:`~asdbench.engine.state.restored` does."""
    name = type(fitted).__name__
    system = resolved.build_trained(fitted.facts)
    load_trained(system, trained)
    loaded = resolved.build_scorer(system)
    changed = sorted(backend.keys() & dict(loaded.named_parameters()).keys())
    if changed:
        raise InputError(
            f"{name}.fit_backend changes the parameter {changed[0]!r}, which only training may change; keep "
            f"what is fitted in a buffer"
        )
    new = [part for part, _ in fitted.named_modules() if part not in dict(loaded.named_modules())]
    if new:
        raise InputError(
            f"{name}.fit_backend creates the module {new[0]!r}, which a loaded model lacks; create it in "
            f"{name}.__init__"
        )
    load_backend(loaded, backend)
    return loaded


def _message(fitted: System, loaded: System, why: str) -> str:
    name = type(fitted).__name__
    # tensors first: what else differs may only refer to them
    lost = dict(sorted(_lost(fitted, loaded), key=lambda item: not isinstance(item[1], Tensor)))
    if not lost:
        return (
            f"{name}: a model that is stored and loaded {why}; components must depend on parameters, buffers "
            f"and the batch only, and draw no random numbers"
        )
    listed = ", ".join(map(repr, list(lost)[:_NAMED]))
    first, value = next(iter(lost.items()))
    owner, _, attribute = first.rpartition(".")
    turned = "" if isinstance(value, Tensor) else "turn it into tensors and "
    return (
        f"{name} keeps {listed} outside its parameters and buffers, so a model that is stored and loaded "
        f"{why}; {turned}keep it in a buffer: "
        f"{'.'.join(filter(None, ['self', owner]))}.register_buffer({attribute!r}, values)"
    )


def _message_of_modules(fitted: System, changed: Mapping[str, object], why: str) -> str:
    """Return the message about values of modules and classes, which another process does not have."""
    # tensors first: what else has changed may be without effect
    names = sorted(changed, key=lambda name: not isinstance(changed[name], Tensor))
    return (
        f"{type(fitted).__name__} keeps {', '.join(names[:_NAMED])} in its module or class rather than in "
        f"its parameters and buffers, so a model that is stored and loaded in another process {why}; turn it "
        f"into tensors and keep it in a buffer: self.register_buffer('fitted', values)"
    )


def _lost(fitted: System, loaded: System) -> Iterator[tuple[str, object]]:
    """Yield by name what differs in a loaded system: attributes, and buffers that are not persistent."""
    parts = dict(loaded.named_modules())
    for path, module in fitted.named_modules():
        other = vars(parts[path])
        own = {name: value for name, value in vars(module).items() if name not in _OF_TORCH}
        own |= {name: module._buffers[name] for name in module._non_persistent_buffers_set}
        others = other | other["_buffers"]
        for name, value in own.items():
            if name not in others or not _same(value, others[name]):
                yield f"{path}.{name}".lstrip("."), value


def _same(one: object, other: object, depth: int = _DEPTH) -> bool:
    """Whether two values are equal; objects that are nested too deeply to compare count as equal."""
    if type(one) is not type(other):
        return False
    if depth == 0:
        return True
    if isinstance(one, Tensor | np.ndarray):
        return np.array_equal(
            np.asarray(torch.as_tensor(one).cpu()), np.asarray(torch.as_tensor(other).cpu())
        )
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(v, other[k], depth - 1) for k, v in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(
            _same(*pair, depth=depth - 1) for pair in zip(one, other, strict=True)
        )
    if isinstance(one, nn.Module) or not hasattr(one, "__dict__"):
        return isinstance(one, nn.Module) or bool(one == other)
    return _same(vars(one), vars(other), depth - 1)
