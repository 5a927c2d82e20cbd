"""The rows of all processes that share a batch, for layers that relate rows to one another.

A process of a data-parallel training has some rows of the batch only. What relates rows, such as mixing each
with another one, must not depend on how they are spread: it takes the rows of all processes, and an order
that is the rows' own (:func:`partners`).
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class AllRows(nn.Module):
    """Gathers rows of all processes in a training step; outside of training, and alone, it returns its input.

    The platform sets ``group`` and ``is_shared`` when it distributes a training. No gradient flows back.

    Examples
    --------
    >>> AllRows()(torch.arange(3))
    tensor([0, 1, 2])
    """

    def __init__(self) -> None:
        super().__init__()
        self.group: Any = None
        self.is_shared = False

    @torch.no_grad()
    def forward(self, rows: Tensor) -> Tensor:
        """Return those of all processes, one process after the other, of [Tensor, "row ..."]."""
        if not (self.training and self.is_shared):
            return rows
        count = torch.tensor([len(rows)], device=rows.device)
        counts = [torch.empty_like(count) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(counts, count, group=self.group)
        sizes = [int(each) for each in counts]
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(gathered, padded, group=self.group)
        return torch.cat([each[:size] for each, size in zip(gathered, sizes, strict=True)])


def partners(keys: Tensor, all_keys: Tensor) -> Tensor:
    """Return for each row another one of the batch: the one with the next higher key, or else the lowest.

    Keys are random, so this is a random cycle through all rows, the same however they are spread.

    Parameters
    ----------
    keys : Long[Tensor, "row"], those of this process
    all_keys : Long[Tensor, "any"], those of all processes

    Returns
    -------
    Long[Tensor, "row"], indices into ``all_keys``

    Examples
    --------
    >>> partners(torch.tensor([30, 10]), torch.tensor([20, 30, 10]))
    tensor([2, 0])
    """
    ordered, order = all_keys.sort(stable=True)
    place = torch.searchsorted(ordered, keys.contiguous(), right=True) % len(all_keys)
    return order[place]
