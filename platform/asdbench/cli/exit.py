"""Exit codes and messages: bad input, infrastructure faults and interruptions in one sentence."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from asdbench.cli.log import with_verbosity
from asdbench.errors import InfrastructureError, InputError

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError

    from asdbench.engine.events import Failure

_REPLACED = {
    "--gpus-per-worker": "--jobs-per-gpu, the number of trainings that share a GPU: give 2 in place of 0.5"
}
EXIT_CODES = "Exit codes: 0 success, 1 a part or the infrastructure failed, 2 bad input, 130 interrupted."


def guarded(app: "App", arguments: Sequence[str] | None) -> int:
    """Run an app with ``-v`` on every command and return its exit code; errors become messages."""
    from cyclopts import CycloptsError

    try:
        with _interrupted_by_signals():
            code = with_verbosity(app)(
                arguments, result_action="return_value", exit_on_error=False, print_error=False
            )
    except CycloptsError as error:
        print(f"asdbench: {_usage_message(error)}", file=sys.stderr)
        return 2
    except InputError as error:
        for bad in getattr(error, "bad", ()):
            print(f"{bad.path}: {bad.reason}", file=sys.stderr)
        print(f"asdbench: {error}", file=sys.stderr)
        return 2
    except InfrastructureError as error:
        print(f"asdbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nasdbench: interrupted; finished work is kept, run the same command again to resume",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        from asdbench.engine.tracebacks import plugin_traceback

        text = plugin_traceback(error)
        if text is None:
            raise
        print(f"{text}\nasdbench: this is an error in a system's code", file=sys.stderr)
        return 1
    return code if isinstance(code, int) else 0


def _usage_message(error: "CycloptsError") -> str:
    """Return what is wrong with the words of a command, with a cure of our own where cyclopts has none."""
    from cyclopts import RepeatArgumentError, UnknownOptionError

    if isinstance(error, UnknownOptionError):
        option = (error.token.keyword or error.token.value).partition("=")[0]
        if option in _REPLACED:
            return f"{option} is replaced by {_REPLACED[option]}"
    if isinstance(error, RepeatArgumentError) and "--preset" in str(error):
        return f"{str(error).rstrip('.')}; name several presets with commas: --preset fast,altered"
    return str(error)


@contextlib.contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Make SIGTERM and the end of the terminal the same as Ctrl-C, which stops what a command has started.

    A signal that is ignored, as with ``nohup``, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = [
        number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in signals:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)


def exit_code(failures: "Sequence[Failure]") -> int:
    """Return 0 if nothing failed, 2 if something failed because of bad input, else 1.

    >>> exit_code([])
    0
    """
    return max((2 if failure.bad_input else 1 for failure in failures), default=0)
