"""What is stored of the rows of a training step that has transforms: contexts, and windows that stay intact.

Only a row whose waveform stays as it is has its stored window read. Each kind of rows has as many slots in
every step, so that no shape depends on what was drawn.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench.data.clip_windows import crop_samples, first_sample
from asdbench.data.stored_inputs import StoredInputs, WindowInputs
from asdbench.data.training_rows import Rows
from asdbench.features.augment import ON_WAVEFORM, Group
from asdbench.features.transform_draws import draw, slots
from asdbench.spec import MelSpec


class TransformInputs(WindowInputs):
    """What a `RawBatch` holds of windows that pass through transforms."""

    rows: Tensor
    groups: tuple[Group, ...]
    contexts: dict[str, Tensor]


def transform_inputs(
    stored: StoredInputs,
    rows: Rows,
    machine: NDArray[np.int64],
    clip_id: NDArray[np.int64],
    frame: NDArray[np.int64],
    names: tuple[str, ...],
    mel: MelSpec,
    *,
    length: int,
    room: Mapping[str, int],
) -> TransformInputs:
    """Return what the rows of one process need for their transforms.

    Parameters
    ----------
    stored : where it is
    rows : of the process
    machine, clip_id, frame : Int[ndarray, "row"], machine type and clip of each row, and the frame of the
        clip that its window begins at
    names : transforms of the batch plan
    mel : parameters of the spectrogram
    length : of a window, in frames
    room : number of slots by transform, see `room_of`
    """
    assert rows.transforms is not None
    sizes = torch.from_numpy(stored.waveforms.sizes(machine, clip_id))
    first = torch.from_numpy(first_sample(frame, mel))
    crop, window = crop_samples(mel, length), (length, mel.n_mels)
    groups = draw(names, rows.transforms, rows.keys, first, sizes, room, length=crop, window=window)
    taken = _intact(names, rows.transforms, room)
    of_slot = taken.clamp(max=len(machine) - 1).numpy()
    contexts = {
        group.transform: stored.waveforms.contexts(
            machine[sources], clip_id[sources], group.first.numpy(), group.samples, circular=True
        )
        for group in groups
        if group.transform in ON_WAVEFORM
        for sources in [group.sources.numpy()]  # numpy takes a tensor with one element for a number
    }
    windows = stored.windows(machine[of_slot], clip_id[of_slot], rows.starts[of_slot], length)
    return TransformInputs(**windows, rows=taken, groups=groups, contexts=contexts)


@lru_cache
def room_of(names: tuple[str, ...], rows: int, processes: int) -> Mapping[str, int]:
    """Return the slots of each transform in every batch of a process; see `slots`."""
    return slots(names, rows, processes)


def _intact(names: Sequence[str], chosen: Tensor, room: Mapping[str, int]) -> Tensor:
    """Return the rows whose waveform stays as it is, Long[Tensor, "slot"]; later slots are free."""
    is_intact = torch.tensor([name not in ON_WAVEFORM for name in names])
    rows = is_intact[chosen].nonzero().flatten()
    most = min(len(chosen), sum(count for name, count in room.items() if name not in ON_WAVEFORM))
    taken = torch.full((most,), len(chosen))
    taken[: len(rows)] = rows
    return taken
