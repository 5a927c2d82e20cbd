"""The walls between rooms: the import contracts, and what no import contract can express."""

import ast
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

import asdbench
import systems

ROOT = Path(__file__).parent.parent
PLATFORM = Path(asdbench.__file__).parent
SYSTEMS = Path(systems.__file__).parent
ALLOWED_TRUTH = ("data/sets/catalog.py", "data/sets/clips.py", "engine/")


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def places(files: Iterable[Path]) -> list[str]:
    """Return modules of the platform as their paths in it."""
    return [file.relative_to(PLATFORM).as_posix() for file in files]


def imports(file: Path) -> set[str]:
    """Return the modules, and the names within them, that a file imports."""
    found = set()
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*.py"))


def test_every_folder_with_modules_is_a_package_that_the_contracts_see() -> None:
    folders = {file.parent for file in below(PLATFORM)}
    assert len(folders) > 12
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_python_finds_its_own_module_platform() -> None:
    assert not (PLATFORM.parent / "__init__.py").exists()
    assert not [file for file in PLATFORM.parent.iterdir() if file.suffix == ".py"]
    import platform

    assert platform.python_version() == ".".join(map(str, sys.version_info[:3]))


def test_the_platform_imports_no_system() -> None:
    importing = [f for f in below(PLATFORM) if {name.partition(".")[0] for name in imports(f)} & {"systems"}]
    assert places(importing) == []


def test_the_platform_names_no_system() -> None:
    stems = {f.stem for f in SYSTEMS.glob("*.py") if not f.name.startswith("_")}
    names = {name for stem in stems for name in (stem, stem.replace("_", "-"))} - {"ensemble", "adversarial"}
    naming = [f for f in below(PLATFORM) if any(name in text for text in texts(f) for name in names)]
    assert places(naming) == []


def texts(file: Path) -> set[str]:
    """Return the strings of a module but its docstrings."""
    code = parsed(file)
    documented = {
        node.body[0].value.value
        for node in ast.walk(code)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and ast.get_docstring(node) is not None
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    constants = (node.value for node in ast.walk(code) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str)} - documented


def test_few_read_the_truth() -> None:
    truth = {"asdbench.data.sets.truth", "asdbench.data.sets.catalog.truth"}
    reading = places(file for file in below(PLATFORM) if imports(file) & truth)
    assert [place for place in reading if not place.startswith(ALLOWED_TRUTH)] == []


@pytest.fixture
def copied_tree(tmp_path: Path) -> Path:
    """Return a copy of the source tree."""
    for folder in ("platform", "systems"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken_contracts(tree: Path) -> set[str]:
    """Return the names of the import contracts that a source tree breaks."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tree,
        env={"PYTHONPATH": f"{tree / 'platform'}:{tree}", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    broken = set(re.findall(r"^(.*) BROKEN", done.stdout, flags=re.MULTILINE))
    assert done.returncode == bool(broken), done.stdout + done.stderr
    return broken


def test_the_walls_stand(copied_tree: Path) -> None:
    assert broken_contracts(copied_tree) == set()


@pytest.mark.parametrize(
    ("module", "code", "contracts"),
    [
        (
            "platform/asdbench/stray.py",
            "import ray",
            {"rooms import downwards only", "only cluster imports ray"},
        ),
        ("platform/asdbench/report/stray.py", "import mlflow", {"only tracking imports mlflow"}),
        (
            "platform/asdbench/engine/stray.py",
            "def late():\n    import ray.tune",
            {"only cluster imports ray"},
        ),
        (
            "systems/stray.py",
            "from asdbench.data.sets.truth import load_truth",
            {"systems see features, layers and back ends; never labels, stores, clusters or tracking"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.endswith(".py") else "",
)
def test_a_stray_module_breaks_a_wall(copied_tree: Path, module: str, code: str, contracts: set[str]) -> None:
    (copied_tree / module).write_text(f'"""A stray module."""\n\n{code}\n')
    assert broken_contracts(copied_tree) == contracts


def test_every_module_says_what_it_is() -> None:
    for package in (asdbench, systems):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            file = importlib.util.find_spec(module.name)
            assert file is not None
            assert file.origin is not None
            assert ast.get_docstring(ast.parse(Path(file.origin).read_text(encoding="utf-8"))), module.name


SET_FOR_LIBRARIES = ("RAY_", "TUNE_", "MLFLOW_")  # defaults of other packages, set before these are imported


def environment_writes(code: ast.Module) -> list[str]:
    """Return the statements of a module that change the environment, but for defaults of other packages."""
    written = []
    for node in ast.walk(code):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.Delete):
            targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
            changes = any(ast.unparse(target).startswith(("os.environ", "environ")) for target in targets)
        elif isinstance(node, ast.Call):
            called, first = ast.unparse(node.func), ast.unparse(node.args[0]) if node.args else ""
            changes = called in ("os.putenv", "os.unsetenv") or (
                called.startswith(("os.environ.", "environ."))
                and called.rpartition(".")[2] not in ("get", "copy", "items", "keys", "values")
                and not (called.endswith(".setdefault") and first.strip("'").startswith(SET_FOR_LIBRARIES))
            )
        else:
            continue
        written += [ast.unparse(node)] if changes else []
    return written


@pytest.mark.parametrize(
    "line",
    [
        "os.environ['ASDBENCH_HOME'] = 'x'",
        "os.environ |= {'ASDBENCH_HOME': 'x'}",
        "os.environ.update(ASDBENCH_HOME='x')",
        "os.environ.setdefault('ASDBENCH_HOME', 'x')",
        "del os.environ['ASDBENCH_HOME']",
        "os.putenv('ASDBENCH_HOME', 'x')",
    ],
)
def test_a_write_to_the_environment_is_recognized(line: str) -> None:
    assert environment_writes(ast.parse(line)) == [line]
    assert not environment_writes(ast.parse("os.environ.setdefault('RAY_X', '0')\nos.environ.get('HOME')"))


def test_the_environment_is_written_for_other_packages_only() -> None:
    writes = {
        (place, line)
        for f in below(PLATFORM)
        for place in places([f])
        for line in environment_writes(parsed(f))
    }
    of_known_names = "os.environ.setdefault(name, value)"  # of MLFLOW_ and RAY_ names
    assert writes == {(f, of_known_names) for f in ("tracking/mlflow_runs.py", "cluster/data_parallel.py")}


def test_the_workspace_alone_reads_the_platforms_variables() -> None:
    name = re.compile("ASDBENCH_[A-Z]+")
    read = {file: {text for text in texts(file) if name.fullmatch(text)} for file in below(PLATFORM)}
    expected = {"ASDBENCH_HOME", "ASDBENCH_STORAGE", "ASDBENCH_CACHE"}
    assert {file: names for file, names in read.items() if names} == {PLATFORM / "io/workspace.py": expected}
