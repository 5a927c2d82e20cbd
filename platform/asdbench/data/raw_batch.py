"""Batches as they are stored (`RawBatch`): what a loader hands over to the device that prepares them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class RawBatch:
    """Windows of clips as they are stored, and everything that a system may know about them.

    `BatchPreparation` makes a :class:`~asdbench.system.ClipBatch` of it. Attributes that are not listed are
    those of the same name there.

    Attributes
    ----------
    windows
        Half[Tensor, "row frame mel"], log-mel in dB.
    samples
        Short[Tensor, "row sample"], those of which the windows' frames are computed; only if
        ``InputSpec.waveform``.
    second_samples
        Short[Tensor, "row sample"], the same of the far microphone; only if ``InputSpec.second_channel``.
    features
        Half[Tensor, "row frame mel"] by name, the further spectrograms of ``InputSpec.features``, in dB.
    encoded
        Half[Tensor, "clip time band dim"], the embeddings of whole clips; only if ``InputSpec.encoder``.
    """

    windows: Tensor
    clip: Tensor
    n_clips: int
    machine: Tensor
    section: Tensor
    own_rows: int | None = None
    domain: Tensor | None = None
    attributes: Tensor | None = None
    group: Tensor | None = None
    row_keys: Tensor | None = None
    augmentation: Tensor | None = None
    samples: Tensor | None = None
    encoded: Tensor | None = None
    second_samples: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    supplemental: Tensor | None = None
    pseudo_label: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors())

    def tensors(self) -> Iterator[Tensor]:
        """Yield all tensors."""
        for value in vars(self).values():
            if isinstance(value, Tensor):
                yield value
        yield from self.features.values()

    def pinned(self) -> "RawBatch":
        """Return the batch in page-locked memory, from which a GPU copies asynchronously."""
        return self._map_tensors(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> "RawBatch":
        """Return the batch on ``device``; the copy of a pinned batch is asynchronous."""
        if self.windows.device == device:
            return self
        return self._map_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def _map_tensors(self, function: Callable[[Tensor], Tensor]) -> "RawBatch":
        mapped: dict[str, Any] = {
            name: function(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        features = {name: function(value) for name, value in self.features.items()}
        return replace(self, features=features, **mapped)
