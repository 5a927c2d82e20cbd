"""A control that trains nothing: one Gaussian over spectral statistics of whole clips.

A detector that learns should beat this one. Each clip is described by statistics x of its log-mel
spectrogram, which is standardized per band with the training frames: for each band the mean, the deviation
and the deviation of frame differences, and a modulation spectrum. For the latter, bands are averaged in 16
groups; the power spectrum of each group over time, without its mean, is averaged in the eight octaves below
half the frame rate (0.12 to 31 Hz with the default hop), and its logarithm is taken. With 128 bands, x has
512 dimensions. The score is

    (x - m)' (C + ridge · D)^-1 (x - m),

with mean m and covariance C of both domains' training clips together and D the diagonal of C: a ridge on the
covariance of standardized dimensions. There are fewer clips than dimensions, so without a ridge there is no
inverse. Covariance is what matters: distances between the same statistics without it rank far worse.

The statistics are classical and the score is that of P. C. Mahalanobis, "On the generalised distance in
statistics", Proceedings of the National Institute of Sciences of India 2, 1936. Modulation spectra are
zero-padded to 512 frames, so that short clips have all octaves; a clip of one frame counts as two equal ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d

from asdbench.backends import Gaussian
from asdbench.config import Range, tunable
from asdbench.spec import MelSpec
from asdbench.system import (
    BatchPlan,
    ClipBatch,
    InputSpec,
    Stage,
    System,
    TrainingFacts,
    once_per_batch,
    training_embeddings,
)

GROUPS = 16  # of bands, in the modulation spectrum
OCTAVES = 8
_LEAST_POWER = 1e-6  # of a modulation, where the variance of a band is 1


@dataclass(frozen=True)
class Config:
    """Settings; the ridge is relative to the variance of each dimension."""

    n_fft: int = tunable(1024, minimum=64, maximum=16_384)
    hop_samples: int = tunable(256, minimum=16, maximum=16_384)
    n_mels: int = tunable(128, minimum=GROUPS, maximum=512)
    ridge: float = tunable(0.1, Range(0.01, 3.0, log=True), affects="scoring", minimum=1e-6)


class SpectraGauss(System[Config]):
    """Squared Mahalanobis distance of a clip's spectral statistics; nothing is trained."""

    citation = """@article{mahalanobis1936generalised,
  author = {Mahalanobis, Prasanta Chandra},
  title = {On the generalised distance in statistics},
  journal = {Proceedings of the National Institute of Sciences of India},
  volume = {2},
  year = {1936}
}"""
    chosen_on = ("shop", "demo")  # statistics, hop and ridge; see docs/systems.md

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.gaussian = Gaussian(config.ridge)

    @classmethod
    def input_spec(cls, config: Config) -> InputSpec:
        """Return whole clips, standardized per band."""
        mel = MelSpec(config.n_fft, config.hop_samples, config.n_mels)
        return InputSpec(mel, window_frames=None, standardize=True)

    @classmethod
    def batch_plan(cls, config: Config) -> BatchPlan:
        """Return a plan that only serves the fit: it draws no pseudo-anomalies."""
        return BatchPlan(size=32, draw="window-per-clip", hold_out="cross-fit")

    def stages(self, steps_per_epoch: int) -> list[Stage]:
        """Return no stages."""
        return []

    def fit_backend(self, batches: Iterable[ClipBatch]) -> None:
        """Fit the Gaussian to the statistics of all training clips."""
        statistics, target, clip = training_embeddings(batches, self.embeddings)
        self.gaussian.fit(statistics, target, clip=clip, seed=0)

    def components(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Return ``distance``: the squared Mahalanobis distance."""
        return {"distance": self.gaussian.score(self.embeddings(batch))}

    @once_per_batch
    def embeddings(self, batch: ClipBatch) -> Tensor:
        """Return the statistics of each clip."""
        return clip_statistics(batch.windows)


def clip_statistics(clips: Tensor) -> Tensor:
    """Return Float[Tensor, "clip dim"] of standardized spectrograms, Float[Tensor, "clip frame mel"]."""
    if clips.shape[1] == 1:
        clips = clips.expand(-1, 2, -1)
    differences = clips.diff(dim=1)
    parts = [clips.mean(dim=1), clips.std(dim=1, correction=0), differences.std(dim=1, correction=0)]
    return torch.cat([*parts, modulation_spectrum(adaptive_avg_pool1d(clips, GROUPS)).flatten(1)], dim=1)


def modulation_spectrum(series: Tensor) -> Tensor:
    """Return the log power in each octave, Float[Tensor, "clip octave group"], from "clip frame group"."""
    frames = series.shape[1]
    padded = max(frames, 2 ** (OCTAVES + 1))
    power = torch.fft.rfft(series - series.mean(dim=1, keepdim=True), n=padded, dim=1).abs().square() / frames
    relative = torch.arange(1, power.shape[1], device=series.device, dtype=torch.float64) * 2 / padded
    octave = -relative.log2()
    octaves = [power[:, 1:][:, (octave >= low) & (octave < low + 1)].mean(dim=1) for low in range(OCTAVES)]
    return torch.stack(octaves, dim=1).clamp_min(_LEAST_POWER).log10()
