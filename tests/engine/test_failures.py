"""Who is to blame for an error: the user, or a machine, disk, network or storage."""

import errno
import os
import subprocess
import sys

import pytest
import torch

from asdbench.engine.failures import failure_kind
from asdbench.errors import InfrastructureError, InputError
from asdbench.io.storage import StorageError


@pytest.mark.parametrize(
    "error",
    [
        StorageError("the storage 's3://b' cannot be reached (timed out)", transient=True),
        InfrastructureError("cannot keep 'a.arrow'"),
        *(OSError(number, os.strerror(number)) for number in (errno.ESTALE, errno.ENOSPC, errno.EROFS)),
        PermissionError(errno.EACCES, "Permission denied"),
        ConnectionResetError(),
        MemoryError(),
        torch.OutOfMemoryError("out of memory"),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("NCCL communicator was aborted on rank 1"),
        *(
            [torch.AcceleratorError("unspecified launch failure")]
            if hasattr(torch, "AcceleratorError")
            else []
        ),
    ],
    ids=repr,
)
def test_machines_are_to_blame(error: Exception) -> None:
    assert failure_kind(error) == "infrastructure"


@pytest.mark.parametrize(
    "error",
    [
        InputError("no data set 'x'"),
        ZeroDivisionError(),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        type("OutOfMemoryError", (RuntimeError,), {})("not torch's"),
        FileNotFoundError(errno.ENOENT, "weights.pt"),
    ],
    ids=repr,
)
def test_users_are_to_blame(error: Exception) -> None:
    assert failure_kind(error) == "user"


def test_the_question_needs_no_torch() -> None:
    code = "import sys, asdbench.engine.failures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
