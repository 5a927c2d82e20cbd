"""`import asdbench` offers the names of a plugin, imports each on first access and takes almost no time."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import asdbench
from asdbench.system import System

HEAVY = ("torch", "numpy", "scipy", "sklearn", "polars", "pyarrow", "ray", "mlflow", "optuna", "torchaudio")


def fresh_process(code: str) -> str:
    """Return the output of code in a new interpreter that has only this one's import path."""
    path = f"import sys; sys.path[:] = {sys.path!r}; "
    done = subprocess.run(
        [sys.executable, "-S", "-c", path + code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_every_public_name_is_the_object_of_its_module() -> None:
    for name, module in asdbench.MODULE_OF.items():
        assert getattr(asdbench, name) is getattr(importlib.import_module(module), name)
    assert asdbench.System is System
    assert set(asdbench.MODULE_OF) | set(asdbench.__all__) <= set(dir(asdbench))


def test_a_star_takes_the_names_for_systems_only() -> None:
    api = {name for name, module in asdbench.MODULE_OF.items() if module.startswith("asdbench.api.")}
    assert {"run", "leaderboard", "scores"} <= api
    assert set(asdbench.__all__) == {*asdbench.MODULE_OF, "__version__"} - api - {"InfrastructureError"}


def test_type_checkers_see_the_names_that_are_imported_lazily() -> None:
    tree = ast.parse(Path(asdbench.__file__).read_text(encoding="utf-8"))
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    declared = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared == asdbench.MODULE_OF


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'asdbench' has no attribute 'Sytem'"):
        asdbench.Sytem  # type: ignore[attr-defined]  # noqa: B018


def test_importing_it_imports_no_library() -> None:
    code = f"import asdbench; print([name for name in {HEAVY} if name in sys.modules])"
    assert fresh_process(code) == "[]"


def test_settings_and_specs_come_without_torch() -> None:
    names = "asdbench.tunable, asdbench.Range, asdbench.MelSpec, asdbench.InputError"
    assert fresh_process(f"import asdbench; {names}; print('torch' in sys.modules)") == "False"


def test_importing_it_takes_less_than_a_tenth_of_a_second() -> None:
    """Take the processor time of the quickest of five imports, which other processes hardly affect."""
    code = "import time; t = time.process_time(); import asdbench; print(time.process_time() - t)"
    assert min(float(fresh_process(code)) for _ in range(5)) < 0.1
