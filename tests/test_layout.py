"""Walls of the house that no linter of imports sees."""

import ast
import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

import asdbench
import systems

PLATFORM = Path(asdbench.__file__).parent
SYSTEMS = Path(systems.__file__).parent
ALLOWED_TRUTH = ("data/sets/catalog.py", "data/sets/clips.py", "engine/")


def imports(file: Path) -> set[str]:
    """Return the modules, and the names within them, that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*.py"))


def test_python_finds_its_own_module_platform() -> None:
    assert not (PLATFORM.parent / "__init__.py").exists()
    assert not [file for file in PLATFORM.parent.iterdir() if file.suffix == ".py"]
    import platform

    assert platform.python_version() == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize("file", below(PLATFORM), ids=lambda file: file.relative_to(PLATFORM).as_posix())
def test_the_platform_imports_no_system(file: Path) -> None:
    assert not [name for name in imports(file) if name.partition(".")[0] == "systems"]
    code = ast.parse(file.read_text(encoding="utf-8"))
    documented = {
        node.body[0].value.value
        for node in ast.walk(code)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and ast.get_docstring(node) is not None
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    texts = {
        n.value for n in ast.walk(code) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    } - documented
    stems = {f.stem for f in SYSTEMS.glob("*.py") if not f.name.startswith("_")}
    names = {name for stem in stems for name in (stem, stem.replace("_", "-"))} - {"ensemble", "adversarial"}
    assert not {text for text in texts if any(name in text for name in names)}


@pytest.mark.parametrize("file", below(PLATFORM), ids=lambda file: file.relative_to(PLATFORM).as_posix())
def test_few_read_the_truth(file: Path) -> None:
    place = file.relative_to(PLATFORM).as_posix()
    reads = imports(file) & {"asdbench.data.sets.truth", "asdbench.data.sets.catalog.truth"}
    assert not reads or place.startswith(ALLOWED_TRUTH)


@pytest.mark.parametrize("file", below(SYSTEMS), ids=lambda file: file.name)
def test_a_system_sees_layers_and_features_only(file: Path) -> None:
    allowed = ("config", "errors", "system", "spec", "nn", "features", "backends")
    rooms = {name.split(".")[1] for name in imports(file) if name.startswith("asdbench.")}
    assert rooms <= set(allowed)
    assert not imports(file) & {"ray", "mlflow", "optuna", "asdbench"}


def test_every_module_says_what_it_is() -> None:
    for package in (asdbench, systems):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            file = importlib.util.find_spec(module.name)
            assert file is not None
            assert file.origin is not None
            assert ast.get_docstring(ast.parse(Path(file.origin).read_text(encoding="utf-8"))), module.name
