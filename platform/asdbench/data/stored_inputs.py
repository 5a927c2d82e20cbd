"""What is stored of the clips of machine types, gathered for batches: spectrograms, samples, embeddings."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench.data import feature_store
from asdbench.data.clip_windows import crop_samples, feature_starts, first_sample
from asdbench.data.embeddings import embeddings
from asdbench.data.mel_frames import MelFrames
from asdbench.data.sample_contexts import Waveforms, spans
from asdbench.data.sets.catalog import DataSet
from asdbench.errors import InputError
from asdbench.system import InputSpec


class WindowInputs(TypedDict):
    """What a `RawBatch` holds of its windows as it is stored."""

    windows: Tensor
    samples: Tensor | None
    second_samples: Tensor | None
    features: dict[str, Tensor]


class StoredInputs:
    """The stored features of some machine types that a system with this input specification reads.

    Parameters
    ----------
    sources : the machine types, each with its data set
    input_spec : what the system reads
    """

    def __init__(self, sources: Sequence[tuple[DataSet, str]], input_spec: InputSpec) -> None:
        self.sources, self._spec = sources, input_spec

    @cached_property
    def mels(self) -> MelFrames:
        """The spectrograms."""
        return MelFrames(self.sources, self._spec.mel, min_frames=self._spec.min_frames)

    @cached_property
    def features(self) -> dict[str, MelFrames]:
        """The further spectrograms."""
        least = self._spec.min_frames
        return {
            name: MelFrames(self.sources, mel, min_frames=self._spec.frames_of(mel, least))
            for name, mel in self._spec.features.items()
        }

    @cached_property
    def waveforms(self) -> Waveforms:
        """The samples."""
        return Waveforms(self.sources, least_samples=self._least_samples)

    @cached_property
    def second_waveforms(self) -> Waveforms:
        """The samples of the far microphone."""
        far = [(replace(data, channels="far"), machine) for data, machine in self.sources]
        return Waveforms(far, least_samples=self._least_samples)

    @property
    def _least_samples(self) -> int:
        return self._spec.mel.hop_samples * (self._spec.min_frames - 1)

    @cached_property
    def _encoded(self) -> list[feature_store.Shard]:
        assert self._spec.encoder is not None
        return [embeddings(data, machine, self._spec.encoder) for data, machine in self.sources]

    def windows(
        self, machine: NDArray[np.int64], clip_id: NDArray[np.int64], starts: NDArray[np.int64], length: int
    ) -> WindowInputs:
        """Return what is stored of windows of ``length`` frames.

        Parameters
        ----------
        machine, clip_id : Int[ndarray, "row"], index of each row's machine type, and its clip
        starts : Int[ndarray, "row"], first frame of each row among those of its machine type
        length : number of frames
        """
        spec = self._spec
        inputs = WindowInputs(
            windows=self.mels.windows(machine, starts, length), samples=None, second_samples=None, features={}
        )
        if not (spec.waveform or spec.second_channel or spec.features):
            return inputs
        frame = starts - _first_frames(self.mels, machine, clip_id)
        first, samples = first_sample(frame, spec.mel), crop_samples(spec.mel, length)
        if spec.waveform:
            inputs["samples"] = self.waveforms.contexts(machine, clip_id, first, samples)
        if spec.second_channel:
            inputs["second_samples"] = self.second_waveforms.contexts(machine, clip_id, first, samples)
        for name, mels in self.features.items():
            begin = _first_frames(mels, machine, clip_id) + feature_starts(frame, spec, mels.spec)
            inputs["features"][name] = mels.windows(machine, begin, spec.frames_of(mels.spec, length))
        return inputs

    def tokens(self, machine: NDArray[np.int64], clip_id: NDArray[np.int64]) -> Tensor | None:
        """Return the embeddings of whole clips, Half[Tensor, "clip time band dim"], if the system reads them.

        Raises :class:`InputError` if they are of different lengths.
        """
        if self._spec.encoder is None:
            return None
        tokens = [self._encoded[which].tokens(int(c)) for which, c in zip(machine, clip_id, strict=True)]
        if len({len(of_clip) for of_clip in tokens}) > 1:
            raise InputError(
                "the clips of a training step have embeddings of different lengths; read embeddings in "
                "fit_backend and components, or train on clips of equal length"
            )
        return torch.from_numpy(np.stack(tokens))

    def token_times(self, machine: NDArray[np.int64], clip_id: NDArray[np.int64]) -> list[int] | None:
        """Return the number of times of each clip's embeddings, if the system reads them."""
        if self._spec.encoder is None:
            return None
        pairs = zip(machine, clip_id, strict=True)
        return [len(self._encoded[which].clip(int(clip))) for which, clip in pairs]


def _first_frames(
    mels: MelFrames, machine: NDArray[np.int64], clip_id: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the first frame of each row's clip among those of its machine type; shape (row,)."""
    first = np.empty(len(machine), np.int64)
    for which in np.unique(machine):
        rows = machine == which
        first[rows], _ = spans(mels.layouts[which], clip_id[rows])
    return first
