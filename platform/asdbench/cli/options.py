"""What the commands share: kinds of parameters, and the console."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import CoercionError, Parameter, Token

if TYPE_CHECKING:
    from rich.console import Console


def whole_number(_: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number; cyclopts would round one with a fraction."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise CoercionError(msg=f"{tokens[0].value!r} is not a whole number", token=tokens[0]) from None


Whole = Annotated[int, Parameter(converter=whole_number, n_tokens=1)]
Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=(), show_default=False)]
Numbers = Annotated[tuple[Whole, ...], Parameter(consume_multiple=True, negative=())]
Flag = Annotated[bool, Parameter(negative=())]

Subset = Literal["dev", "eval"]
Threshold = Literal["empirical", "gamma", "tail"]


def new_console(stderr: bool = False) -> "Console":
    """Return a console on standard output, or on standard error."""
    from rich.console import Console

    return Console(stderr=stderr)
