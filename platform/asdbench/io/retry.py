"""Retries of what is done with a storage that is full or unreachable."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from asdbench.io.storage import Storage, StorageError

_RETRY_S = 5.0
_REPORT_S = 60.0

T = TypeVar("T")

logger = logging.getLogger(__name__)


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


@dataclass(frozen=True, repr=False)
class RetryingStorage(Storage):
    """A storage that waits while it is full or unreachable, and logs why, at once and then every minute.

    For who has nothing else to do meanwhile: the driver, which one stale file handle would end.
    """

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        return RetryingStorage, (self.uri,)

    def within(self, folder: str) -> "RetryingStorage":
        """Return the retrying storage in a folder of this one."""
        return RetryingStorage(super().within(folder).uri)

    def size_bytes(self, name: str) -> int | None:
        """Do as :meth:`Storage.size_bytes`."""
        return self._retry(partial(super().size_bytes, name))

    def sizes_bytes(self, folder: str) -> dict[str, int]:
        """Do as :meth:`Storage.sizes_bytes`."""
        return self._retry(partial(super().sizes_bytes, folder))

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """Do as :meth:`Storage.names`."""
        return self._retry(partial(super().names, folder, suffix))

    def versions(self, folder: str, suffix: str = "") -> dict[str, str]:
        """Do as :meth:`Storage.versions`."""
        return self._retry(partial(super().versions, folder, suffix))

    def read(self, name: str) -> bytes:
        """Do as :meth:`Storage.read`."""
        return self._retry(partial(super().read, name))

    def write(self, name: str, content: bytes | memoryview | Callable[[BinaryIO], object]) -> None:
        """Do as :meth:`Storage.write`."""
        self._retry(partial(super().write, name, content))

    def write_new(self, name: str, content: bytes) -> bool:
        """Do as :meth:`Storage.write_new`."""
        return self._retry(partial(super().write_new, name, content))

    def delete(self, name: str) -> None:
        """Do as :meth:`Storage.delete`."""
        self._retry(partial(super().delete, name))

    def set_aside(self, name: str, why: str) -> None:
        """Do as :meth:`Storage.set_aside`."""
        self._retry(partial(super().set_aside, name, why))

    def delete_folder(self, folder: str) -> None:
        """Do as :meth:`Storage.delete_folder`."""
        self._retry(partial(super().delete_folder, folder))

    def fetch(self, name: str, to: Path) -> None:
        """Do as :meth:`Storage.fetch`."""
        self._retry(partial(super().fetch, name, to))

    def put(self, path: Path, name: str) -> None:
        """Do as :meth:`Storage.put`."""
        self._retry(partial(super().put, path, name))

    def _retry(self, action: Callable[[], T]) -> T:
        return retry_until_stored(action, on_wait=partial(logger.warning, "waiting: %s"), transient_only=True)
