"""Weights in the data home: which are there, whether they are intact, and their tensors.

``weights/<id>/`` in the data home holds the file and ``receipt.json``: its SHA-256 and size, where it came
from, and the license that was accepted. Where a record has no SHA-256, the receipt's is the one that the
first download had, and the file is compared with it from then on.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from asdbench.errors import InputError
from asdbench.io.files import replacing
from asdbench.io.records import RecordError, record_from_json, record_to_json
from asdbench.io.workspace import Workspace
from asdbench.weights.records import RECORDS, WeightsRecord, named

if TYPE_CHECKING:
    from torch import Tensor

_SCHEMA_VERSION = 1
_verified: dict[Path, tuple[int, int]] = {}  # files that this process has read: size and modification time

State = Literal["intact", "damaged", "missing"]


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a file of weights since it was obtained.

    Attributes
    ----------
    weights : id
    sha256, size_bytes : of the file
    source : address or file that it came from
    obtained : when, in UTC, ISO 8601
    license : that was accepted
    first_use : whether the SHA-256 is that of the first download, because none has been published
    """

    weights: str
    sha256: str
    size_bytes: int
    source: str
    obtained: str
    license: str
    first_use: bool
    schema_version: int = _SCHEMA_VERSION


@dataclass(frozen=True)
class Checked:
    """A file of weights that was compared with its SHA-256.

    Attributes
    ----------
    id : of the weights
    state : ``"intact"``, ``"damaged"`` or ``"missing"``
    sha256 : of the file; ``None`` if it is missing
    expected : SHA-256 that it must have; ``None`` if nobody has published one and it was never obtained
    first_use : whether the expected one is that of the first download
    """

    id: str
    state: State
    sha256: str | None
    expected: str | None
    first_use: bool


def weights_dir(workspace: Workspace, weights_id: str) -> Path:
    """Return the folder of an id in a data home."""
    return workspace.home / "weights" / weights_id


def weights_path(workspace: Workspace, record: WeightsRecord) -> Path:
    """Return the path of a record's file in a data home, whether it exists or not."""
    return weights_dir(workspace, record.id) / record.file_name


def receipt_path(workspace: Workspace, weights_id: str) -> Path:
    """Return the path of the receipt of an id in a data home, whether it exists or not."""
    return weights_dir(workspace, weights_id) / "receipt.json"


def read_receipt(workspace: Workspace, weights_id: str) -> Receipt | None:
    """Return the receipt of an id; ``None`` if the weights were never obtained.

    Raises :class:`~asdbench.io.records.RecordError` for a damaged receipt, and :class:`InputError` for a data
    home whose weights cannot be read.
    """
    path = receipt_path(workspace, weights_id)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unusable(workspace, error) from error
    cure = f"delete {str(path.parent)!r}, then run 'asdbench weights get {weights_id}'"
    return record_from_json(content, Receipt, schema_version=_SCHEMA_VERSION, path=str(path), cure=cure)


def receipt_is_damaged(workspace: Workspace, weights_id: str) -> bool:
    """Return whether there is a receipt of an id that cannot be read."""
    try:
        read_receipt(workspace, weights_id)
    except RecordError:
        return True
    return False


def unusable(workspace: Workspace, error: OSError) -> InputError:
    """Return the error for weights in a data home that cannot be read or written."""
    folder = workspace.home / "weights"
    return InputError(
        f"{str(error.filename or folder)!r} cannot be used ({error.strerror or error}); let {str(folder)!r} "
        f"be a folder that you can read and write, or set ASDBENCH_HOME to another folder"
    )


def write_receipt(workspace: Workspace, receipt: Receipt) -> None:
    """Store a receipt, atomically."""
    with replacing(receipt_path(workspace, receipt.weights)) as temporary:
        temporary.write_bytes(record_to_json(receipt))


def is_installed(workspace: Workspace, weights_id: str) -> bool:
    """Return whether the weights of an id are in a data home, in full as far as their size tells."""
    receipt = read_receipt(workspace, weights_id)
    path = weights_path(workspace, named(weights_id))
    return receipt is not None and path.is_file() and path.stat().st_size == receipt.size_bytes


def is_damaged_in_size(workspace: Workspace, weights_id: str) -> bool:
    """Return whether a data home has a file for an id that has another size than the one obtained."""
    return weights_id in installed_ids(workspace) and not is_installed(workspace, weights_id)


