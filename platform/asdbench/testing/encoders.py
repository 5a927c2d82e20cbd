"""Checkpoints of the published encoders with random weights, for tests: true names and shapes, or small ones.

Every number follows from the parameter's name and the number's place alone, so that another implementation
can fill its parameters in the same way and must give the same outputs.
"""

import zlib
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench.nn.encoders import ARCHITECTURES, build, published_name

_TINY = {"dim": 32, "depth": 2, "heads": 2}
_TINY_BEATS = {**_TINY, "hidden": 48, "patch_dim": 24, "conv_groups": 4}
_TINY_SPEECH = {**_TINY, "hidden": 48, "channels": 16}

SMALL: Mapping[str, Mapping[str, Any]] = {
    name: _TINY_BEATS
    if name == "beats-iter3"
    else _TINY_SPEECH
    if name.startswith(("wav2vec2", "hubert", "wavlm"))
    else _TINY
    for name in ARCHITECTURES
}
"""Settings of a small encoder of each architecture: 2 layers with tokens of length 32."""


def random_state(architecture: str, *, small: bool = True) -> dict[str, Tensor]:
    """Return a checkpoint with the names of the published one, and its shapes if not ``small``.

    A parameter that several layers share has the numbers of its first name.

    Parameters
    ----------
    architecture : a name of ``asdbench.nn.encoders.ARCHITECTURES``
    small : shapes of the encoder that is built with the settings ``SMALL[architecture]``

    Examples
    --------
    >>> state = random_state("ced-tiny")
    >>> state["encoder.norm.weight"].shape, state["outputlayer.1.bias"].shape
    (torch.Size([32]), torch.Size([527]))
    """
    with torch.device("meta"):
        encoder = build(architecture, **(SMALL[architecture] if small else {}))
    names = ARCHITECTURES[architecture]
    state, first_names = {}, dict[int, str]()
    for name, value in encoder.state_dict(keep_vars=True).items():
        published = published_name(name)
        numbers = random_tensor(first_names.setdefault(id(value), published), value)
        state[names.prefix + published] = numbers
    return {**state, **_head(encoder.dim)} if names.unused else state


def random_tensor(name: str, like: Tensor) -> Tensor:
    """Return the numbers of a parameter.

    Number i is u = h / 2^31 - 1 in [-1, 1) with h a hash of i and the CRC-32 of the name. Weights of two and
    more dimensions are u · sqrt(3 / inputs), gains of norms 1 + u / 4, variances and gains of weight norm
    1 + u / 2, all else u / 4; a counter of batches is 1.
    """
    if not like.dtype.is_floating_point:
        return torch.ones(like.shape, dtype=like.dtype)
    numbers: Tensor = torch.from_numpy(_uniform(name, like.numel())).reshape(like.shape)
    if name.endswith(("running_var", "weight_g", "grep_a")):
        return 1 + numbers / 2
    if like.ndim == 1 and name.endswith("weight"):
        return 1 + numbers / 4
    if like.ndim >= 2 and name.endswith(("weight", "weight_v")):
        return numbers * float((3 / prod(like.shape[1:])) ** 0.5)
    return numbers / 4


def _uniform(name: str, count: int) -> NDArray[np.float32]:
    h = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(zlib.crc32(name.encode()))
    for _ in range(2):
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x45D9F3B)
    h ^= h >> np.uint32(16)
    return (h / 2.0**31 - 1).astype(np.float32)


def _head(dim: int) -> dict[str, Tensor]:
    """Return the head of 527 classes that the published file of CED has."""
    shapes = {"0.weight": (dim,), "0.bias": (dim,), "1.weight": (527, dim), "1.bias": (527,)}
    names = {f"outputlayer.{name}": torch.empty(shape) for name, shape in shapes.items()}
    return {name: random_tensor(name, value) for name, value in names.items()}
