"""The versions that the results of a leaderboard come from, and which rows those of another major version.

A package that computes may compute otherwise after a new major version: the first number, or before 1.0 the
second. The newest among the rows is the measure, so that all rows of one leaderboard are compared alike.
"""

import re
from collections.abc import Iterable, Sequence

import msgspec

from asdbench.engine.versions import Versions
from asdbench.report.rendering import Row

CAPTION = (
    "made with: results of another major version than the newest here, so a difference may come from "
    "the version."
)


def version_texts(versions: Iterable[Versions]) -> list[str]:
    """Return each package with each of its versions, once.

    >>> version_texts([Versions("0.1.0", "3.12.3", "2.1.0", "2.9.0", "2.52.1")])
    ['asdbench 0.1.0', 'numpy 2.1.0', 'python 3.12.3', 'ray 2.52.1', 'torch 2.9.0']
    """
    pairs = {pair for each in versions for pair in msgspec.structs.asdict(each).items()}
    return [f"{package} {version}" for package, version in sorted(pairs)]


def with_version_marks(rows: Sequence[Row]) -> list[Row]:
    """Return rows with ``other_versions``: those of their ``versions`` of another major than the newest.

    >>> [row["other_versions"] for row in with_version_marks(
    ...     [{"versions": ["torch 2.9.0"]}, {"versions": ["torch 1.13.1", "torch 2.8.0"]}])]
    [[], ['torch 1.13.1']]
    """
    newest: dict[str, tuple[int, ...]] = {}
    for text in {text for row in rows for text in row["versions"]}:
        package, version = _parsed(text)
        newest[package] = max(newest.get(package, ()), version)
    return [
        row | {"other_versions": [text for text in row["versions"] if _is_other(text, newest)]}
        for row in rows
    ]


def version_labels(row: Row) -> list[str]:
    """Return what marks a row of another major version; nothing for other rows."""
    others = row.get("other_versions")
    return [f"made with {', '.join(others)}"] if others else []


def _is_other(text: str, newest: dict[str, tuple[int, ...]]) -> bool:
    package, version = _parsed(text)
    return _major(version) != _major(newest[package])


def _parsed(text: str) -> tuple[str, tuple[int, ...]]:
    package, _, version = text.partition(" ")
    release = re.match(r"\d+(\.\d+)*", version)
    return package, tuple(map(int, release.group().split("."))) if release else ()


def _major(version: tuple[int, ...]) -> tuple[int, ...]:
    return version[:2] if version[:1] == (0,) else version[:1]