def check_installed(workspace: Workspace, weights_ids: Iterable[str]) -> None:
    """Raise :class:`InputError` that names the weights which are missing, and how to get them.

    Call it before anything starts.

    Examples
    --------
    >>> from asdbench.io.workspace import Workspace
    >>> check_installed(Workspace.from_home("/nowhere"), ["beats-iter3"])
    Traceback (most recent call last):
    ...
    asdbench.errors.InputError: the weights 'beats-iter3' are missing...asdbench weights get beats-iter3...
    """
    missing = [one for one in dict.fromkeys(weights_ids) if not is_installed(workspace, one)]
    if missing:
        raise _missing(workspace, missing)


def _missing(workspace: Workspace, weights_ids: Sequence[str]) -> InputError:
    named_ids = ", ".join(repr(one) for one in weights_ids)
    return InputError(
        f"the weights {named_ids} are missing in {str(workspace.home)!r}; run "
        f"'asdbench weights get {' '.join(weights_ids)}'"
    )


def verify(workspace: Workspace, weights_id: str) -> Checked:
    """Read a file of weights and compare its SHA-256 with the record's or, without one, the receipt's.

    Weights whose receipt cannot be read are damaged.
    """
    record = named(weights_id)
    path = weights_path(workspace, record)
    first_use = record.sha256 is None
    if receipt_is_damaged(workspace, weights_id):
        found = sha256_of(path) if path.is_file() else None
        return Checked(weights_id, "damaged", found, record.sha256, first_use)
    receipt = read_receipt(workspace, weights_id)
    expected = record.sha256 or (receipt.sha256 if receipt is not None else None)
    if receipt is None or not path.is_file():
        return Checked(weights_id, "missing", None, expected, first_use)
    sha256 = sha256_of(path)
    return Checked(weights_id, "intact" if sha256 == expected else "damaged", sha256, expected, first_use)


def load(weights_id: str, workspace: Workspace) -> "dict[str, Tensor]":
    """Return the tensors of an encoder by the names that its architecture uses, in main memory.

    The file is compared with its SHA-256 the first time that a process reads it.

    Parameters
    ----------
    weights_id : of the registry, such as ``"beats-iter3"``
    workspace : whose data home holds the weights

    Raises
    ------
    InputError
        There are no such weights, they are missing or damaged; the message says how to get them.
    """
    from asdbench.weights.tensors import NotTensors, read_tensors

    record = named(weights_id)
    check_installed(workspace, [weights_id])
    path = weights_path(workspace, record)
    status = path.stat()
    state = (status.st_size, status.st_mtime_ns)
    if _verified.get(path) != state:
        if verify(workspace, weights_id).state != "intact":
            raise damaged(record, path)
        _verified[path] = state
    try:
        return read_tensors(path, record)
    except NotTensors as error:
        raise InputError(
            f"{str(path)!r} cannot be used as {weights_id!r}, because {error}; delete {str(path.parent)!r}, "
            f"then run 'asdbench weights get {weights_id}'"
        ) from error


def digest(weights_id: str, workspace: Workspace) -> str:
    """Return the SHA-256 that the weights of an id have: the published one, or that of the first download.

    The receipt tells the latter also when the file itself is gone, so that stored results remain readable.
    Raises :class:`InputError` for an unknown id, or if nobody has published one and they were never obtained.
    """
    record = named(weights_id)
    if record.sha256 is not None:
        return record.sha256
    receipt = read_receipt(workspace, weights_id)
    if receipt is None:
        raise InputError(
            f"nobody has published a SHA-256 of the weights {weights_id!r} and they were never in "
            f"{str(workspace.home)!r}, so results that depend on them cannot be told apart; run 'asdbench "
            f"weights get {weights_id}'"
        )
    return receipt.sha256


def damaged(record: WeightsRecord, path: Path) -> InputError:
    """Return the error for a file that has changed since it was obtained."""
    return InputError(
        f"{str(path)!r} is damaged, because its SHA-256 is not the expected one; run "
        f"'asdbench weights get {record.id}' to replace it"
    )


def installed_ids(workspace: Workspace) -> list[str]:
    """Return the ids of the weights in a data home, damaged ones too, in the order of the registry."""
    return [
        one
        for one, record in RECORDS.items()
        if receipt_is_damaged(workspace, one)
        or (weights_path(workspace, record).is_file() and read_receipt(workspace, one) is not None)
    ]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
