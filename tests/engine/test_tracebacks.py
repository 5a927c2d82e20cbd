"""A traceback begins in the system's code."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from asdbench import registry
from asdbench.cluster.tasks import outcome_of
from asdbench.engine.events import Failure
from asdbench.engine.tracebacks import plugin_traceback, traceback_of

CODE = """
import torch
from torch import nn

from broken_plugin import inner


class Inner(nn.Module):
    def forward(self, values):
        return inner.scaled(values)


class Broken(nn.Module):
    def forward(self, values):
        return nn.Sequential(Inner())(values)


def chained(values):
    try:
        inner.scaled(values)
    except RuntimeError as error:
        raise ValueError("cannot scale") from error
"""
INNER = """
import torch


def scaled(values):
    return torch.zeros(3) @ values
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A plugin's package that fails in a function of its own."""
    folder = tmp_path / "broken_plugin"
    folder.mkdir()
    for name, code in (("__init__.py", ""), ("system.py", CODE), ("inner.py", INNER)):
        (folder / name).write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "plugin_modules", lambda: [folder])
    importlib.invalidate_caches()
    yield importlib.import_module("broken_plugin.system")
    for name in ("broken_plugin", "broken_plugin.system", "broken_plugin.inner"):
        sys.modules.pop(name, None)


def error_of(plugin: ModuleType, *, chained: bool = False) -> Exception:
    """Let the plugin fail as it does in the training loop: below frames of the platform and of torch."""
    try:
        plugin.chained(torch.zeros(2)) if chained else plugin.Broken()(torch.zeros(2))
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


def test_it_begins_in_the_plugin(plugin: ModuleType) -> None:
    lines = traceback_of(error_of(plugin)).splitlines()
    assert lines[:-1] == [
        "Traceback (most recent call last):",
        '  File "broken_plugin/system.py", line 15, in forward',
        "    return nn.Sequential(Inner())(values)",
        '  File "broken_plugin/system.py", line 10, in forward',
        "    return inner.scaled(values)",
        '  File "broken_plugin/inner.py", line 6, in scaled',
        "    return torch.zeros(3) @ values",
    ]
    assert lines[-1].startswith("RuntimeError: ")


def test_causes_begin_in_the_plugin_too(plugin: ModuleType) -> None:
    text = traceback_of(error_of(plugin, chained=True))
    assert text.count("Traceback (most recent call last):") == 2
    assert "test_tracebacks" not in text
    assert text.endswith("ValueError: cannot scale")


def test_an_error_of_the_platform_keeps_all_frames(plugin: ModuleType) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018
    assert plugin_traceback(caught.value) is None
    assert "test_tracebacks.py" in traceback_of(caught.value)


def test_hosts_with_the_code_in_other_folders_give_one_text(plugin: ModuleType, tmp_path: Path) -> None:
    """What a worker of a cluster sends is what this process would show, whatever folder its copy is in."""
    error = error_of(plugin)
    (failure,) = outcome_of([("fan broken seed 0", error)]).failures
    assert failure == Failure.from_error("fan broken seed 0", error)
    assert str(tmp_path) not in failure.message
    assert not failure.bad_input
