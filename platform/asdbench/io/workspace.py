"""The workspace: the folder of a user's data sets, features and records, and the storage of results.

It is made once, by the command line or by whoever calls the platform, and passed on. This module alone reads
the platform's environment variables:

- ``ASDBENCH_HOME``: the data home; by default the operating system's folder for a user's data
- ``ASDBENCH_STORAGE``: where results go, and data for other nodes; by default the data home
- ``ASDBENCH_CACHE``: where a node of a cluster keeps its copies of data; by default in the folder for
  temporary files
"""

import getpass
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from asdbench.errors import InputError
from asdbench.io.storage import Storage, StorageError

_RETRY_S = 1.0
_AT_ONCE_S = 5.0


@dataclass(frozen=True)
class Workspace:
    """Where a user's data and results are; plain data that travels.

    Attributes
    ----------
    home : the data home, a folder of this machine: registered data sets, features, MLflow's records
    storage : where results go, and data for other nodes

    Examples
    --------
    >>> workspace = Workspace.from_home("/data/asdbench")
    >>> workspace.storage.folder == workspace.home
    True
    >>> Workspace.from_home("/data/asdbench", storage="s3://bucket/results").storage
    Storage('s3://bucket/results')
    """

    home: Path
    storage: Storage

    @classmethod
    def from_home(cls, home: Path | str, *, storage: Storage | Path | str | None = None) -> "Workspace":
        """Return the workspace of a data home; ``storage`` is the home itself by default."""
        return cls(Path(home), Storage.from_location(Path(home) if storage is None else storage))

    @classmethod
    def from_environment(cls, *, storage: str | None = None) -> "Workspace":
        """Return the workspace that the environment names; ``storage`` overrides ``ASDBENCH_STORAGE``."""
        home = Path(os.environ.get("ASDBENCH_HOME") or platformdirs.user_data_path("asdbench"))
        return cls.from_home(home, storage=storage or os.environ.get("ASDBENCH_STORAGE") or None)

    @property
    def job_storage(self) -> Storage:
        """The storage of the job store: ``jobs`` in the storage."""
        return self.storage.within("jobs")

    def check_home(self) -> None:
        """Create the data home if necessary; raise :class:`InputError` if it cannot be written."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.home):
                pass
        except OSError as error:
            raise self.unwritable(error) from error

    def check_storage(self, *, writable: bool = False) -> None:
        """Check, before any work has begun, that the storage can be read, and written if ``writable``.

        A transient fault that shows at once is tried once more. A full storage passes: what is stored there
        can be read, and finished work waits for room.

        Raises
        ------
        InputError
            The storage cannot be used.
        """
        for is_last in (False, True):
            began = time.monotonic()
            try:
                if writable:
                    self.storage.check()
                else:
                    self.storage.read(".probe")
                return
            except FileNotFoundError:
                return
            except StorageError as error:
                if error.full:
                    return
                if is_last or not error.transient or time.monotonic() - began > _AT_ONCE_S:
                    raise InputError(str(error)) from error
            time.sleep(_RETRY_S)

    def unwritable(self, error: OSError) -> InputError:
        """Return the error that says why the data home cannot be written."""
        return InputError(
            f"cannot write to the data home {str(self.home)!r} ({error.strerror or error}); "
            f"set ASDBENCH_HOME to another folder"
        )


def node_cache_dir() -> Path:
    """Return the folder in which this node of a cluster keeps its copies of data."""
    given = os.environ.get("ASDBENCH_CACHE")
    if given:
        return Path(given).absolute()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return Path(tempfile.gettempdir()) / f"asdbench-{user}"
