"""Sums of losses and monitors over steps, kept on the device and read in one transfer."""

from collections.abc import Mapping

import torch
from torch import Tensor

from asdbench.errors import InputError


class LossSums:
    """The sums of what steps return, by name; adding never waits for the device.

    Examples
    --------
    >>> sums = LossSums()
    >>> sums.add({"loss": torch.tensor(1.0)})
    >>> sums.add({"loss": torch.tensor(2.0)})
    >>> sums.read()
    ({'loss': 1.0}, {'loss': 1.5})
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._first = self._sums = torch.empty(0)
        self._count = 0

    def add(self, means: Mapping[str, Tensor]) -> None:
        """Add the means of a step, each Float[Tensor, ""].

        Raises
        ------
        InputError : an earlier step has had other names
        """
        names = self._names if self._count else tuple(means)
        if other := means.keys() ^ set(names):
            raise InputError(
                f"forward returns {min(other)!r} in some steps of a stage and not in others; return the same "
                f"losses and monitors in every step"
            )
        values = torch.stack([means[name] for name in names])
        if not self._count:
            self._names, self._first = names, values
            self._sums = torch.zeros_like(values, dtype=torch.double)
        self._sums += values
        self._count += 1

    def read(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return the values of the first step and the means over all steps, and begin again."""
        first, sums = torch.stack([self._first.double(), self._sums]).tolist()
        means = {name: value / self._count for name, value in zip(self._names, sums, strict=True)}
        firsts = dict(zip(self._names, first, strict=True))
        self._count = 0
        return firsts, means
