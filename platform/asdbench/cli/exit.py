"""Exit codes and messages: bad input and interruptions in one sentence."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from asdbench.errors import InputError

if TYPE_CHECKING:
    pass


def guarded(command: Callable[[], object]) -> int:
    """Call ``command`` and return its exit code, turning bad input and interruptions into messages."""
    from cyclopts import CycloptsError

    try:
        code = command()
    except CycloptsError as error:
        print(f"asdbench: {error}", file=sys.stderr)
        return 2
    except InputError as error:
        for bad in getattr(error, "bad", ()):
            print(f"{bad.path}: {bad.reason}", file=sys.stderr)
        print(f"asdbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nasdbench: interrupted; what is finished is kept, the same command goes on from here",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        return 1
    return code if isinstance(code, int) else 0
