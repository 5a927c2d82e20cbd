"""BibTeX of systems, and of asdbench itself (the content of ``CITATION.cff``)."""

import inspect
from collections.abc import Iterator, Sequence

from asdbench import __version__, registry
from asdbench.registry import Configured

_ASDBENCH = f"""@software{{asdbench,
  author = {{{{The asdbench developers}}}},
  title = {{asdbench: a benchmark of detectors of anomalous machine sound}},
  version = {{{__version__}}},
  license = {{Apache-2.0}}
}}"""


def citations(systems: Sequence[str]) -> list[str]:
    """Return the BibTeX entries of systems, each once; of asdbench if there are none.

    An ensemble comes with its members, and a system that scores another one's model with that one.

    Raises
    ------
    InputError
        A system is unknown or cannot be used.

    Examples
    --------
    >>> citations([])[0].splitlines()[0]
    '@software{asdbench,'
    """
    if not systems:
        return [_ASDBENCH]
    parts = [part for name in systems for part in _parts(registry.configure(name))]
    return list(
        dict.fromkeys(inspect.cleandoc(part.system.citation) for part in parts if part.system.citation)
    )


def _parts(configured: Configured) -> Iterator[Configured]:
    """Yield a system, and those whose training or scores it uses."""
    yield configured
    if configured.trained:
        yield configured.trained
    for member in configured.members:
        yield from _parts(member)
