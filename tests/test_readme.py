"""The README's plugin runs and has types; its commands exist."""

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.driver.scaffold import write_system
from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job
from asdbench.io.workspace import Workspace
from asdbench.registry import SystemSource
from asdbench.testing import write_tiny
from asdbench.testing.conformance import run_job
from tests.plugins import install, run_suite

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REVEALED = """
def reveal(system: MySystem, batch: ClipBatch) -> None:
    reveal_type(system.config.n_mels)
    reveal_type(batch.n_clips)
    reveal_type(system.components(batch))
    reveal_type(MySystem.input_spec)
    reveal_type(system.forward)
"""
TYPES = [
    "int",
    "int",
    "dict[str, torch._tensor.Tensor]",
    "def (config: my_system.Config) -> asdbench.system.InputSpec",
    "def (batch: asdbench.system.ClipBatch, update: str, progress: torch._tensor.Tensor) "
    "-> asdbench.system.Losses",
]


def plugin() -> str:
    """Return the code of the README's plugin."""
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    return str(code)


def test_the_system_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_system.py").write_text(plugin())
    monkeypatch.syspath_prepend(str(tmp_path))
    sources = {"my-system": [SystemSource("my_system", None, "systems/my_system.py")]}
    monkeypatch.setattr(registry, "_sources", lambda: sources)
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    catalog.add(Workspace.from_environment(), "tiny", write_tiny(tmp_path / "recordings"))
    done = run_job(
        Job("my-system", {"n_mels": 32}, "tiny", "fan", 0),
        Workspace.from_environment(),
        JobStore.from_workspace(Workspace.from_environment()),
    )
    result = evaluate(done.resolved, done.store)
    assert result.record.sections["00"].official["auc_source"] > 0.5


def test_the_system_of_the_readme_passes_the_conformance_suite(tmp_path: Path) -> None:
    (tmp_path / "my_system.py").write_text(plugin())
    install(tmp_path, "my-system", "my_system:MySystem")
    (tmp_path / "test_my_system.py").write_text(
        "from asdbench.testing import SystemConformance\n\n\n"
        'class TestMySystem(SystemConformance):\n    system = "my-system"\n'
    )
    code, output = run_suite(tmp_path, "test_my_system.py", tmp_path)
    assert code == 0, output
    [passed] = re.findall(r"^(\d+) passed", output, flags=re.MULTILINE)
    assert int(passed) >= 11


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fresh virtual environment that holds what the wheel holds, beside this one's libraries."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for package in wheel["packages"]:
        shutil.copytree(ROOT / package, packages / Path(package).name)
    (packages / "libraries.pth").write_text(sysconfig.get_paths()["purelib"])
    return folder


def type_check(environment: Path, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run mypy --strict on code as the author of a plugin does, outside this repository."""
    (folder / "my_system.py").write_text(code)
    python = [
        "--python-executable",
        str(environment / "bin/python"),
        "--cache-dir",
        str(environment / "cache"),
    ]
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", *python, "my_system.py"],
        cwd=folder, env={"PATH": ""}, capture_output=True, text=True,
    )  # fmt: skip


def test_the_system_of_the_readme_passes_mypy_strict(environment: Path, tmp_path: Path) -> None:
    checked = type_check(environment, tmp_path, plugin() + REVEALED)
    assert re.findall(r'Revealed type is "(.*)"', checked.stdout) == TYPES
    assert "Success: no issues found in 1 source file" in checked.stdout


def test_a_new_system_passes_mypy_strict(environment: Path, tmp_path: Path) -> None:
    new = write_system("new-detector", package=True, output=tmp_path / "new")
    checked = type_check(environment, tmp_path, (new.folder / new.system).read_text())
    assert "Success: no issues found in 1 source file" in checked.stdout, checked.stdout


def test_mypy_finds_mistakes_in_a_plugin(environment: Path, tmp_path: Path) -> None:
    """The plugin would also pass if mypy took everything of asdbench for Any."""
    wrong = plugin().replace("MelSpec(n_mels=", "MelSpec(mels=").replace("config.n_mels", "config.n_mel")
    checked = type_check(
        environment, tmp_path, wrong.replace("import BatchPlan", "import BatchPlam, BatchPlan")
    )
    assert 'Unexpected keyword argument "mels" for "MelSpec"' in checked.stdout
    assert '"Config" has no attribute "n_mel"' in checked.stdout
    assert 'Module "asdbench" has no attribute "BatchPlam"' in checked.stdout


def test_the_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
