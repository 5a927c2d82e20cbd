"""Pages of the Python API: one per module or package whose names are public."""

import ast
import importlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path

import asdbench
from sitegen.markdown import as_markdown

_PACKAGES = ("asdbench.backends", "asdbench.testing")  # for systems and their tests


def api_pages() -> dict[str, str]:
    """Return the pages of all public names by their place in the site."""
    names: dict[str, list[str]] = {}
    for name, module in asdbench.MODULE_OF.items():
        package = ".".join(module.split(".")[:2])
        names.setdefault(package, []).append(f"asdbench.{name}")
    for package in _PACKAGES:
        names[package] = [f"{package}.{name}" for name in importlib.import_module(package).__all__]
    return {f"reference/api/{module}.md": api_page(module, public) for module, public in names.items()}


def api_page(module: str, names: Iterable[str]) -> str:
    """Return the page of a module: what it is for, then each of its public names."""
    parts = [f"# {module}", as_markdown(_docstring(module))]
    return "\n\n".join([*parts, *(f"::: {name}" for name in names)]) + "\n"


def _docstring(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
