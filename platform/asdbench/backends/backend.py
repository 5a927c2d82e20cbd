"""The contract of a back end and the checks that all back ends share.

Conventions: an embedding belongs to one window of a clip; ``target`` is true in the target domain. Scores are
float64, higher = more anomalous; the score of a window does not depend on other windows. All state of a back
end is in buffers, which are empty before ``fit`` and of any shape afterwards: loading its buffers restores a
fitted back end. What scoring derives from them (`FromBuffers`) is neither stored nor copied.
"""

import abc
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from asdbench.errors import InputError

T = TypeVar("T")


class FromBuffers(nn.Module):
    """A module that keeps what it has computed from its buffers as long as they do not change."""

    _computed: tuple[list[tuple[Tensor, int, int]], Any] | None = None

    def _prepared(self, compute: Callable[[], T]) -> T:
        """Return what ``compute`` returns, computed once for the present values of the buffers."""
        now = [(buffer, _version(buffer), buffer.data_ptr()) for buffer in self.buffers()]
        if self._computed is None or not _are_same(self._computed[0], now):
            with torch.inference_mode(False), torch.no_grad():  # for calls in any mode
                self._computed = now, compute()
        result: T = self._computed[1]
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_computed"}


def _version(buffer: Tensor) -> int:
    """Return a number that an operation in place increases; tensors of inference mode have none."""
    return 0 if buffer.is_inference() else buffer._version


def _are_same(before: list[tuple[Tensor, int, int]], now: list[tuple[Tensor, int, int]]) -> bool:
    return len(before) == len(now) and all(
        old is new and of_old == of_new for (old, *of_old), (new, *of_new) in zip(before, now, strict=True)
    )


class Backend(FromBuffers, abc.ABC):
    """Base class of back ends, which score embeddings by their distance from those of training normals.

    A subclass passes the names of its buffers; the last axis of the first one is the dimension of embeddings.
    """

    def __init__(self, *state: str) -> None:
        super().__init__()
        for name in state:
            self.register_buffer(name, torch.empty(0))

    @torch.no_grad()
    def fit(self, embeddings: Tensor, target: Tensor, *, clip: Tensor, seed: int) -> None:
        """Fit to the windows of training normals; equal inputs and seeds give equal buffers.

        A single window counts twice.

        Parameters
        ----------
        embeddings : Float[Tensor, "window dim"]
        target : Bool[Tensor, "window"], true in the target domain
        clip : Long[Tensor, "window"], the clip of each window, numbered over the whole training set
        seed : seed of the random numbers of the fit

        Raises
        ------
        InputError
            There is no window, a shape or type is wrong, or an embedding is not finite.

        Examples
        --------
        >>> from asdbench.backends import NearestNeighbors
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> backend, target = NearestNeighbors(), torch.tensor([False, True])
        >>> backend.fit(embeddings, target, clip=torch.arange(2), seed=0)
        >>> backend.score(torch.tensor([[2.0, 0.0], [-1.0, -1.0]])).round(decimals=4)
        tensor([0.0000, 1.7071], dtype=torch.float64)
        """
        _check_embeddings(embeddings)
        if not embeddings.numel():
            raise InputError(
                f"embeddings have shape {tuple(embeddings.shape)}; a back end needs at least one window of a "
                "training normal"
            )
        for name, values, allowed in (
            ("target", target, (torch.bool,)),
            ("clip", clip, (torch.int64, torch.int32)),
        ):
            if values.shape != embeddings.shape[:1] or values.dtype not in allowed:
                raise InputError(
                    f"{name} has shape {tuple(values.shape)} and type {values.dtype} for "
                    f"{len(embeddings)} windows; give one {allowed[0]} per window"
                )
        if not embeddings.isfinite().all():
            raise InputError(
                f"{int((~embeddings.isfinite()).any(dim=1).sum())} of {len(embeddings)} training embeddings "
                "are not finite; the training has diverged, so lower its learning rate"
            )
        count = 2 if len(embeddings) == 1 else 1
        windows = [  # copies
            values.to(embeddings.device).repeat_interleave(count, dim=0)
            for values in (embeddings, target, clip)
        ]
        self._fit(windows[0], windows[1], windows[2], seed)

    def score(self, embeddings: Tensor) -> Tensor:
        """Return the anomaly score of each window.

        Parameters
        ----------
        embeddings : Float[Tensor, "window dim"], on the back end's device

        Returns
        -------
        Float64[Tensor, "window"]

        Raises
        ------
        InputError
            The dimension of the embeddings differs from that of the fit.
        RuntimeError
            The back end has not been fitted.
        """
        return self._score(self._checked(embeddings))

    def _checked(self, embeddings: Tensor) -> Tensor:
        dim = next(self.buffers()).shape[-1]
        if not dim:
            raise RuntimeError(f"{type(self).__name__} has not been fitted; call fit before score")
        _check_embeddings(embeddings)
        if embeddings.shape[1] != dim:
            raise InputError(
                f"embeddings have {embeddings.shape[1]} dimensions, but {type(self).__name__} was fitted to "
                f"{dim}; fit and score the same embeddings"
            )
        return embeddings.double()

    @abc.abstractmethod
    def _fit(self, embeddings: Tensor, target: Tensor, clip: Tensor, seed: int) -> None:
        """Set the buffers from at least two windows; all tensors are on one device."""

    @abc.abstractmethod
    def _score(self, embeddings: Tensor) -> Tensor:
        """Return Float64[Tensor, "window"] for Float64[Tensor, "window dim"]."""


def _check_embeddings(embeddings: Tensor) -> None:
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        raise InputError(
            f"embeddings have shape {tuple(embeddings.shape)} and type {embeddings.dtype}; give floating "
            "point numbers of shape (window, dim)"
        )


def at_least(name: str, value: int, least: int = 1) -> int:
    """Return ``value``, or raise `InputError` if it is below ``least``."""
    if value < least:
        raise InputError(f"{name} is {value}; give at least {least}")
    return value
