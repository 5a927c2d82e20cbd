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


def as_markdown(docstring: str) -> str:
    r"""Return a docstring with its reST roles as inline code, and without the second colon before code.

    >>> as_markdown("A subclass of :class:`System`::\n\n    class Sea(System): ...")
    'A subclass of `System`:\n\n    class Sea(System): ...'
    """
    return re.sub("::$", ":", _ROLE.sub(r"`\1`", docstring), flags=re.MULTILINE)
