"""The walls between rooms: the import contracts, and what no import contract can express."""

import ast
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import asdbench
import systems

ROOT = Path(__file__).parent.parent
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


def test_every_folder_with_modules_is_a_package_that_the_contracts_see() -> None:
    folders = {file.parent for file in below(PLATFORM)}
    assert len(folders) > 12
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


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


@pytest.mark.parametrize("file", below(PLATFORM), ids=lambda file: file.relative_to(PLATFORM).as_posix())
def test_the_environment_is_written_for_other_packages_only(file: Path) -> None:
    code = ast.parse(file.read_text(encoding="utf-8"))
    writes = environment_writes(code)
    if file.relative_to(PLATFORM).as_posix() in ("tracking/mlflow_runs.py", "cluster/data_parallel.py"):
        # of MLFLOW_ and RAY_ names
        writes = [line for line in writes if line != "os.environ.setdefault(name, value)"]
    assert not writes


@pytest.mark.parametrize("file", below(PLATFORM), ids=lambda file: file.relative_to(PLATFORM).as_posix())
def test_the_workspace_alone_reads_the_platforms_variables(file: Path) -> None:
    code = ast.parse(file.read_text(encoding="utf-8"))
    names = {
        node.value
        for node in ast.walk(code)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith("ASDBENCH_")
    }
    names = {name for name in names if name.replace("_", "").isalpha()}
    expected = {"ASDBENCH_HOME", "ASDBENCH_STORAGE", "ASDBENCH_CACHE"}
    assert names == (expected if file == PLATFORM / "io" / "workspace.py" else set())
