"""The code of modules: which modules it imports, and a hash that follows what they compute.

Code is read as syntax trees, from files: no module of ``asdbench`` is imported for it. What computes nothing
does not count: comments, layout, docstrings, what an exception says, and calls of ``logger``.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import asdbench

_PLATFORM = Path(asdbench.__file__).parent
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Code:
    """What the source of a module says.

    Attributes
    ----------
    digest : hash of its syntax tree without docstrings, arguments of exceptions and calls of ``logger``
    imports : modules of ``import`` statements
    imports_from : level, module and names of ``from`` statements
    reached : what it reaches as attributes of an imported ``asdbench``
    """

    digest: str
    imports: tuple[str, ...]
    imports_from: tuple[tuple[int, str, tuple[str, ...]], ...]
    reached: tuple[str, ...]


def hash_of(first: str, rooms: Sequence[str], *, without: Sequence[str] = ()) -> str:
    """Return a hash of what the modules of `code_of` compute."""
    digest = hashlib.blake2b(digest_size=16)
    for module, code in code_of(first, rooms, without=without):
        digest.update(f"{module}\0{code.digest}\0".encode())
    return digest.hexdigest()


def code_of(first: str, rooms: Sequence[str], *, without: Sequence[str] = ()) -> Iterator[tuple[str, Code]]:
    """Yield a module and those in ``rooms`` that it imports, directly or not, each with its code.

    Importing a module runs the ``__init__.py`` of the packages that hold it, so these count as imported. What
    is in ``without`` does not count, nor does what only such modules import.
    """
    todo, seen = [first], set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        code = read_code(_source_text(module))
        package = module.rpartition(".")[0]
        further = imported(code, package_of(module), rooms) | (
            {package} if is_within(package, rooms) else set()
        )
        todo += sorted(name for name in further if not is_within(name, without))
        yield module, code


def package_of(module: str) -> str:
    """Return the package that a module's relative imports start from.

    >>> package_of("asdbench.nn.encoders"), package_of("asdbench.nn.pooling")
    ('asdbench.nn.encoders', 'asdbench.nn')
    """
    file = _file_of(module)
    return module if file is not None and file.name == "__init__.py" else module.rpartition(".")[0]


def _source_text(module: str) -> str:
    file = _file_of(module)
    return "" if file is None else file.read_text(encoding="utf-8")


def _file_of(module: str) -> Path | None:
    """Return the source file of a module; ``None`` if there is none."""
    if is_within(module, ("asdbench",)):
        path = _PLATFORM.joinpath(*module.split(".")[1:])
        return next(
            (file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None
        )
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    is_source = spec is not None and spec.origin is not None and spec.origin.endswith(".py")
    return Path(spec.origin) if is_source else None  # type: ignore[union-attr, arg-type]


@lru_cache(maxsize=1024)
def read_code(text: str) -> Code:
    """Return what a source text says.

    >>> read_code("import torch  # for speed").digest == read_code("import torch").digest
    True
    """
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    imports = tuple(alias for node in nodes if isinstance(node, ast.Import) for alias in node.names)
    aliases = {
        alias.asname or "asdbench"
        for alias in imports
        if alias.name == "asdbench" or (alias.name.startswith("asdbench.") and not alias.asname)
    }
    return Code(
        digest=_digest(tree, nodes),
        imports=tuple(alias.name for alias in imports),
        imports_from=tuple(
            (node.level, node.module or "", tuple(alias.name for alias in node.names))
            for node in nodes
            if isinstance(node, ast.ImportFrom)
        ),
        reached=tuple(
            node.attr
            for node in nodes
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in aliases
        ),
    )


def _digest(tree: ast.Module, nodes: Sequence[ast.AST]) -> str:
    for node in nodes:
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
    parts: list[str] = []
    _write(tree, parts)
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _write(value: object, parts: list[str]) -> None:
    """Write a part of a syntax tree, alike in all versions of Python: what is absent or empty is left out."""
    if isinstance(value, ast.AST):
        parts.append(type(value).__name__)
        for name in value._fields:
            inner = getattr(value, name, None)
            if inner is not None and inner != [] and name != "ctx":
                parts.append(name)
                _write(inner, parts)
        parts.append(")")
    elif isinstance(value, list):
        parts.append("[")
        for item in value:
            if not _is_logged(item):
                _write(item, parts)
        parts.append("]")
    else:
        parts.append(repr(value))


def _is_logged(value: object) -> bool:
    """Return whether a part of a syntax tree is a statement that calls a method of ``logger``."""
    function = value.value.func if isinstance(value, ast.Expr) and isinstance(value.value, ast.Call) else None
    return isinstance(function, ast.Attribute) and ast.unparse(function.value) == "logger"


def imported(code: Code, package: str, rooms: Sequence[str]) -> set[str]:
    """Return the modules in ``rooms`` that the code of a module of ``package`` imports.

    A public name of ``asdbench`` counts as an import of the module that defines it.
    """
    modules = set(code.imports)
    for level, module, names in code.imports_from:
        origin = importlib.util.resolve_name("." * level + module, package)
        known = asdbench.__all__ if origin == "asdbench" and names[0] == "*" else names
        modules |= {_defining_module(origin, name, rooms) for name in known}
    reached = {asdbench.MODULE_OF.get(name, f"asdbench.{name}") for name in code.reached}
    modules |= {module for module in reached if is_module(module)}
    return {name for name in modules if is_within(name, rooms)}


def _defining_module(origin: str, name: str, rooms: Sequence[str]) -> str:
    """Return the module that ``from origin import name`` imports."""
    inner = f"{origin}.{name}"
    public = asdbench.MODULE_OF.get(name) if origin == "asdbench" else None
    return public or (inner if is_within(inner, rooms) and is_module(inner) else origin)


def is_within(name: str, rooms: Sequence[str]) -> bool:
    """Return whether a module is one of ``rooms`` or inside one.

    >>> is_within("asdbench.nn.lora", ["asdbench.nn"]), is_within("asdbench.nnn", ["asdbench.nn"])
    (True, False)
    """
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def is_module(name: str) -> bool:
    """Return whether there is a module of this name, a package without code included."""
    if is_within(name, ("asdbench",)):
        return _file_of(name) is not None or _PLATFORM.joinpath(*name.split(".")[1:]).is_dir()
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
