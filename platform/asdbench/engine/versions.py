"""Versions of the packages that a result comes from."""

from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version

import msgspec

import asdbench


class Versions(msgspec.Struct, frozen=True, order=True, forbid_unknown_fields=True):
    """Versions of this platform, of Python and of the packages that compute."""

    asdbench: str
    python: str
    numpy: str
    torch: str
    ray: str


@cache
def installed() -> Versions:
    """Return the versions of this process.

    >>> installed().asdbench == asdbench.__version__
    True
    """
    packages = {name: _version(name) for name in ("numpy", "torch", "ray")}
    return Versions(asdbench=asdbench.__version__, python=python_version(), **packages)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # of a node that has no use for it
        return "none"


def distinct(versions: Iterable[Versions]) -> tuple[Versions, ...]:
    """Return each of the versions once, sorted."""
    return tuple(sorted(set(versions)))
