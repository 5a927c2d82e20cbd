"""System 3 of Zhang & Li: a classifier of real sound, trained against a conditional autoencoder.

Y. Zhang and M. Li, "Anomalous sound detection via multitask learning and adversarial learning", technical
report, DCASE 2023 Challenge, section 2.2 and table 1. First, a conditional variational autoencoder learns to
generate log-mel windows of the machine type from its attributes. Then a CNN learns to separate real windows
from generated ones and from those of other machine types, while the generator learns to pass for real: two
updates per step. The generator can imitate whatever the attributes explain, which pushes the classifier to
look at everything else. The anomaly score of a clip is the negative mean of the classifier's logit over its
windows.

The report gives the encoder's convolutions, the size of the latent space, the order of training and what each
step updates. Everything else is our choice; what is no setting is this:

* Windows have 256 frames, standardized per mel bin; mel bins are the autoencoder's channels. Its loss is that
  of a Gaussian with unit variance, [½·‖x − x̂‖² + β·KL] / (mel bins · frames).
* The logit replaces the report's likelihood p: it ranks windows identically and does not saturate.
* Real, fake and other rows pass through the classifier as one batch, so that batch norm sees in training what
  its running statistics describe at scoring. A network that an update does not train keeps them unchanged.
* Noise on the classifier's input, as in arXiv:1610.04490, falls to 0 over the stage.
* What is random in a row is keyed by the row. With ``altered_anomalous``, fakes are made from all windows of
  the machine type; the altered ones stay out of the losses of real windows and count as other machines.
* With ``fakes=sampled``, the anchor holds the decoder to reconstructions, which are decoded along with them.

The defaults are the report's recipe, in which the classifier tells the fakes from the first steps on: they
are smoother than any recording. ``--preset textured`` adds to each fake what the autoencoder left out of its
window, from another time. ``--preset altered`` counts time-stretched, pitch-shifted and very noisy windows of
the machine type itself as other machines, because other machines alone are too easy to recognize.

Monitors: ``kl_00`` ... show which latent dimensions are used (near 0: not used). ``auc_fake`` is the AUC of
the classifier's logits, real against fake within a batch; if it stays above 0.99, the fakes carry no signal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from asdbench import random_by_row
from asdbench.config import Choice, Range, tunable
from asdbench.nn.adversarial import Discriminator, frozen, in_order, moved_residual
from asdbench.nn.cvae import Decoder, Encoder, divergence, drawn, one_hot
from asdbench.presets import Preset
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
    fake_texture: bool = tunable(False, Choice(False, True))
    altered_anomalous: bool = tunable(False, Choice(False, True))
    other_weight: float = tunable(0.5, Range(0.0, 1.0), minimum=0.0)
    anchor_weight: float = tunable(1.0, Range(0.1, 10.0, log=True), minimum=0.0)
    instance_noise: float = tunable(0.1, Range(0.0, 0.5), minimum=0.0)
    window_hop_frames: int = tunable(128, minimum=1, maximum=100_000, affects="scoring")
    precision: Precision = tunable("auto", Choice("auto", "bfloat16", "float32"), searched=False)


class Adversarial(System[Config]):
    """A conditional autoencoder, and the discriminator that is trained against it and scores clips."""

    presets = {  # noqa: RUF012 - ClassVar in System
        "report": {},
        "fast": {"cvae_steps": 300, "adversarial_steps": 300, "batch_size": 32},
        "demo": {"cvae_steps": 40, "adversarial_steps": 40, "batch_size": 32, "target_rows": 4},
        "altered": Preset({"altered_anomalous": True}, chosen_on=("shop",)),
        "textured": {"fake_texture": True},
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
        first = Update("cvae", torch.optim.Adam(cvae, lr=config.cvae_learning_rate, fused=True))
        precision = config.precision
        return [
            Stage("cvae", [first], steps=config.cvae_steps, precision=precision, plan=own_rows),
            Stage("adversarial", updates, steps=config.adversarial_steps, precision=precision),
        ]

    def forward(self, batch: ClipBatch, update: str, progress: Tensor) -> Losses:
        """Return the losses of ``"cvae"``, ``"discriminator"`` or ``"generator"``."""
        own = self._own_rows(batch)
        if update == "cvae":
            return self._cvae_losses(own, progress)
        if update == "discriminator":
            assert batch.row_keys is not None  # these are training batches
            others = batch.windows[batch.own_rows :].transpose(1, 2), batch.row_keys[batch.own_rows :]
            return self._discriminator_losses(own, others, progress)
        return self._generator_losses(own, progress)

    def _own_rows(self, batch: ClipBatch) -> "_Rows":
        """Return the rows of the machine type itself."""
        assert batch.row_keys is not None  # these are training batches
        own, altered = slice(batch.own_rows), None
        if batch.augmentation is not None:
            altered = batch.augmentation[own] >= len(_INTACT)
        condition = self.conditions(batch)[own]
        return _Rows(batch.windows[own].transpose(1, 2), condition, batch.row_keys[own], altered)

    def conditions(self, batch: ClipBatch) -> Tensor:
        """Return one-hot attributes, Float[Tensor, "row condition"]; zeros where a value is unknown."""
        assert batch.attributes is not None  # these are training batches
        return one_hot(batch.attributes, map(len, self.facts.attributes.values())).to(batch.windows.dtype)

    def kl_weight(self, progress: Tensor) -> Tensor:
        """Return β, which rises from 0 over the first ``beta_warmup_share`` of the stage."""
        share = self.config.beta_warmup_share
        risen = (progress / share).clamp(max=1.0) if share else torch.ones_like(progress)
        return self.config.beta * risen

    def noise_deviation(self, progress: Tensor) -> Tensor:
        """Return the standard deviation of the discriminator's input noise; it falls to 0 over the stage."""
        return self.config.instance_noise * (1.0 - progress)

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

    def _cvae_losses(self, own: "_Rows", progress: Tensor) -> Losses:
        mean, log_variance = self.encoder(own.windows, own.condition[:, : self._encoder_conditions])
        latent = drawn(mean, log_variance, self._latent_noise(own.keys, "cvae posterior"))
        rebuilt = self.decoder(latent, own.condition)
        kl = divergence(mean, log_variance)
        monitors = {f"kl_{index:02d}": own.mean(values) for index, values in enumerate(kl.detach().unbind(1))}
        return Losses(
            {"reconstruction": own.mean(0.5 * _squared(rebuilt, own.windows)), "kl": own.mean(kl.sum(dim=1))},
            {"kl": self.kl_weight(progress) / (MEL_BINS * FRAMES)},
            monitors,
        )

    def _discriminator_losses(self, own: "_Rows", others: tuple[Tensor, Tensor], progress: Tensor) -> Losses:
        with torch.no_grad():
            _, fake = self._fakes(own, partial(frozen, self.decoder), "discriminator")
        given = ((own.windows, own.keys, "real"), (fake, own.keys, "fake"), (*others, "other"))
        windows = torch.cat([self._noisy(rows, keys, name, progress) for rows, keys, name in given])
        logits = torch.split_with_sizes(self.discriminator(windows), [len(rows) for rows, _, _ in given])
        of_own, of_fake, of_others = logits
        of_other, is_other = own.with_altered(of_own, of_others)
        softplus = functional.softplus  # the cross-entropy of sigmoid(logit) with target 0 (negated: 1)
        return Losses(
            {
                "real": own.mean(softplus(-of_own)),
                "fake": Mean.from_values(softplus(of_fake)),
                "other": Mean.from_values(softplus(of_other), is_other),
            },
            {"fake": self.config.fake_weight, "other": self.config.other_weight},
            {
                "auc_fake": own.pairs_in_order(of_own, of_fake, None),
                "auc_other": own.pairs_in_order(of_own, of_other, is_other),
                "probability_fake": Mean.from_values(of_fake.detach().sigmoid()),
            },
        )

    def _generator_losses(self, own: "_Rows", progress: Tensor) -> Losses:
        rebuilt, fake = self._fakes(own, self.decoder, "generator")
        of_fake = frozen(self.discriminator, self._noisy(fake, own.keys, "fooling", progress))
        parts = {
            "fooling": Mean.from_values(functional.softplus(-of_fake)),
            "anchor": own.mean(_squared(rebuilt, own.windows)),
        }
        return Losses(parts, {"anchor": self.config.anchor_weight})

    def _fakes(
        self, own: "_Rows", decode: Callable[[Tensor, Tensor], Tensor], update: str
    ) -> tuple[Tensor, Tensor]:
        """Return the reconstructions of own windows, and the fakes made from them."""
        conditions = own.condition[:, : self._encoder_conditions]
        mean, log_variance = frozen(self.encoder, own.windows, conditions)
        latent = drawn(mean, log_variance, self._latent_noise(own.keys, f"{update} posterior"))
        rebuilt = fake = decode(latent, own.condition)
        if self.config.fakes == "sampled":
            fake = decode(self._latent_noise(own.keys, f"{update} prior"), own.condition)
        if self.config.fake_texture:
            fake = fake + moved_residual(own.windows, rebuilt.detach(), own.keys)
        return rebuilt, fake

    def _latent_noise(self, keys: Tensor, draw: str) -> Tensor:
        return random_by_row.normal(keys, self.config.latent, draw=draw)

    def _noisy(self, windows: Tensor, keys: Tensor, draw: str, progress: Tensor) -> Tensor:
        return windows + self.noise_deviation(progress) * random_by_row.normal(
            keys, MEL_BINS, FRAMES, draw=draw
        )


