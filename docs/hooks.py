"""Hooks of MkDocs: they add the pages that are generated from the code, and draw diagrams and formulas.

In the navigation of ``mkdocs.yml``, a folder such as ``decisions/`` stands for all its pages.
"""

from pathlib import PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from sitegen.fences import format_diagram, format_formula
from sitegen.pages import generated_pages


def on_config(config: MkDocsConfig) -> None:
    """Set the fences that become diagrams and formulas."""
    fences = [
        {"name": "mermaid", "class": "diagram", "format": format_diagram},
        {"name": "math", "class": "formula", "format": format_formula},
    ]
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": fences}


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the generated pages, and list the pages of folders in the navigation."""
    for uri, text in generated_pages().items():
        files.append(File.generated(config, uri, content=text))
    config.nav = expanded(config.nav, sorted(file.src_uri for file in files.documentation_pages()))


def expanded(nav: Any, pages: list[str]) -> Any:
    """Return a navigation with each folder replaced by those of ``pages`` in it, its ``index.md`` excepted.

    >>> expanded(["a.md", {"B": "b/"}, {"C": ["c/"]}], ["b/1.md", "b/2.md", "c/3.md", "c/index.md"])
    ['a.md', {'B': ['b/1.md', 'b/2.md']}, {'C': ['c/3.md']}]
    """
    if isinstance(nav, dict):
        return {title: _section(entry, pages) for title, entry in nav.items()}
    if not isinstance(nav, list):
        return nav
    entries: list[Any] = []
    for entry in nav:
        entries += _inside(entry, pages) if _is_folder(entry) else [expanded(entry, pages)]
    return entries


def _section(entry: Any, pages: list[str]) -> Any:
    return _inside(entry, pages) if _is_folder(entry) else expanded(entry, pages)


def _is_folder(entry: Any) -> bool:
    return isinstance(entry, str) and entry.endswith("/")


def _inside(folder: str, pages: list[str]) -> list[str]:
    inside = [page for page in pages if PurePosixPath(page).parent == PurePosixPath(folder)]
    return [page for page in inside if not page.endswith("/index.md")]
