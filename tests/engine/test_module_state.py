"""What changes in a system's module or class is named and can be set back."""

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from asdbench.engine.module_state import ModuleState
from asdbench.system import System

_NUMBER = 1
_BY_NAME: dict[str, Any] = {"inner": {}}
_LIST = [1]
_SET = {1}
_TENSOR = torch.zeros(2)
_ARRAY = np.zeros(2)
_OBJECT = SimpleNamespace(mean=None)
_LOGGER = logging.getLogger(__name__)


class Mine(System[Any]):
    """A system with an attribute of its class."""

    shared: Any = None


def write_number() -> None:
    global _NUMBER
    _NUMBER = 2000


def write_tensor() -> None:
    _TENSOR.add_(1)


def write_array() -> None:
    _ARRAY[0] = 1


def values() -> str:
    return repr(
        (_NUMBER, _BY_NAME, _LIST, _SET, _TENSOR, _ARRAY, _OBJECT, Mine.shared, hasattr(Mine, "added"))
    )


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_number, "_NUMBER"),
        (lambda: _BY_NAME.update(n=1), "_BY_NAME['n']"),
        (lambda: _BY_NAME.pop("inner"), "_BY_NAME['inner']"),
        (lambda: _BY_NAME["inner"].update(n=1), "_BY_NAME['inner']['n']"),
        (lambda: _LIST.append(2), "_LIST"),
        (lambda: _SET.add(2), "_SET"),
        (write_tensor, "_TENSOR"),
        (write_array, "_ARRAY"),
        (lambda: setattr(_OBJECT, "mean", 1), "_OBJECT.mean"),
        (lambda: setattr(Mine, "shared", 1), "Mine.shared"),
        (lambda: setattr(Mine, "added", 1), "Mine.added"),
    ],
)
def test_a_change_is_named_and_can_be_set_back(write: Any, name: str) -> None:
    before, state = values(), ModuleState.of_system(Mine(None, None))  # type: ignore[arg-type]
    write()
    after = values()
    assert after != before
    assert list(state.changed()) == [name]
    with state.restored():
        assert values() == before
    assert values() == after
    with pytest.raises(RuntimeError), state.restored():
        raise RuntimeError
    assert values() == before
    assert not state.changed()


def test_a_logger_and_an_import_are_no_change() -> None:
    state = ModuleState.of_system(Mine(None, None))  # type: ignore[arg-type]
    _LOGGER.setLevel(logging.ERROR)
    globals()["imported"] = np
    assert not state.changed()
    del globals()["imported"]