@dataclass(frozen=True)
class _Rows:
    """Rows of the machine type itself.

    Attributes
    ----------
    windows : Float[Tensor, "row mel frame"]
    condition : Float[Tensor, "row condition"]
    keys : Long[Tensor, "row"]
    altered : Bool[Tensor, "row"], rows that count as other machines; ``None`` if no row does
    """

    windows: Tensor
    condition: Tensor
    keys: Tensor
    altered: Tensor | None

    def mean(self, values: Tensor) -> Mean:
        """Return the mean of Float[Tensor, "row"] over the rows that are not altered."""
        return Mean.from_values(values, None if self.altered is None else ~self.altered)

    def with_altered(self, of_own: Tensor, of_others: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return logits among which are those of all other machines, and which of them they are."""
        if self.altered is None:
            return of_others, None
        is_other = torch.cat([self.altered, torch.ones_like(of_others, dtype=torch.bool)])
        return torch.cat([of_own, of_others]), is_other

    def pairs_in_order(self, of_own: Tensor, negative: Tensor, counts: Tensor | None) -> Mean:
        """Return the AUC of the logits of real rows against those of ``negative`` rows that count."""
        pairs = in_order(of_own, negative)
        if self.altered is None:
            return Mean.from_values(pairs)
        intact = (~self.altered)[:, None].expand_as(pairs)
        return Mean.from_values(pairs, intact if counts is None else intact & counts)


def _squared(rebuilt: Tensor, windows: Tensor) -> Tensor:
    """Return the mean squared error of each window, Float[Tensor, "row"]."""
    return (rebuilt - windows).square().mean(dim=(1, 2))
