"""Waiting for a storage that is full or away, and telling so."""

import time
from collections.abc import Callable
from typing import TypeVar

from asdbench.engine.runtime import Runtime
from asdbench.storage import StorageFault

_RETRY_S = 5.0
_TELL_S = 60.0

Found = TypeVar("Found")


def persist(action: Callable[[], Found], runtime: Runtime, *, passing_only: bool = False) -> Found:
    """Return what ``action`` returns, tried again until the storage takes part.

    What it waits for is reported at once and then every minute. With ``passing_only`` a fault that does not
    mend by itself is raised: nothing is lost yet. Without, it is waited for too: the user can mend it, and
    what is to be stored would be lost.
    """
    told = -_TELL_S
    while True:
        try:
            return action()
        except StorageFault as fault:
            if passing_only and not fault.passing:
                raise
            if time.monotonic() - told >= _TELL_S:
                runtime.report({"waiting": str(fault)})
                told = time.monotonic()
        time.sleep(_RETRY_S)
