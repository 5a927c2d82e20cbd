"""System 3 of Zhang & Li: a classifier of real sound, trained against a conditional autoencoder.

Y. Zhang and M. Li, "Anomalous sound detection via multitask learning and adversarial learning", technical
report, DCASE 2023 Challenge, section 2.2 and table 1. First, a conditional variational autoencoder learns to
generate log-mel windows of the machine type from its attributes. Then a CNN learns to separate real windows
from generated ones and from those of other machine types, while the generator learns to pass for real: two
updates per step. The generator can imitate whatever the attributes explain, which pushes the classifier to
look at everything else. The anomaly score of a clip is the negative mean of the classifier's logit over its
windows.

The report gives the convolutions of the encoder, the dimension of the latent space, the order of training and
what each step updates. Everything else is our choice. The choices that are not settings are:

* Windows have 256 frames and are standardized per mel bin; for the autoencoder, mel bins are channels and
  frames are the length.
* Padding 1, batch norm and LeakyReLU(0.2) after the encoder's convolutions; the decoder mirrors the encoder,
  with batch norm after its transposed convolutions. The classifier has four strided convolutions.
* The autoencoder's loss is that of a Gaussian with unit variance, [½·‖x − x̂‖² + β·KL] / (mel bins · frames).
* The logit replaces the report's likelihood p: it ranks windows identically and does not saturate.
* Real, fake and other rows pass through the classifier as one batch, so that batch norm sees in training what
  its running statistics describe at scoring. A network that an update does not train uses its running
  statistics in that update and does not change them.
* Adam's first moment and the classifier's learning rate are those of DCGAN (arXiv:1511.06434). Noise on its
  input, as in arXiv:1610.04490, falls to 0 over the stage, because the blur of an autoencoder is too easy to
  detect.
* Randomness within a row is keyed by the row, so that it is the same on any number of processes. A batch,
  or a process's share of it, may have no intact window of its machine type; it then adds nothing to those
  losses.
* With ``fakes=sampled``, the anchor holds the decoder to reconstructions, which are decoded along with the
  samples.

Time-stretched, pitch-shifted or very noisy windows of the machine type itself count as other machines too
(``altered_anomalous``), because other machines alone are too easy to recognize. ``--preset report`` reverts
this.

Monitors: ``kl_00`` ... show which latent dimensions are used (near 0: not used). ``auc_fake`` is the AUC of
the classifier's logits, real against fake within a batch; if it stays above 0.99, the fakes carry no signal.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from asdbench.config import Choice, Range, tunable
from asdbench.nn.cvae import Decoder, Encoder, divergence, drawn
from asdbench.nn.noise import normal_by_row
from asdbench.spec import MelSpec
from asdbench.system import (
    BatchPlan,
    ClipBatch,
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

FRAMES, MEL_BINS = 256, 128
_ALTERING = ("noise", "stretch", "pitch")
_INTACT = ("identity",) * len(_ALTERING)  # as many rows stay unchanged
_SCORING_ROWS = 128  # windows per pass through the classifier: 1 MB each in its first layer


@dataclass(frozen=True)
class Config:
    """Settings. Stage lengths are about 100 and 50 passes over the source clips of a DCASE machine type."""

    cvae_steps: int = tunable(1500, Range(400, 4000, log=True), minimum=1, maximum=1_000_000)
    adversarial_steps: int = tunable(1500, Range(400, 4000, log=True), minimum=1, maximum=1_000_000)
    batch_size: int = tunable(64, Range(32, 256, log=True), minimum=4, maximum=4096)
    target_rows: int = tunable(1, Range(1, 8, log=True), minimum=0, maximum=2048)
    latent: int = tunable(16, Range(4, 64, log=True), minimum=1, maximum=1024)
    condition_encoder: bool = tunable(False, Choice(False, True))
    cvae_learning_rate: float = tunable(1e-3, Range(1e-4, 1e-2, log=True), minimum=1e-8)
    beta: float = tunable(1.0, Range(0.1, 10.0, log=True), minimum=0.0)
    beta_warmup_share: float = tunable(0.1, Range(0.0, 0.5), minimum=0.0, maximum=1.0)
    fakes: str = tunable("reconstructed", Choice("reconstructed", "sampled"))
    discriminator_learning_rate: float = tunable(2e-4, Range(2e-5, 2e-3, log=True), minimum=1e-8)
    generator_learning_rate: float = tunable(1e-4, Range(1e-5, 1e-3, log=True), minimum=1e-8)
    adam_beta1: float = tunable(0.5, Range(0.0, 0.9), minimum=0.0, maximum=0.999)
    fake_weight: float = tunable(0.5, Range(0.0, 1.0), minimum=0.0)
    altered_anomalous: bool = tunable(True, Choice(True, False))
    other_weight: float = tunable(0.5, Range(0.0, 1.0), minimum=0.0)
    anchor_weight: float = tunable(1.0, Range(0.1, 10.0, log=True), minimum=0.0)
    instance_noise: float = tunable(0.1, Range(0.0, 0.5), minimum=0.0)
    window_hop_frames: int = tunable(128, minimum=1, maximum=100_000, affects="scoring")
    precision: Precision = tunable("auto", Choice("auto", "bfloat16", "float32"), searched=False)


class Discriminator(nn.Module):
    """Four convolutions of stride 2: Float[Tensor, "row mel frame"] to Float[Tensor, "row"].

    The logit is that of a real window of the job's machine type.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 32, 64, 128, 128)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [
                nn.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        # With this layout, a step on a CPU takes two thirds of the time.
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, windows: Tensor) -> Tensor:
        """Return logits in float32."""
        return self.logits(self.layers(windows.unsqueeze(1)))

    def logits(self, pooled: Tensor) -> Tensor:
        """Return the logits of the output of ``layers``, in float32."""
        with torch.autocast(pooled.device.type, enabled=False):  # bfloat16 would give equal logits
            logits: Tensor = self.head(pooled.float())
        return logits.squeeze(1)


