"""What the Makefile installs, with stand-ins for pip and for the driver of NVIDIA."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def stand_in(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout whose environment has no torch, and whose pip finds the CPU build of torch 2.13.0 only."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    stand_in(tmp_path / ".venv/bin/python", "exit 1")
    pip = f'echo "$*" >> {tmp_path}/pip.log; case "$*" in *2.13.0+cpu|*-e*) exit 0;; esac; exit 1'
    stand_in(tmp_path / ".venv/bin/pip", pip)
    return tmp_path


def installed(project: Path) -> list[str]:
    """Return what pip was told to install, in order."""
    tools = project / "tools"
    for name in ("sh", "make", "echo", "touch"):
        if not (tools / name).exists():
            tools.mkdir(exist_ok=True)
            (tools / name).symlink_to(str(shutil.which(name)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP", "UV"))}
    subprocess.run(
        ["make", ".venv/.installed"],
        cwd=project,
        env=environment | {"PATH": str(tools)},
        check=True,
        timeout=60,
    )
    return [line.split()[-1] for line in (project / "pip.log").read_text().splitlines()]


def test_without_a_gpu_torch_is_a_cpu_build_if_pip_finds_one(project: Path) -> None:
    *wanted, rest = installed(project)
    assert wanted == ["torch==2.15.0+cpu", "torch==2.14.1+cpu", "torch==2.13.0+cpu"]
    assert rest == "."


def test_no_cpu_build_is_no_error(project: Path) -> None:
    stand_in(project / ".venv/bin/pip", f'echo "$*" >> {project}/pip.log; case "$*" in *+cpu) exit 1;; esac')
    assert installed(project)[-1] == "."


def test_with_a_gpu_torch_is_the_usual_build(project: Path) -> None:
    stand_in(project / "tools/nvidia-smi", "exit 0")
    assert installed(project) == ["."]
