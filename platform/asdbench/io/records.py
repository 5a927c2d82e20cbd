"""Typed records in JSON files: how they are written, read and checked against their schema version."""

from typing import TypeVar

import msgspec

from asdbench.errors import InputError
from asdbench.io.files import json_bytes

T = TypeVar("T", bound=msgspec.Struct)


class RecordError(InputError):
    """A stored record that cannot be read; the message names the file, what is wrong, and the cure.

    Attributes
    ----------
    path : path of the file
    is_other_version : whether the record is intact, and another version of this platform wrote it
    """

    def __init__(self, message: str, path: str, is_other_version: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.is_other_version = is_other_version

    def __reduce__(self) -> tuple[type["RecordError"], tuple[str, str, bool]]:
        return RecordError, (str(self), self.path, self.is_other_version)


class _Header(msgspec.Struct):
    schema_version: object = None


def record_to_json(record: msgspec.Struct) -> bytes:
    """Return a record as indented JSON; NaN and infinity are refused (``ValueError``).

    >>> class Point(msgspec.Struct, frozen=True):
    ...     x: float
    ...     schema_version: int = 1
    >>> print(record_to_json(Point(0.5)).decode(), end="")
    {
      "schema_version": 1,
      "x": 0.5
    }
    """
    return json_bytes(msgspec.to_builtins(record))


def record_from_json(content: bytes, kind: type[T], *, schema_version: int, path: str, cure: str) -> T:
    """Return the record that `record_to_json` wrote.

    Parameters
    ----------
    content : the file's content
    kind : type of the record, or a union of tagged types
    schema_version : the version that this code reads
    path, cure : of the file, for the error: where it is, and what to do

    Raises
    ------
    RecordError
        The file holds no JSON, a record of another schema version, or one that lacks a field, has an unknown
        field or holds a value of the wrong type.
    """
    try:
        version = msgspec.json.decode(content, type=_Header).schema_version
        if version != schema_version:
            found = "no schema version" if version is None else f"schema version {version!r}"
            message = f"{path} has {found}; expected version {schema_version}: {cure}"
            raise RecordError(message, path, is_other_version=isinstance(version, int))
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read ({error}): {cure}", path) from error