class Adversarial(System[Config]):
    """A conditional autoencoder, and the discriminator that is trained against it and scores clips."""

    presets = {  # noqa: RUF012 - ClassVar in System
        "report": {"altered_anomalous": False},
        "fast": {"cvae_steps": 300, "adversarial_steps": 300, "batch_size": 32},
        "demo": {"cvae_steps": 40, "adversarial_steps": 40, "batch_size": 32, "target_rows": 4},
    }
    citation = """@techreport{zhang2023anomalous,
  author = {Zhang, Yucong and Li, Ming},
  title = {Anomalous sound detection via multitask learning and adversarial learning},
  institution = {DCASE2023 Challenge},
  year = {2023}
}"""

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        conditions = sum(map(len, facts.attributes.values()))
        self._encoder_conditions = conditions if config.condition_encoder else 0
        sizes = {"bands": MEL_BINS, "frames": FRAMES, "latent": config.latent}
        self.encoder = Encoder(**sizes, conditions=self._encoder_conditions)
        self.decoder = Decoder(**sizes, conditions=conditions)
        self.discriminator = Discriminator()
        self._samples = config.fakes == "sampled"

    @classmethod
    def input_spec(cls, config: Config) -> InputSpec:
        """Return windows of 2.56 s, standardized."""
        return InputSpec(MelSpec(n_mels=MEL_BINS), FRAMES, config.window_hop_frames, standardize=True)

    @classmethod
    def batch_plan(cls, config: Config) -> BatchPlan:
        """Return a plan: half of the rows from other machine types, half of the rest altered on request."""
        return BatchPlan(
            config.batch_size,
            "window-per-clip",
            pseudo_anomaly_share=0.5,
            target_rows=config.target_rows,
            augmentations=_INTACT + _ALTERING if config.altered_anomalous else (),
        )

    def stages(self, steps_per_epoch: int) -> Sequence[Stage]:
        """Return the stage of the autoencoder, on this machine type only, and the adversarial stage."""
        config = self.config
        own_rows = BatchPlan(config.batch_size, "window-per-clip", target_rows=config.target_rows)
        cvae = [*self.encoder.parameters(), *self.decoder.parameters()]
        betas = (config.adam_beta1, 0.999)
        updates = [
            Update(name, torch.optim.Adam(network.parameters(), lr=rate, betas=betas, fused=True))
            for name, network, rate in (
                ("discriminator", self.discriminator, config.discriminator_learning_rate),
                ("generator", self.decoder, config.generator_learning_rate),
            )
        ]
        return [
            Stage(
                "cvae",
                [Update("cvae", torch.optim.Adam(cvae, lr=config.cvae_learning_rate, fused=True))],
                steps=config.cvae_steps,
                precision=config.precision,
                plan=own_rows,
            ),
            Stage("adversarial", updates, steps=config.adversarial_steps, precision=config.precision),
        ]

    def forward(self, batch: ClipBatch, update: str, progress: float) -> Losses:
        """Return the losses of ``"cvae"``, ``"discriminator"`` or ``"generator"``."""
        assert batch.row_keys is not None  # these are training batches
        own = batch.machine == 0
        if batch.augmentation is not None:
            own = own & (batch.augmentation < len(_INTACT))
        windows, keys = batch.windows.transpose(1, 2), batch.row_keys
        real, condition = windows[own], self.conditions(batch)[own]
        if update == "cvae":
            return self._cvae_losses(real, condition, keys[own], progress)
        if update == "discriminator":
            return self._discriminator_losses(
                real, windows[~own], condition, (keys[own], keys[~own]), progress
            )
        return self._generator_losses(real, condition, keys[own], progress)

    def conditions(self, batch: ClipBatch) -> Tensor:
        """Return one-hot attributes, Float[Tensor, "row condition"]; zeros where a value is unknown."""
        assert batch.attributes is not None  # these are training batches
        columns = [batch.windows.new_empty(len(batch.windows), 0)]
        for column, values in zip(batch.attributes.T, self.facts.attributes.values(), strict=True):
            classes = torch.arange(len(values), device=column.device)
            columns.append((column[:, None] == classes).to(batch.windows.dtype))
        return torch.cat(columns, dim=1)

    def kl_weight(self, progress: float) -> float:
        """Return β, which rises from 0 over the first ``beta_warmup_share`` of the stage."""
        share = self.config.beta_warmup_share
        return float(self.config.beta * (min(1.0, progress / share) if share else 1.0))

    def noise_deviation(self, progress: float) -> float:
        """Return the standard deviation of the discriminator's input noise; it falls to 0 over the stage."""
        return float(self.config.instance_noise * (1.0 - progress))

    def window_components(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Return ``discriminator``: the negated logit."""
        return {"discriminator": -self.discriminator.logits(self.embed(batch))}

    @once_per_batch
    def embed(self, batch: ClipBatch) -> Tensor:
        """Return what the discriminator's last layer sees of each window, Float[Tensor, "row dim"]."""
        parts = batch.windows.transpose(1, 2).split(_SCORING_ROWS)  # type: ignore[no-untyped-call]
        return torch.cat([self.discriminator.layers(part.unsqueeze(1)) for part in parts])

    def embeddings(self, batch: ClipBatch) -> Tensor:
        """Return the mean of what the discriminator's last layer sees over a clip's windows."""
        return batch.mean_over_clips(self.embed(batch).float())

    def _cvae_losses(self, real: Tensor, condition: Tensor, keys: Tensor, progress: float) -> Losses:
        mean, log_variance = self.encoder(real, condition[:, : self._encoder_conditions])
        latent = drawn(mean, log_variance, self._latent_noise(keys, "cvae posterior"))
        rebuilt = self.decoder(latent, condition)
        kl = divergence(mean, log_variance)
        return Losses(
            {
                "reconstruction": Mean.from_values(0.5 * (rebuilt - real).square()),
                "kl": Mean.from_values(kl.sum(dim=1)),
            },
            {"kl": self.kl_weight(progress) / (MEL_BINS * FRAMES)},
            {
                f"kl_{index:02d}": Mean.from_values(values)
                for index, values in enumerate(kl.detach().unbind(dim=1))
            },
        )

    def _discriminator_losses(
        self, real: Tensor, other: Tensor, condition: Tensor, keys: tuple[Tensor, Tensor], progress: float
    ) -> Losses:
        of_own, of_others = keys
        noise = self._latent_noise(of_own, "discriminator latent")
        with torch.no_grad(), _frozen(self.encoder, self.decoder):
            mean, log_variance = self.encoder(real, condition[:, : self._encoder_conditions])
            latent = noise if self._samples else drawn(mean, log_variance, noise)
            fake = self.decoder(latent, condition)
        given = ((real, of_own, "real"), (fake, of_own, "fake"), (other, of_others, "other"))
        windows = torch.cat([self._noisy(rows, keys, name, progress) for rows, keys, name in given])
        of_real, of_fake, of_other = torch.split_with_sizes(
            self.discriminator(windows), [len(real), len(fake), len(other)]
        )
        return Losses(
            {
                # softplus is the cross-entropy of sigmoid(logit) with target 1 (negated logit) or 0
                "real": Mean.from_values(functional.softplus(-of_real)),
                "fake": Mean.from_values(functional.softplus(of_fake)),
                "other": Mean.from_values(functional.softplus(of_other)),
            },
            {"fake": self.config.fake_weight, "other": self.config.other_weight},
            {
                "auc_fake": pairwise_auc(of_real, of_fake),
                "auc_other": pairwise_auc(of_real, of_other),
                "probability_fake": Mean.from_values(of_fake.detach().sigmoid()),
            },
        )

    def _generator_losses(self, real: Tensor, condition: Tensor, keys: Tensor, progress: float) -> Losses:
        with torch.no_grad(), _frozen(self.encoder):
            mean, log_variance = self.encoder(real, condition[:, : self._encoder_conditions])
            latent = drawn(mean, log_variance, self._latent_noise(keys, "generator posterior"))
        rebuilt = fake = self.decoder(latent, condition)
        if self._samples:
            fake = self.decoder(self._latent_noise(keys, "generator prior"), condition)
        with _frozen(self.discriminator):
            of_fake = self.discriminator(self._noisy(fake, keys, "fooling", progress))
        return Losses(
            {
                "fooling": Mean.from_values(functional.softplus(-of_fake)),
                "anchor": Mean.from_values((rebuilt - real).square()),
            },
            {"anchor": self.config.anchor_weight},
        )

    def _latent_noise(self, keys: Tensor, draw: str) -> Tensor:
        return normal_by_row(keys, self.config.latent, draw=draw)

    def _noisy(self, windows: Tensor, keys: Tensor, draw: str, progress: float) -> Tensor:
        return windows + self.noise_deviation(progress) * normal_by_row(keys, MEL_BINS, FRAMES, draw=draw)


def pairwise_auc(positive: Tensor, negative: Tensor) -> Mean:
    """Return the share of pairs of logits in which ``positive`` is greater; a tie counts as one half.

    Both are Float[Tensor, "row"]. Pairs are formed within one process's rows.
    """
    return Mean.from_values((positive.detach()[:, None] - negative.detach()).sign().add(1.0).div(2.0))


@contextmanager
def _frozen(*networks: nn.Module) -> Iterator[None]:
    """Freeze the parameters and buffers of networks in training mode; gradients still reach their input."""
    training = [network.training for network in networks]
    for network in networks:
        network.eval().requires_grad_(False)
    try:
        yield
    finally:
        for network, was in zip(networks, training, strict=True):
            network.train(was).requires_grad_(True)
