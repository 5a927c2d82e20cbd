"""An extension of Griffe: reST roles such as ``:class:`System``` in docstrings become inline code."""

from typing import Any

import griffe

from sitegen.markdown import without_roles


class DocstringRoles(griffe.Extension):
    """Replaces the roles in all docstrings."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object that was loaded."""
        if obj.docstring is not None:
            obj.docstring.value = without_roles(obj.docstring.value)
