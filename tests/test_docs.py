"""What the documentation names exists: modules, functions, files and links."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "platform" / "asdbench"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "README.md"])
NAMED = re.findall(r"`([\w/]+\.py):([\w.]+)`", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("module", "name"), sorted(set(NAMED)), ids=lambda part: part)
def test_the_architecture_names_functions_that_exist(module: str, name: str) -> None:
    scope: ast.AST = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    for part in name.split("."):
        defined = {
            node.name: node
            for node in ast.iter_child_nodes(scope)
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        assert part in defined, f"{module} defines no {name}"
        scope = defined[part]


def test_the_map_lists_every_package() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    packages = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    assert len(packages) > 10
    for package in packages:
        assert f'{package}["{package}: ' in text, f"the map has no {package}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
