"""Writes a new system with its test: a file in a checkout of asdbench, or a package of its own.

The templates are files next to this module. They are about a system named ``my-detector``, and this name is
replaced.
"""

import importlib.util
import keyword
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import count
from pathlib import Path

import asdbench
from asdbench import registry
from asdbench.errors import InputError
from asdbench.io.files import create

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST_NAME = 40
_IN_TEMPLATE = {*asdbench.__all__, "Config", "Tensor", "Iterable"}  # names that the template uses


@dataclass(frozen=True)
class NewSystem:
    """A system that has been written.

    Attributes
    ----------
    name
        Name of the system.
    folder
        Root of the checkout, or the folder of the package.
    system, test
        The files to edit, within ``folder``.
    is_read
        Whether this installation of asdbench finds the system without further steps.
    """

    name: str
    folder: Path
    system: Path
    test: Path
    is_read: bool


def write_system(name: str, *, package: bool = False, output: Path | None = None) -> NewSystem:
    """Write a new system, as a file in a checkout of asdbench or as a package.

    Parameters
    ----------
    name
        Name of the system, such as ``my-detector``.
    package
        Write a package rather than a file of a checkout.
    output
        The checkout (default: the one around the current folder, or the one that asdbench is imported
        from), or the folder in which the package's folder is created (default: the current folder).

    Raises
    ------
    InputError
        The name is not allowed or taken, a file exists, or there is no checkout. Nothing is written.
    """
    reason = _flaw(name, package=package)
    if reason is not None:
        command = f"asdbench new-system {_allowed_name(name, package=package)}{' --package' * package}"
        raise InputError(f"a system cannot be named {name!r}: {reason}; try {command!r}")
    module = name.replace("-", "_")
    try:
        if package:
            folder = (output or Path.cwd()) / name
            _write_package(folder, name, _package_files(module))
            return NewSystem(
                name, folder, Path(f"src/{module}/system.py"), Path(f"tests/test_{module}.py"), False
            )
        folder = _checkout(output, name)
        system, test = Path(f"systems/{module}.py"), Path(f"tests/systems/test_{module}.py")
        _write_new(folder, name, {system: "system.py.txt", test: "test_system.py.txt"})
    except OSError as error:
        raise InputError(f"cannot write the system {name!r}: {error}; choose another --output") from error
    return NewSystem(name, folder, system, test, folder in _imported_checkouts())


def _package_files(module: str) -> dict[Path, str]:
    """Return the template of each file of a package, empty for an empty file."""
    source = Path("src") / module
    return {
        Path("pyproject.toml"): "pyproject.toml.txt",
        Path("README.md"): "README.md.txt",
        source / "__init__.py": "package_init.py.txt",
        source / "py.typed": "",
        source / "system.py": "system.py.txt",
        Path(f"tests/test_{module}.py"): "test_system.py.txt",
    }


def _content(template: str, name: str) -> str:
    """Return a template with another name in all its spellings."""
    if not template:
        return ""
    text = (resources.files("asdbench.driver") / "scaffold_templates" / template).read_text(encoding="utf-8")
    spellings = {"my-detector": name, "my_detector": name.replace("-", "_"), "MyDetector": _class_name(name)}
    return re.sub("|".join(spellings), lambda match: spellings[match[0]], text)


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def _write_package(folder: Path, name: str, templates: Mapping[Path, str]) -> None:
    """Write all files to a temporary folder, and rename it."""
    if folder.exists():
        raise InputError(f"the folder {str(folder)!r} exists; choose another name or --output")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".part", dir=folder.parent))
    try:
        for path, template in templates.items():
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            (temporary / path).write_text(_content(template, name), encoding="utf-8")
        temporary.chmod(0o777 & ~_umask())
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _write_new(folder: Path, name: str, templates: Mapping[Path, str]) -> None:
    """Write files that do not exist; if one does, none is written."""
    written: list[Path] = []
    for path, template in templates.items():
        if not create(folder / path, _content(template, name).encode()):
            for each in written:
                each.unlink()
            raise InputError(f"the file {str(folder / path)!r} exists; choose another name")
        written.append(folder / path)


def _checkout(output: Path | None, name: str) -> Path:
    """Return the root of the checkout to write to."""
    current = Path.cwd()
    candidates = [output.resolve()] if output else [current, *current.parents, *_imported_checkouts()]
    for folder in candidates:
        if _is_checkout(folder):
            return folder
    command = f"asdbench new-system {name} --package"
    where = f"{str(output)!r} is no checkout of asdbench" if output else "asdbench is not run from a checkout"
    raise InputError(f"{where}, which has a folder for systems; write a package with {command!r}")


def _is_checkout(folder: Path) -> bool:
    return (folder / "systems/__init__.py").is_file() and (folder / "platform/asdbench").is_dir()


def _imported_checkouts() -> list[Path]:
    """Return the checkouts whose systems this process finds."""
    parents = [path.parent.resolve() for path in registry.plugin_modules() if path.name == "systems"]
    return [folder for folder in parents if _is_checkout(folder)]


def _flaw(name: str, *, package: bool) -> str | None:
    """Return why a system cannot have this name; ``None`` if it can."""
    module = name.replace("-", "_")
    if not _NAME.fullmatch(name):
        return "a name consists of words of lower-case letters and digits, joined by hyphens"
    if len(name) > _LONGEST_NAME:
        return f"it has {len(name)} characters, more than {_LONGEST_NAME}"
    if name in registry.names():
        return f"{registry.source(name).place} has this name"
    if keyword.iskeyword(module):
        return "it is a keyword of Python"
    if _class_name(name) in _IN_TEMPLATE:
        return f"its class would have the name of asdbench's {_class_name(name)}"
    if package and importlib.util.find_spec(module) is not None:
        return f"the module {module!r} is installed already"
    return None


def _allowed_name(name: str, *, package: bool) -> str:
    """Return a similar name that a system can have."""
    return next(each for each in _similar(name) if _flaw(each, package=package) is None)


def _similar(name: str) -> Iterator[str]:
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower())
    base = "-".join(words) or "my-detector"
    base = base if base[0].isalpha() else f"detector-{base}"
    base = base[: _LONGEST_NAME - len("-detector")].strip("-")
    yield base
    yield f"{base}-detector"
    yield from (f"{base}-{number}" for number in count(2))
