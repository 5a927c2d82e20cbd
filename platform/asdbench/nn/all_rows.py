"""The rows of all processes that share a batch, for layers that relate rows to one another.

A process of a data-parallel training has some rows of the batch only. What relates rows, such as mixing each
with another one, must not depend on how they are spread: it takes the rows of all processes, and an order
that is the rows' own (:func:`partners`).
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import pad

PADDING = torch.iinfo(torch.int64).max
"""The key of what is no row: processes whose shares differ in length send equally many rows."""


class AllRows(nn.Module):
    """Gathers rows of all processes in a training step; outside of training, and alone, it returns its input.

    No gradient flows back. The one collective has a fixed shape, so that nobody waits for a length.

    Examples
    --------
    >>> AllRows()(torch.tensor([30, 10]), torch.zeros(2, 3))[0]
    tensor([30, 10])
    """

    def __init__(self) -> None:
        super().__init__()
        self._group: Any = None
        self._size, self._capacity = 1, 0

    def share(self, group: Any, *, rows: int) -> None:
        """Gather from now on, from the processes of ``group`` that share batches of up to ``rows`` rows."""
        self._group, self._size = group, dist.get_world_size(group)
        self._capacity = -(-rows // self._size)

    @torch.no_grad()
    def forward(self, keys: Tensor, *columns: Tensor) -> tuple[Tensor, ...]:
        """Return those of all processes, one process after the other, in one collective.

        Parameters
        ----------
        keys : Long[Tensor, "row"], the row keys of this process
        columns : [Tensor, "row ..."], further values of its rows

        Returns
        -------
        tuple
            Long[Tensor, "any"] and [Tensor, "any ..."] for each column; what is no row has the key `PADDING`
            and zeros.
        """
        if not (self.training and self._size > 1):
            return keys, *columns
        missing = self._capacity - len(keys)
        own = [
            torch.cat([keys, keys.new_full((missing,), PADDING)]),
            *(_padded(each, missing) for each in columns),
        ]
        packed = [each.reshape(self._capacity, -1).contiguous().view(torch.uint8) for each in own]
        together = torch.cat(packed, dim=1)
        gathered = [torch.empty_like(together) for _ in range(self._size)]
        dist.all_gather(gathered, together, group=self._group)
        parts = torch.split_with_sizes(torch.cat(gathered), [each.shape[1] for each in packed], dim=1)
        return tuple(
            part.contiguous().view(each.dtype).reshape(-1, *each.shape[1:])
            for part, each in zip(parts, own, strict=True)
        )


def _padded(column: Tensor, missing: int) -> Tensor:
    return pad(column, (0, 0) * (column.dim() - 1) + (0, missing))


def partners(keys: Tensor, all_keys: Tensor) -> Tensor:
    """Return for each row another one of the batch: the one with the next higher key, or else the lowest.

    Keys are random, so this is a random cycle through all rows, the same however they are spread.

    Parameters
    ----------
    keys : Long[Tensor, "row"], those of this process
    all_keys : Long[Tensor, "any"], those of all processes; `PADDING` is no row

    Returns
    -------
    Long[Tensor, "row"], indices into ``all_keys``

    Examples
    --------
    >>> partners(torch.tensor([30, 10]), torch.tensor([20, 30, 10, PADDING]))
    tensor([2, 0])
    """
    ordered, order = all_keys.sort(stable=True)
    place = torch.searchsorted(ordered, keys.contiguous(), right=True)
    return order[place % (all_keys != PADDING).sum()]
