"""Puts the rows of a training batch through the transforms that their keys draw."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from asdbench.data.clip_windows import crop_samples, first_sample
from asdbench.data.preparation import BatchPreparation
from asdbench.data.sample_contexts import Waveforms
from asdbench.data.training_clips import TrainingClips
from asdbench.data.training_rows import Rows
from asdbench.features.augment import ON_WAVEFORM
from asdbench.features.mel import log_mel_of_padded
from asdbench.features.row_by_row import augmented_crops, mask_windows
from asdbench.spec import MelSpec
from asdbench.system import ClipBatch


def transformed(
    batch: ClipBatch,
    rows: Rows,
    names: tuple[str, ...],
    clips: TrainingClips,
    waveforms: Waveforms,
    mel: MelSpec,
    preparation: BatchPreparation,
) -> ClipBatch:
    """Put every row through the transform that its key draws; one of the waveform changes both inputs."""
    drawn = rows.keys % len(names)
    transforms = [names[which] for which in drawn]
    changed = np.flatnonzero([name in ON_WAVEFORM for name in transforms])
    if len(changed):
        crops = augmented_crops(
            [_samples(waveforms, int(clips.machine[c]), int(clips.clip_id[c])) for c in rows.clip[changed]],
            first_sample(rows.starts - clips.start[rows.clip], mel)[changed].tolist(),
            crop_samples(mel, batch.windows.shape[1]),
            transforms=[transforms[row] for row in changed],
            keys=rows.keys[changed].tolist(),
        )
        mels = log_mel_of_padded(crops, mel).half().float()  # rounded as those that are stored
        places = torch.from_numpy(changed)
        batch.windows[places] = preparation.windows(mels, batch.machine[places])
        if batch.waveform is not None:
            batch.waveform[places] = crops
    mask_windows(batch.windows, transforms=transforms, keys=rows.keys.tolist())
    return replace(batch, augmentation=torch.from_numpy(drawn))


def _samples(waveforms: Waveforms, machine: int, clip_id: int) -> NDArray[np.int16]:
    """Return the samples of a clip, repeated end to end where it is shorter than a window."""
    samples: NDArray[np.int16] = waveforms.shards[machine].clip(clip_id)
    least = waveforms.least_samples
    return samples if len(samples) >= least else np.resize(samples, least)
