"""Markdown of generated pages: tables, and docstrings as text."""

import re
from collections.abc import Iterable, Sequence

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?\.?([\w.]+)`")


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a table; a bar within a cell is escaped.

    >>> print(table(["setting", "default"], [["mode", "a|b"]]))
    | setting | default |
    |---|---|
    | mode | a\|b |
    """
    lines = [headers, ["---"] * len(headers), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    first, rule, *rest = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([first, rule.replace(" ", ""), *rest])


def code(text: str) -> str:
    """Return text as inline code; nothing for no text."""
    return f"`{text}`" if text else ""


def without_roles(docstring: str) -> str:
    """Return a docstring with its reST roles as inline code.

    >>> without_roles("A subclass of :class:`System`; see :func:`asdbench.tunable`.")
    'A subclass of `System`; see `asdbench.tunable`.'
    """
    return _ROLE.sub(r"`\1`", docstring)
