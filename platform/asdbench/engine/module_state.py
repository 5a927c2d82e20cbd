"""What the modules and classes of a system hold, so that it can be set back to what it was.

A fit that writes to a global variable or to its class, ``type(self).normal = ...``, scores in this process
only. Setting these values back for a moment shows how the system scores in a new process.
"""

import contextlib
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asdbench.system import System

_DEPTH = 4  # of containers and objects
_NOT_A_PLUGIN = ("asdbench", "torch", *sys.stdlib_module_names)
_MISSING: Any = object()

_Values = dict[int, tuple[str, Any, Any]]  # by id: name, value, copy of its content


class ModuleState:
    """The values of a system's modules and classes, and the contents of those that can change in place.

    The modules are all imported ones of the top-level package of the system's class and of its bases. Objects
    of the standard library other than containers, such as loggers and caches of functions, are not looked
    into.
    """

    def __init__(self, values: _Values) -> None:
        self._values = values

    @classmethod
    def of_system(cls, system: System) -> "ModuleState":
        """Return the present state of a system's modules and classes."""
        classes = {base for base in type(system).__mro__ if _package(base.__module__) not in _NOT_A_PLUGIN}
        packages = {_package(base.__module__) for base in classes}
        values: _Values = {}
        for name, module in list(sys.modules.items()):
            if module is not None and _package(name) in packages:
                _add(values, "", module, _DEPTH)
                classes |= {v for v in vars(module).values() if isinstance(v, type) and v.__module__ == name}
        for each in classes:
            _add(values, each.__qualname__.rpartition("<locals>.")[2] + ".", each, _DEPTH)
        return cls(values)

    def changed(self) -> dict[str, Any]:
        """Return by name what differs now, with its present value."""
        found: dict[str, Any] = {}
        for name, value, before in self._values.values():
            now = _content(value)
            if isinstance(now, dict):
                inside = "{}{}" if _is_namespace(value) else "{}[{!r}]"
                differing = {k: v for k, v in now.items() if before.get(k, _MISSING) is not v}
                found |= {inside.format(name, k): v for k, v in differing.items()}
                found |= dict.fromkeys((inside.format(name, k) for k in before.keys() - now.keys()), None)
            elif not _is_equal(before, now):
                found[name.rstrip(".")] = value
        return found

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Set everything back to this state, and afterward, unless there was an error, to what it was."""
        now = {key: (name, value, _content(value)) for key, (name, value, _) in self._values.items()}
        _restore(self._values)
        yield
        _restore(now)


def _package(module: str) -> str:
    return module.partition(".")[0]


def _add(values: _Values, name: str, value: Any, depth: int) -> None:
    """Add a value, and what it refers to, if it can change in place."""
    content = _content(value)
    if content is None or id(value) in values:
        return
    values[id(value)] = (name, value, content)
    if depth == 0 or isinstance(content, set | Tensor | np.ndarray):
        return
    is_root = isinstance(value, ModuleType | type)
    for key, inner in content.items() if isinstance(content, dict) else enumerate(content):
        if isinstance(inner, ModuleType | type):
            continue
        path = f"{name}{key}" if _is_namespace(value) else f"{name}[{key!r}]"
        ending = "." if _is_namespace(inner) else ""
        _add(values, path + ending, inner, depth if is_root else depth - 1)


def _is_namespace(value: Any) -> bool:
    """Whether a value consists of attributes that may change."""
    if isinstance(value, Tensor | np.ndarray | dict | list | set):
        return False
    if isinstance(value, ModuleType | type | FunctionType | SimpleNamespace):
        return True
    is_foreign = _package(type(value).__module__) in sys.stdlib_module_names
    return not is_foreign and isinstance(getattr(value, "__dict__", None), dict)


def _content(value: Any) -> Any:
    """Return a copy of what can change in place in a value; ``None`` if nothing can.

    Modules are left out: an import in a function may add one at any time.
    """
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict | list | set | np.ndarray):
        return value.copy()
    if not _is_namespace(value):
        return None
    return {k: v for k, v in vars(value).items() if not (k.startswith("__") or isinstance(v, ModuleType))}


def _is_equal(before: Any, now: Any) -> bool:
    if isinstance(now, Tensor):
        return before.dtype == now.dtype and torch.equal(before, now)
    if isinstance(now, np.ndarray):
        return bool(before.shape == now.shape) and before.tobytes() == now.tobytes()
    if isinstance(now, set):
        return bool(before == now)
    if len(before) != len(now):
        return False
    return all(a is b for a, b in zip(before, now, strict=True))


def _restore(values: _Values) -> None:
    """Give values the content that is noted; what has not changed is not touched."""
    for _, value, content in values.values():
        now = _content(value)
        if isinstance(content, dict):
            _restore_items(value, content, now)
        elif _is_equal(content, now):
            continue
        elif isinstance(value, Tensor):
            value.data = content.clone()
        elif isinstance(value, set):
            value.clear()
            value.update(content)
        else:
            value[:] = content


def _restore_items(value: Any, content: dict[Any, Any], now: dict[Any, Any]) -> None:
    """Give a dict, or the attributes of a module, class or object, what is noted."""
    items = value if isinstance(value, dict) else vars(value)
    is_class = isinstance(value, type)  # its attributes can only be set one by one
    for key in now.keys() - content.keys():
        if is_class:
            delattr(value, key)
        else:
            del items[key]
    for key, item in content.items():
        if now.get(key, _MISSING) is not item:
            if is_class:
                setattr(value, key, item)
            else:
                items[key] = item
