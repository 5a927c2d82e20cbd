"""The code of modules: which modules it imports, and a hash that follows what they compute.

Code is read as syntax trees.
"""

import ast
import hashlib
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import asdbench

_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def hash_of(first: str, rooms: Sequence[str]) -> str:
    """Return a hash of the syntax trees of `code_of`, without docstrings."""
    digest = hashlib.blake2b(digest_size=16)
    for module, tree in code_of(first, rooms):
        for node in ast.walk(tree):
            if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        digest.update(module.encode() + b"\0" + ast.dump(tree).encode() + b"\0")
    return digest.hexdigest()


def code_of(first: str, rooms: Sequence[str]) -> Iterator[tuple[str, ast.Module]]:
    """Yield a module and those in ``rooms`` that it imports, directly or not, each with its syntax tree.

    Importing a module runs the ``__init__.py`` of the packages that hold it, so these count as imported.
    """
    todo, seen = [first], set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        tree = ast.parse(_source_text(module))
        todo += sorted(imported(tree, package_of(module), rooms))
        package = module.rpartition(".")[0]
        todo += [package] if is_within(package, rooms) else []
        yield module, tree


def package_of(module: str) -> str:
    """Return the package that a module's relative imports start from."""
    return importlib.import_module(module).__package__ or ""


def _source_text(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ""
    return Path(spec.origin).read_text(encoding="utf-8")


def imported(tree: ast.AST, package: str, rooms: Sequence[str]) -> set[str]:
    """Return the modules in ``rooms`` that the code of a module of ``package`` imports.

    A public name of ``asdbench`` counts as an import of the module that defines it.
    """
    modules = _attributes_of_asdbench(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names = asdbench.__all__ if origin == "asdbench" and node.names[0].name == "*" else ()
            for name in names or [alias.name for alias in node.names]:
                public = asdbench.MODULE_OF.get(name) if origin == "asdbench" else None
                inner = f"{origin}.{name}"
                modules.add(public or (inner if _is_module(inner) else origin))
    return {name for name in modules if is_within(name, rooms)}


def _attributes_of_asdbench(tree: ast.AST) -> set[str]:
    """Return the modules that code reaches as attributes of an imported ``asdbench``."""
    aliases = {
        alias.asname or "asdbench"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "asdbench" or (alias.name.startswith("asdbench.") and not alias.asname)
    }
    reached = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases
    }
    modules = {asdbench.MODULE_OF.get(name, f"asdbench.{name}") for name in reached}
    return {module for module in modules if _is_module(module)}


def is_within(name: str, rooms: Sequence[str]) -> bool:
    """Return whether a module is one of ``rooms`` or inside one.

    >>> is_within("asdbench.nn.lora", ["asdbench.nn"]), is_within("asdbench.nnn", ["asdbench.nn"])
    (True, False)
    """
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
