"""Batches as they are stored (`RawBatch`): what a loader hands over to the device that prepares them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from asdbench.features.augment import Group


@dataclass(frozen=True)
class RawBatch:
    """Windows of clips as they are stored, and everything that a system may know about them.

    `BatchPreparation` makes a :class:`~asdbench.system.ClipBatch` of it. Attributes that are not listed are
    those of the same name there.

    Attributes
    ----------
    windows
        Half[Tensor, "slot frame mel"], log-mel in dB, of the rows whose waveform no transform changes.
    samples
        Short[Tensor, "slot sample"], the samples of the windows; only if
        ``InputSpec.waveform``.
    rows
        Long[Tensor, "slot"], place in the batch of the row that takes a slot of ``windows`` and ``samples``;
        the number of rows of the batch, if none does. ``None``: every row has a slot, in order.
    groups
        The rows that a transform changes; only in training steps of a plan that has augmentations.
    contexts
        Short[Tensor, "slot sample"] by transform: what the groups of it are computed from.
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
    rows: Tensor | None = None
    groups: tuple[Group, ...] = ()
    contexts: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors())

    def tensors(self) -> list[Tensor]:
        """Return all tensors."""
        found: list[Tensor] = []

        def keep(tensor: Tensor) -> Tensor:
            found.append(tensor)
            return tensor

        self.map(keep)
        return found

    def pinned(self) -> "RawBatch":
        """Return the batch in page-locked memory, from which a GPU copies asynchronously."""
        return self.map(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> "RawBatch":
        """Return the batch on ``device``; the copy of a pinned batch is asynchronous."""
        if self.windows.device == device:
            return self
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def map(self, change: Callable[[Tensor], Tensor]) -> "RawBatch":
        """Return the batch with every tensor changed."""
        changed: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        for name, tensors in (("features", self.features), ("contexts", self.contexts)):
            changed[name] = {key: change(value) for key, value in tensors.items()}
        return replace(self, groups=tuple(group.map(change) for group in self.groups), **changed)
