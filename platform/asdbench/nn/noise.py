"""Noise that belongs to a row: the same however the rows of a batch are spread over processes.

Each row is drawn from a generator that is seeded with the row's key (``ClipBatch.row_keys``) and with what
the draw is for. On a CPU this takes no longer than one draw for all rows. Torch's CPU generator looks at the
lower 32 bits of a seed alone: two rows of a long training may get equal noise.
"""

import zlib

import torch
from torch import Tensor


def normal_by_row(keys: Tensor, *shape: int, draw: str) -> Tensor:
    """Return standard normal values, Float[Tensor, "row ..."] in float32, on the device of ``keys``.

    Parameters
    ----------
    keys : Long[Tensor, "row"], of at least 0
    shape : of a row
    draw : what for; a row's draws under different names are independent
    """
    values = torch.empty(len(keys), *shape, device=keys.device)
    generator, offset = torch.Generator(keys.device), zlib.crc32(draw.encode())
    for row, key in zip(values, keys.tolist(), strict=True):
        row.normal_(generator=generator.manual_seed(key + offset))
    return values
