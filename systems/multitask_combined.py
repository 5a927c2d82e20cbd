"""Multitask learning on log-mel windows joined with features learned from the waveform.

System 2 of Zhang & Li, "Anomalous sound detection via multitask learning and adversarial learning", DCASE
2023 Challenge, Task 2, technical report: ``multitask-mel`` with the frames of a TgramNet (Liu et al.,
"Anomalous sound detection using spectral-temporal information fusion", ICASSP 2022) next to the mel bands.

Departures: TgramNet's kernel is the log-mel's window and its stride the log-mel's hop, without padding, so
that frame t of both covers the same samples; the two are joined along the feature axis, because a conformer
takes a sequence.
"""

from dataclasses import replace

import torch
from torch import Tensor

from asdbench.nn.tgram import TgramNet
from asdbench.system import ClipBatch, InputSpec, TrainingFacts
from systems.multitask_mel import Config, MultitaskMel


class MultitaskCombined(MultitaskMel):
    """``multitask-mel`` with 128 additional features learned from the waveform; 3.46 million parameters."""

    inputs_per_mel = 2

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        mel = self.input_spec(config).mel
        self.tgram = TgramNet(
            config.window_frames,
            channels=config.n_mels,
            kernel_samples=mel.n_fft,
            hop_samples=mel.hop_samples,
        )

    @classmethod
    def input_spec(cls, config: Config) -> InputSpec:
        """Return the same windows, and the samples that they are computed from."""
        return replace(super().input_spec(config), waveform=True)

    def features(self, batch: ClipBatch) -> Tensor:
        """Return the mel bands and TgramNet's channels of each frame, concatenated."""
        assert batch.waveform is not None
        return torch.cat([batch.windows, self.tgram(batch.waveform).to(batch.windows.dtype)], dim=2)
