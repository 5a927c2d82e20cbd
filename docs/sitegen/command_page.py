"""The page of the command line, from the help of its commands."""

import re

import docstring_parser
from cyclopts import App

from asdbench.cli.log import with_verbosity

_CONTENTS = re.compile(r"## Table of Contents\n.*?(?=\*\*Commands\*\*)", re.DOTALL)


def command_page(app: App) -> str:
    """Return the page of all commands of an app with their arguments and options.

    >>> app = App(name="shop", help="A shop.", help_epilogue="Exit codes: 0 success.")
    >>> @app.command
    ... def buy(thing: str) -> None:
    ...     "Buy a thing."
    >>> page = command_page(app)
    >>> "## shop buy" in page, "Exit codes: 0 success." in page, "* `--quiet`:" in page
    (True, True, True)
    """
    _, text = app.generate_docs().split("\n", 1)  # the first line is the title
    introduction = ["# Commands and options", str(app.help_epilogue or ""), "Every command also takes:"]
    return "\n\n".join([*introduction, _common_options(app)]) + "\n" + _CONTENTS.sub("", text)


def _common_options(app: App) -> str:
    """Return the options of the launcher, which it describes in its docstring."""
    launcher = with_verbosity(app).default_command
    parameters = docstring_parser.parse(getattr(launcher, "__doc__", None) or "").params
    lines = [f"* `--{parameter.arg_name}`: {parameter.description}" for parameter in parameters]
    return "\n".join(line.replace("\n", " ") for line in lines)
