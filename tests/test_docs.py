"""What the documentation names exists: modules, functions, files, links, commands and options."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from asdbench.cli.log import with_verbosity
from asdbench.cli.main import app

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
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
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


GUIDES = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which names options that are gone
COMMANDS = sorted(
    {line for page in GUIDES for line in re.findall(r"(?m)^asdbench .*$", page.read_text(encoding="utf-8"))}
)
# options in inline code that belong to ray, mypy and Slurm, and to sweeps/report_table2.py
OTHER_OPTIONS = {"--exclusive", "--gpus-per-node", "--nodes", "--node-ip-address", "--time", "--dry-run"}


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line.partition("#")[0].strip())
def test_the_commands_of_the_documentation_parse(line: str) -> None:
    _, *arguments = shlex.split(line, comments=True)
    app.parse_args(arguments, exit_on_error=False, print_error=False)


def commands(parent: App) -> Iterator[App]:
    for name in parent:
        if not name.startswith("-"):
            yield parent[name]
            yield from commands(parent[name])


def test_the_options_of_the_documentation_exist() -> None:
    arguments = [
        argument
        for command in (*commands(app), app["--install-completion"], with_verbosity(app))
        if command.default_command is not None
        for argument in command.assemble_argument_collection()
    ]
    known = {"--help"}.union(*(argument.names for argument in arguments))
    named = {
        (page.name, option)
        for page in GUIDES
        for code in re.findall(r"`((?:--|asdbench )[^`\n]+)`", page.read_text(encoding="utf-8"))
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)
    }
    assert len(named) > 20
    assert {(page, option) for page, option in named if option not in known | OTHER_OPTIONS} == set()


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_that_the_documentation_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    files = re.findall(r"`((?:[\w.]+/)+[\w.]+\.(?:py|md|yaml|sh|csv))`", text)
    folders = re.findall(r"`((?:[\w.]+/)+)`", text) if page.name == "README.md" else []
    for name in [*files, *folders]:
        assert (ROOT / name).exists() or (PACKAGE / name).exists(), name
