"""The page on adding a system leads from nothing to the leaderboard: its commands run, its code works."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/adding_a_system.md").read_text(encoding="utf-8")
WALK = PAGE.partition("## From nothing to the leaderboard\n")[2].partition("\n## ")[0]
TEMPLATES = ROOT / "platform/asdbench/driver/scaffold_templates"


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the language and the content of each code block."""
    return re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)


def replace_method(file: Path, code: str) -> None:
    """Replace the method of the name that ``code`` defines, as the page asks its reader to do."""
    (name,) = re.findall(r"^    def (\w+)", code, flags=re.MULTILINE)
    lines = file.read_text().splitlines(keepends=True)
    [old] = [
        node
        for node in ast.walk(ast.parse("".join(lines)))
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    assert old.end_lineno is not None
    lines[old.lineno - 1 : old.end_lineno] = [code]
    file.write_text("".join(lines))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of asdbench without tests."""
    folder = tmp_path / "checkout"
    for name in ("platform", "systems"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture
def environment(tmp_path: Path, checkout: Path) -> dict[str, str]:
    """The variables of a shell in which that checkout is installed."""
    (tmp_path / "bin").mkdir()
    for name, arguments in (("asdbench", "-m asdbench"), ("python", "")):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": f"{checkout / 'platform'}:{checkout}",
        "ASDBENCH_HOME": str(tmp_path / "home"),
        "COLUMNS": "120",
    }


@pytest.mark.cluster  # several processes
def test_the_walk_leads_to_the_leaderboard(checkout: Path, environment: dict[str, str]) -> None:
    outputs = []
    for language, code in blocks(WALK):
        if language == "python":
            replace_method(checkout / "systems/my_detector.py", code)
            continue
        small = code.replace("asdbench data demo\n", "asdbench data demo --clips-per-type 40\n")
        done = subprocess.run(
            ["bash", "-e", "-c", small], cwd=checkout, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        outputs.append(done.stdout)
    rows = re.findall(r"my-detector .*?(fan|valve)?.*\d+\.\d\d", outputs[-1])
    assert len(rows) >= 2, outputs[-1]
    assert "@misc{my_detector," in outputs[-1]
    assert re.search(r"\b\d+ passed", outputs[-1])


def test_the_page_shows_the_pyproject_that_a_package_gets() -> None:
    [shown] = [code for language, code in blocks(PAGE) if language == "toml"]
    assert shown == (TEMPLATES / "pyproject.toml.txt").read_text(encoding="utf-8")


def test_the_page_has_every_field_of_a_batch() -> None:
    from asdbench.system import ClipBatch

    table = PAGE.partition("| field of `ClipBatch` |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == list(ClipBatch.__dataclass_fields__)
