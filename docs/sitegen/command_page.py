"""The page of the command line, from the help of its commands."""

import re

from cyclopts import App

_CONTENTS = re.compile(r"## Table of Contents\n.*?(?=\*\*Commands\*\*)", re.DOTALL)


def command_page(app: App) -> str:
    """Return the page of all commands of an app with their arguments and options.

    >>> app = App(name="shop", help="A shop.", help_epilogue="Exit codes: 0 success.")
    >>> @app.command
    ... def buy(thing: str) -> None:
    ...     "Buy a thing."
    >>> page = command_page(app)
    >>> "## shop buy" in page, "Exit codes: 0 success." in page
    (True, True)
    """
    _, text = app.generate_docs().split("\n", 1)  # the first line is the title
    introduction = ["# Commands and options", str(app.help_epilogue or "")]
    return "\n\n".join(introduction) + "\n" + _CONTENTS.sub("", text)
