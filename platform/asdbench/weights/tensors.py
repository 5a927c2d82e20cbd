"""Reading files of weights: tensors and nothing else; nothing in a file is executed."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from asdbench.weights.records import Format, WeightsRecord


class NotTensors(ValueError):
    """A file that is not what its format says, or that holds more than tensors; the message says which."""


def read_tensors(path: Path, record: WeightsRecord) -> dict[str, Tensor]:
    """Return the tensors of an encoder by name, without the prefix of its record, in main memory.

    Raises
    ------
    NotTensors
        The file is of another format, holds objects other than tensors and plain values, or lacks the
        encoder's tensors.
    """
    content: Any = _loaded(path, record.format)
    if record.root is not None:
        if not isinstance(content, dict) or record.root not in content:
            raise NotTensors(f"it has no entry {record.root!r}")
        content = content[record.root]
    if not isinstance(content, dict):
        raise NotTensors(f"it holds a {type(content).__name__} and not tensors by name")
    tensors = {
        str(name)[len(record.prefix) :]: value
        for name, value in content.items()
        if isinstance(value, Tensor) and str(name).startswith(record.prefix)
    }
    if not tensors:
        named = f" whose names begin with {record.prefix!r}" if record.prefix else ""
        raise NotTensors(f"it holds no tensors{named}")
    return tensors


def _loaded(path: Path, kind: Format) -> Any:
    if kind == "safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise NotTensors(f"it is no safetensors file ({error})") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle protocols, which are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            is_pickle = file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
        if is_pickle:
            raise NotTensors("it holds Python objects other than tensors, which are never loaded") from error
        raise NotTensors("it is no checkpoint of PyTorch") from error
    except Exception as error:  # torch reports damage with many types
        raise NotTensors(f"it is no checkpoint of PyTorch ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
