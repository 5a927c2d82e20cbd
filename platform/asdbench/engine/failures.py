"""Who is to blame for a failed task: the user, with an input or a system, or the infrastructure."""

import re
from typing import Literal

from asdbench.errors import InfrastructureError

FailureKind = Literal["user", "infrastructure"]

# Classes of torch, by name: this module is imported where torch is not.
_TORCH_ERRORS = {"OutOfMemoryError", "AcceleratorError", "DistError"}
_ACCELERATOR_TEXT = re.compile(r"CUDA (error|out of memory)|CUDA driver|NCCL|CUBLAS_STATUS|cuDNN error", re.I)
# A path that is missing or of another kind says nothing about the disk that it is on.
_PATH_ERRORS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)


def failure_kind(error: BaseException) -> FailureKind:
    """Return who is to blame for the error that ended a task.

    The infrastructure is to blame for an :class:`~asdbench.errors.InfrastructureError`, for a fault of a
    disk or network (``OSError``, except that a path does not exist or is of another kind), for memory that
    is used up, and for errors of CUDA and NCCL: another node may succeed. The user is to blame for all other
    errors, which every node would repeat: bad input, and exceptions in the system.

    Examples
    --------
    >>> failure_kind(ValueError("shapes differ"))
    'user'
    >>> failure_kind(RuntimeError("CUDA error: an illegal memory access was encountered"))
    'infrastructure'
    """
    if isinstance(error, InfrastructureError | MemoryError):
        return "infrastructure"
    if isinstance(error, OSError):
        return "user" if isinstance(error, _PATH_ERRORS) else "infrastructure"
    if isinstance(error, RuntimeError) and (_is_of_torch(error) or _ACCELERATOR_TEXT.search(str(error))):
        return "infrastructure"
    return "user"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory, of the host or of a GPU, was used up.

    >>> is_out_of_memory(RuntimeError("CUDA out of memory")), is_out_of_memory(OSError("disk full"))
    (True, False)
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, MemoryError) or "OutOfMemoryError" in names or "CUDA out of memory" in str(error)


def _is_of_torch(error: RuntimeError) -> bool:
    return any(
        kind.__name__ in _TORCH_ERRORS and kind.__module__.partition(".")[0] == "torch"
        for kind in type(error).__mro__
    )
