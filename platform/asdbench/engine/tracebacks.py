"""Tracebacks for the authors of systems: they begin in the system's own code."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from traceback import FrameSummary, StackSummary, TracebackException

from asdbench import registry

_LAYERS = "/torch/nn/modules/"  # three frames for every layer that calls another


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an error, without the frames before a system's own; whole if there are none.

    >>> print(traceback_of(ValueError("no frames")))
    ValueError: no frames
    """
    return plugin_traceback(error) or "".join(TracebackException.from_exception(error).format()).rstrip()


def plugin_traceback(error: BaseException) -> str | None:
    """Return the traceback from a system's first frame on; ``None`` if no system's code is in it.

    Files are named from the folder of the systems or of the plugin's package on, so that the same error of
    two hosts has the same text.
    """
    roots = [path.resolve() for path in registry.plugin_modules()]
    whole = TracebackException.from_exception(error)
    is_plugins = False
    for part in _chain(whole):
        frames = _from_plugin(part.stack, roots)
        if frames:
            is_plugins, part.stack = True, StackSummary.from_list(frames)
    return "".join(whole.format()).rstrip() if is_plugins else None


def _chain(error: TracebackException | None) -> Iterator[TracebackException]:
    """Yield an error and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _from_plugin(stack: Sequence[FrameSummary], roots: Sequence[Path]) -> list[FrameSummary]:
    """Return the frames from a plugin's first one on, with shorter file names, without torch's layers."""
    shortened = [_shortened(frame, roots) for frame in stack]
    first = next((index for index, frame in enumerate(shortened) if frame is not stack[index]), len(stack))
    return [frame for frame in shortened[first:] if _LAYERS not in frame.filename]


def _shortened(frame: FrameSummary, roots: Sequence[Path]) -> FrameSummary:
    """Return a plugin's frame with its file named from its root on, and any other frame itself."""
    path = Path(frame.filename).resolve()
    for root in roots:
        if path.is_relative_to(root):
            name = path.relative_to(root.parent).as_posix()
            return FrameSummary(name, frame.lineno, frame.name, line=frame.line)
    return frame
