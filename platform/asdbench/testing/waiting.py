"""Finds calls for which a GPU's program waits, on any device.

A step whose kernels are in the queue before the first has run keeps a GPU busy. A call that reads a value, or
whose result has a shape that depends on values, waits for all kernels before it; so does a tensor that is
made from Python numbers. Custom operators are not looked into: what they do on a CPU says nothing.
"""

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from asdbench.errors import InputError

_STAY = "keep the value as a tensor and compute with it, or choose with torch.where"
_MASK = "multiply by the mask, choose with torch.where, or give the mask to Mean.from_values"
_MADE = "make it in the constructor and keep it in a buffer, or use torch.full"
_COUNT = "sum a comparison with torch.arange, or use index_add_"
_FUNCTIONS: dict[object, tuple[str, str]] = {
    Tensor.tolist: ("tolist()", _STAY),
    Tensor.numpy: ("numpy()", _STAY),
    Tensor.cpu: ("cpu()", _STAY),
    Tensor.new_tensor: ("new_tensor()", _MADE),
    torch.tensor: ("torch.tensor()", _MADE),
    torch.as_tensor: ("torch.as_tensor()", _MADE),
    torch.from_numpy: ("torch.from_numpy()", _MADE),
}
_OPERATORS = {
    "aten::_local_scalar_dense": ("item(), or float(), int() or bool() of a tensor,", _STAY),
    "aten::equal": ("torch.equal()", _STAY),
    "aten::nonzero": ("nonzero()", _MASK),
    "aten::masked_select": ("masked_select()", _MASK),
    "aten::_unique2": ("unique()", _COUNT),
    "aten::bincount": ("bincount()", _COUNT),
}
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


class WithoutWaiting:
    """Raises in the block at the first call that makes a GPU's program wait.

    Parameters
    ----------
    what : what runs in the block, for the message

    Raises
    ------
    InputError
        It makes such a call. The message names the call, its line, and what to call in its place.

    Examples
    --------
    >>> with WithoutWaiting("MySystem.forward"):
    ...     torch.ones(3).sum() + 1
    tensor(4.)
    >>> with WithoutWaiting("MySystem.forward"):  # doctest: +IGNORE_EXCEPTION_DETAIL
    ...     float(torch.ones(3).sum())
    Traceback (most recent call last):
    ...
    InputError: MySystem.forward calls item() ...
    """

    def __init__(self, what: str) -> None:
        self._modes = (_Functions(what), _Operators(what))

    def __enter__(self) -> None:
        for mode in self._modes:
            mode.__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)  # type: ignore[no-untyped-call]


class _Functions(TorchFunctionMode):
    """Looks at functions that copy without an operator of their own."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func in _FUNCTIONS:
            _refuse(self._what, *_FUNCTIONS[func])
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at operators, those of the backward pass too."""

    def __init__(self, what: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._what = what

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        if name in _OPERATORS:
            _refuse(self._what, *_OPERATORS[name])
        if name in _INDEXING and _has_mask(args[1]) and not (len(args) > 2 and args[2].numel() == 1):
            _refuse(self._what, "x[mask]", _MASK)
        if name == "aten::repeat_interleave" and (kwargs or {}).get("output_size") is None:
            _refuse(self._what, "repeat_interleave()", "give it output_size")
        with torch._C.DisableTorchFunction():
            return func(*args, **(kwargs or {}))


def _has_mask(indices: Sequence[Tensor | None]) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


def _refuse(what: str, call: str, cure: str) -> None:
    raise InputError(f"{what} calls {call} ({_line()}), for which a GPU waits; {cure}")


def _line() -> str:
    """Return the line of the call: the last one that is neither torch's nor this module's."""
    frames = traceback.extract_stack()
    folders = (str(Path(torch.__file__).parent), __file__)
    own = [frame for frame in frames if not frame.filename.startswith(folders)]
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}" if own else "in the backward pass"
