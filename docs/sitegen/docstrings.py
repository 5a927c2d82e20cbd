"""An extension of Griffe: docstrings as Markdown, with each description in its column."""

import re
from typing import Any

import griffe

from sitegen.markdown import as_markdown

_ENTRY = re.compile(r"^([\w*][\w*, ]*) : (.+)$(?!\n +[A-Z])", re.MULTILINE)


class MarkdownDocstrings(griffe.Extension):
    """Rewrites all docstrings."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object that was loaded."""
        if obj.docstring is not None:
            obj.docstring.value = described(as_markdown(obj.docstring.value))


def described(docstring: str) -> str:
    r"""Return a docstring with the short form ``name : description`` in numpydoc's long form.

    A type, which numpydoc has in that place, is followed by a description of its own, and stays.

    >>> described("rate : in Hz, of\n    all clips\nscores : shape (clip,)\n    Finite.")
    'rate\n    in Hz, of\n    all clips\nscores : shape (clip,)\n    Finite.'
    """
    return _ENTRY.sub(r"\1\n    \2", docstring)
