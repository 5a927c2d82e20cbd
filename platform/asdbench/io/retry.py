"""Retries of an action on a storage that is full or unreachable."""

import time
from collections.abc import Callable
from typing import TypeVar

from asdbench.io.storage import StorageError

_RETRY_S = 5.0
_REPORT_S = 60.0

T = TypeVar("T")


def retry_until_stored(
    action: Callable[[], T], *, on_wait: Callable[[str], object], transient_only: bool = False
) -> T:
    """Call ``action`` until the storage accepts it, and return its result.

    Parameters
    ----------
    action : reads from or writes to a storage
    on_wait : called with the reason for waiting, at once and then every minute
    transient_only : raise an error that does not go away by itself, because nothing is lost yet. Otherwise it
        is waited for too: the user can fix it, and what is to be stored would be lost.

    Raises
    ------
    StorageError
        With ``transient_only``, for an error that is not transient.
    """
    reported = -_REPORT_S
    while True:
        try:
            return action()
        except StorageError as error:
            if transient_only and not error.transient:
                raise
            if time.monotonic() - reported >= _REPORT_S:
                on_wait(str(error))
                reported = time.monotonic()
        time.sleep(_RETRY_S)
