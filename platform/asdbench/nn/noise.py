"""Noise per row, which does not depend on how the rows of a batch are spread over processes.

Each row has a generator that is seeded with the row's key (``ClipBatch.row_keys``) and the name of the draw.
On a CPU this takes no longer than one draw for all rows. Torch's CPU generator uses only the lower 32 bits of
a seed: two rows of a long training may get equal noise.
"""

import zlib

import torch
from torch import Tensor


def normal_by_row(keys: Tensor, *shape: int, draw: str) -> Tensor:
    """Return standard normal values, Float[Tensor, "row ..."] in float32, on the device of ``keys``.

    Parameters
    ----------
    keys : Long[Tensor, "row"], of at least 0
    shape : shape of a row
    draw : name of the draw; draws of a row with different names are independent

    Examples
    --------
    >>> keys = torch.tensor([7, 8, 7])
    >>> noise = normal_by_row(keys, 16, draw="latent")
    >>> torch.equal(noise[0], noise[2]), torch.equal(noise[0], noise[1])
    (True, False)
    """
    values = torch.empty(len(keys), *shape, device=keys.device)
    generator, offset = torch.Generator(keys.device), zlib.crc32(draw.encode())
    for row, key in zip(values, keys.tolist(), strict=True):
        row.normal_(generator=generator.manual_seed(key + offset))
    return values


def uniform_by_row(keys: Tensor, *, draw: str) -> Tensor:
    """Return a uniform value from 0 to 1 for each row, Float[Tensor, "row"]; see :func:`normal_by_row`.

    Examples
    --------
    >>> keys = torch.tensor([7, 8, 7])
    >>> values = uniform_by_row(keys, draw="mixup")
    >>> bool(values[0] == values[2]), bool(values[0] == values[1])
    (True, False)
    """
    values = torch.empty(len(keys), device=keys.device)
    generator, offset = torch.Generator(keys.device), zlib.crc32(draw.encode())
    for row, key in zip(values, keys.tolist(), strict=True):
        row.uniform_(generator=generator.manual_seed(key + offset))
    return values
