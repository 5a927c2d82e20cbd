"""The autoencoder baseline of DCASE 2023 Task 2, scored by its reconstruction error.

Harada et al., "First-shot anomaly detection for machine condition monitoring: A domain generalization
baseline", 2023, arXiv:2303.00455, section III (Simple Autoencoder mode). An autoencoder learns to reconstruct
five consecutive log-mel frames of normal sound; the anomaly score of a clip is the mean squared error over
all its vectors (equation 1).

Known departures from the released implementation: the platform's hold-out is excluded from training and
provides the decision threshold. ``reproduction=true`` trains on all clips, as the released implementation
does, and computes the threshold from the scores of batches of training and validation vectors.
``hold_out=cross-fit`` trains on all clips too, and five times more without a fold of them, for the hold-out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asdbench.config import Choice, Range, tunable
from asdbench.errors import InputError
from asdbench.spec import MelSpec
from asdbench.system import (
    BatchPlan,
    ClipBatch,
    HoldOut,
    InputSpec,
    Losses,
    Mean,
    Precision,
    Stage,
    System,
    TrainingFacts,
    Update,
    once_per_batch,
)


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are those of the released baseline."""

    epochs: int = tunable(100, Range(20, 200, log=True), minimum=1, maximum=100_000)
    batch_size: int = tunable(256, Range(64, 1024, log=True), minimum=2, maximum=65_536)
    learning_rate: float = tunable(1e-3, Range(1e-4, 1e-2, log=True), minimum=1e-8)
    frames: int = tunable(5, Range(1, 10), minimum=1, maximum=64)
    hidden: int = tunable(128, Range(32, 256, log=True), minimum=1, maximum=4096)
    bottleneck: int = tunable(8, Range(2, 32, log=True), minimum=1, maximum=4096)
    n_fft: int = tunable(1024, minimum=64, maximum=16_384)
    hop_samples: int = tunable(512, minimum=16, maximum=16_384)
    n_mels: int = tunable(128, minimum=8, maximum=512)
    precision: Precision = tunable("float32", Choice("float32", "bfloat16", "auto"), searched=False)
    reproduction: bool = tunable(False)
    hold_out: str = tunable("split", Choice("split", "cross-fit"), searched=False)


class BaselineMse(System[Config]):
    """Autoencoder 640-128-128-128-128-8-128-128-128-128-640; batch norm and ReLU after every inner layer."""

    presets = {"demo": {"epochs": 60}}  # noqa: RUF012 - ClassVar in System
    citation = """@article{harada2023firstshot,
  author = {Harada, Noboru and Niizumi, Daisuke and Takeuchi, Daiki and Ohishi, Yasunori and
            Yasuda, Masahiro},
  title = {First-shot anomaly detection for machine condition monitoring: A domain generalization baseline},
  journal = {arXiv:2303.00455},
  year = {2023}
}"""

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        inner = [config.hidden] * 4 + [config.bottleneck] + [config.hidden] * 4
        width = config.frames * config.n_mels
        layers: list[nn.Module] = []
        for inputs, outputs in zip([width, *inner[:-1]], inner, strict=True):
            layers += [
                nn.Linear(inputs, outputs),
                nn.BatchNorm1d(outputs, eps=1e-3, momentum=0.01),
                nn.ReLU(inplace=True),
            ]
        self.network = nn.Sequential(*layers, nn.Linear(inner[-1], width))
        self.n_encoding = len(layers) * 5 // 9  # layers up to the bottleneck, the fifth of nine

    @classmethod
    def input_spec(cls, config: Config) -> InputSpec:
        """Return every window of ``frames`` frames; the logarithm's floor is the float64 epsilon."""
        mel = MelSpec(config.n_fft, config.hop_samples, config.n_mels, floor=torch.finfo(torch.float64).eps)
        return InputSpec(mel, window_frames=config.frames, window_hop_frames=1)

    @classmethod
    def batch_plan(cls, config: Config) -> BatchPlan:
        """Return a plan with vectors in random order; a tenth of them, drawn once, is for validation."""
        if config.reproduction and config.hold_out != "split":
            raise InputError(
                f"hold_out={config.hold_out} changes nothing with reproduction=true, which trains on all "
                "clips and holds none out; leave one of the two out"
            )
        hold_out: HoldOut = "cross-fit" if config.hold_out == "cross-fit" else True
        return BatchPlan(
            config.batch_size,
            draw="every-window",
            validation_share=0.1,
            hold_out=False if config.reproduction else hold_out,
        )

    def stages(self, steps_per_epoch: int) -> Sequence[Stage]:
        """Return one stage of Adam with a constant learning rate."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, fused=True)
        return [
            Stage(
                "reconstruction",
                [Update("all", optimizer)],
                epochs=self.config.epochs,
                precision=self.config.precision,
            )
        ]

    def forward(self, batch: ClipBatch, update: str, progress: Tensor) -> Losses:
        """Return the squared error over all vectors and dimensions."""
        vectors = batch.windows.flatten(1)
        error = nn.functional.mse_loss(self.network(vectors).float(), vectors, reduction="sum")
        return Losses({"reconstruction": Mean(error, vectors.numel())})

    @once_per_batch
    def encode(self, batch: ClipBatch) -> Tensor:
        """Return the bottleneck of each vector, Float[Tensor, "row dim"]."""
        bottleneck: Tensor = self.network[: self.n_encoding](batch.windows.flatten(1))
        return bottleneck

    def residuals(self, batch: ClipBatch) -> Tensor:
        """Return input minus reconstruction, Float[Tensor, "row frame mel"]."""
        rebuilt: Tensor = self.network[self.n_encoding :](self.encode(batch)).view_as(batch.windows)
        return batch.windows - rebuilt

    def window_components(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Return ``mse``: the mean squared error over all dimensions of a vector."""
        return {"mse": self.residuals(batch).square().mean(dim=(1, 2))}

    def embeddings(self, batch: ClipBatch) -> Tensor:
        """Return the mean bottleneck of a clip's vectors."""
        return batch.mean_over_clips(self.encode(batch))
