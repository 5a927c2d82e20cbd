"""An extension of Griffe: the reST in docstrings becomes Markdown."""

from typing import Any

import griffe

from sitegen.markdown import as_markdown


class MarkdownDocstrings(griffe.Extension):
    """Rewrites all docstrings."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object that was loaded."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
