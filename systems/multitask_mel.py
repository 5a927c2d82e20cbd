"""Multitask learning on log-mel windows: machine type, attributes and augmentation.

System 1 of Zhang & Li, "Anomalous sound detection via multitask learning and adversarial learning", DCASE
2023 Challenge, Task 2, technical report. Windows of the machine type, and windows of other machine types
as pseudo-anomalies, are each transformed by one of eight augmentations. Conformer blocks and attentive
statistics pooling compute an embedding of each window; linear heads predict (a) the attributes, (b)
whether the window is from this machine type, and (c) the augmentation. The anomaly score is the weighted
sum of two standardized components: the negated logit of (b), and the distance of the embedding from those
of normal training clips.

Everything that the report leaves open is a setting; docs/systems.md gives the sources of the defaults, which
are the report's recipe. What was chosen otherwise is a preset: ``altered`` counts time-stretched,
pitch-shifted and very noisy windows of the machine type itself as pseudo-anomalies too, because other
machines are too easy to recognize; ``nearest`` takes a density-normalized nearest neighbor in place of the
Gaussian mixture; ``embedding`` takes a Mahalanobis distance and leaves the classifier out. Every back end in
``asdbench.backends`` is fitted and its scores are stored, so that switching to another requires no new
scoring. ``time_stride`` averages neighboring frames before the conformer, for training on CPUs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from asdbench.backends import SCORES, BackendBank, BackendSettings
from asdbench.config import Choice, Range, tunable
from asdbench.errors import InputError
from asdbench.features.augment import TRANSFORMS
from asdbench.nn.conformer import Conformer
from asdbench.nn.pooling import AttentiveStatisticsPooling
from asdbench.presets import Preset
from asdbench.spec import MelSpec
from asdbench.system import (
    UNKNOWN,
    BatchPlan,
    ClipBatch,
    Fusion,
    InputSpec,
    Losses,
    Mean,
    Pooling,
    Precision,
    Scale,
    Stage,
    System,
    TrainingFacts,
    Update,
    once_per_batch,
    training_embeddings,
)

_ALTERING = [TRANSFORMS.index(name) for name in ("noise", "stretch", "pitch")]
_SPOIL_ATTRIBUTES = [TRANSFORMS.index("stretch"), TRANSFORMS.index("pitch")]  # these alter speed and load


@dataclass(frozen=True)
class Config(BackendSettings):
    """Settings besides those of the back ends; the report gives windows, conformer and tasks."""

    steps: int = tunable(1500, Range(300, 3000, log=True), minimum=2, maximum=10_000_000)
    batch_size: int = tunable(128, Range(32, 256, log=True), minimum=4, maximum=65_536)
    target_rows: int = tunable(1, Range(1, 8), minimum=0)
    pseudo_anomaly_share: float = tunable(0.5, Range(0.1, 0.7), minimum=0.0, maximum=0.9)
    learning_rate: float = tunable(1e-3, Range(1e-4, 3e-3, log=True), minimum=1e-8)
    weight_decay: float = tunable(0.0, Range(0.0, 0.1), minimum=0.0)
    gradient_clip: float = tunable(5.0, minimum=1e-3)
    attribute_weight: float = tunable(1.0, Range(0.0, 2.0), minimum=0.0)
    binary_weight: float = tunable(1.0, Range(0.0, 2.0), minimum=0.0)
    augmentation_weight: float = tunable(0.1, Range(0.0, 1.0), minimum=0.0, when={"augment": (True,)})
    augment: bool = tunable(True, Choice(True, False))
    altered_anomalous: bool = tunable(False, Choice(False, True))
    blocks: int = tunable(3, minimum=1, maximum=64)
    width: int = tunable(256, minimum=8, maximum=4096)
    heads: int = tunable(4, minimum=1, maximum=64)
    ffn: int = tunable(512, minimum=8, maximum=16_384)
    kernel: int = tunable(15, Choice(7, 15, 31))
    dropout: float = tunable(0.1, Range(0.0, 0.3), minimum=0.0, maximum=0.9)
    embedding: int = tunable(128, minimum=2, maximum=4096)
    n_mels: int = tunable(128, minimum=8, maximum=512)
    window_frames: int = tunable(256, minimum=8, maximum=4096)
    time_stride: int = tunable(1, minimum=1, maximum=8)
    precision: Precision = tunable("auto", Choice("auto", "bfloat16", "float32"), searched=False)
    window_hop_frames: int = tunable(128, affects="scoring", minimum=1, maximum=4096)
    backend: str = tunable("gmm", Choice(*SCORES), affects="fusion")
    window_pooling: Pooling = tunable("mean", Choice(*get_args(Pooling)), affects="scoring")
    classifier_score: str = tunable(
        "logit", Choice("logit", "probability", "log-probability"), affects="fusion"
    )
    classifier_weight: float = tunable(0.5, Range(0.0, 1.0), affects="fusion", minimum=0.0, maximum=1.0)
    fusion_scale: Scale = tunable("linear", Choice("linear", "log"), affects="fusion")


class MultitaskMel(System[Config]):
    """Three conformer blocks of width 256 over 2.56 s of 128 mel bands; 3.15 million parameters."""

    presets = {  # noqa: RUF012 - ClassVar in System
        "report": {},
        "fast": {"steps": 150, "batch_size": 64, "time_stride": 4},
        "demo": {"steps": 30, "batch_size": 32, "target_rows": 4, "time_stride": 8},
        "altered": Preset({"altered_anomalous": True}, chosen_on=("shop",)),
        "nearest": Preset({"backend": "knn-density"}, chosen_on=("shop",)),
        "embedding": Preset(
            {"backend": "mahalanobis-shared", "classifier_weight": 0.0}, chosen_on=("shop", "demo")
        ),
    }
    citation = """@techreport{zhang2023anomalous,
  author = {Zhang, Yucong and Li, Ming},
  title = {Anomalous sound detection via multitask learning and adversarial learning},
  institution = {DCASE2023 Challenge},
  year = {2023}
}"""
    inputs_per_mel = 1

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        if config.width % config.heads:
            raise InputError(f"width={config.width} is not a multiple of heads={config.heads}")
        self.conformer = Conformer(
            config.n_mels * self.inputs_per_mel,
            width=config.width,
            heads=config.heads,
            ffn=config.ffn,
            blocks=config.blocks,
            kernel=config.kernel,
            dropout=config.dropout,
        )
        self.pooling = AttentiveStatisticsPooling(config.width, config.width // 2)
        self.projection = nn.Sequential(
            nn.BatchNorm1d(2 * config.width), nn.Linear(2 * config.width, config.embedding)
        )
        self.attributes = nn.ModuleList(
            nn.Linear(config.embedding, len(values)) for values in facts.attributes.values()
        )
        self.own_machine = nn.Linear(config.embedding, 1)
        self.augmentation = nn.Linear(config.embedding, len(TRANSFORMS)) if config.augment else None
        self.backends = BackendBank(config)

    @classmethod
    def input_spec(cls, config: Config) -> InputSpec:
        """Return standardized log-mel windows of 256 frames with a hop of 10 ms."""
        return InputSpec(
            MelSpec(n_mels=config.n_mels),
            window_frames=config.window_frames,
            window_hop_frames=config.window_hop_frames,
            standardize=True,
        )

    @classmethod
    def batch_plan(cls, config: Config) -> BatchPlan:
        """Return a plan: half own machine type, with some target-domain clips, half others; all augmented."""
        return BatchPlan(
            config.batch_size,
            draw="window-per-clip",
            pseudo_anomaly_share=config.pseudo_anomaly_share,
            target_rows=config.target_rows,
            augmentations=TRANSFORMS if config.augment else (),
        )

    @classmethod
    def fusion(cls, config: Config) -> Fusion:
        """Return the weights of the classifier's component and of the back end's."""
        weight = config.classifier_weight
        return Fusion({config.classifier_score: weight, config.backend: 1 - weight}, config.fusion_scale)

    def stages(self, steps_per_epoch: int) -> Sequence[Stage]:
        """Return one stage of AdamW with a one-cycle learning rate."""
        config = self.config
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, total_steps=config.steps
        )
        update = Update("all", optimizer, scheduler, config.gradient_clip)
        return [Stage("multitask", [update], steps=config.steps, precision=config.precision)]

    def features(self, batch: ClipBatch) -> Tensor:
        """Return the input of the conformer, Float[Tensor, "row frame feature"]."""
        return batch.windows

    @once_per_batch
    def embed(self, batch: ClipBatch) -> Tensor:
        """Return Float[Tensor, "row dim"], the embedding of each window, in float32."""
        features, stride = self.features(batch), min(self.config.time_stride, self.config.window_frames)
        if stride > 1:
            n_frames = features.shape[1] // stride * stride
            features = torch.unflatten(features[:, :n_frames], 1, (-1, stride)).mean(dim=2)
        pooled = self.pooling(self.conformer(features))
        with torch.autocast(pooled.device.type, enabled=False):
            embedding: Tensor = self.projection(pooled.float())
        return embedding

    def forward(self, batch: ClipBatch, update: str, progress: Tensor) -> Losses:
        """Return the losses of the three tasks."""
        assert batch.attributes is not None  # these are training batches
        embedding = self.embed(batch)
        with torch.autocast(embedding.device.type, enabled=False):
            own = batch.machine == 0
            logit = self.own_machine(embedding).squeeze(1)
            intact = own
            if self.config.altered_anomalous and batch.augmentation is not None:
                intact = own & ~_is_any(batch.augmentation, _ALTERING)
            parts = {"own machine": Mean.from_values(_binary(logit, intact.float()))}
            weights = {"own machine": self.config.binary_weight}
            monitors = {"own machine right": Mean.from_values(((logit > 0) == intact).float())}
            if self.augmentation is not None:
                assert batch.augmentation is not None
                logits = self.augmentation(embedding)
                parts["augmentation"] = Mean.from_values(_softmax(logits, batch.augmentation))
                right = (logits.argmax(dim=1) == batch.augmentation).float()
                for index, transform in enumerate(TRANSFORMS):
                    monitors[f"{transform} right"] = Mean.from_values(right, batch.augmentation == index)
                weights["augmentation"] = self.config.augmentation_weight
                own = own & ~_is_any(batch.augmentation, _SPOIL_ATTRIBUTES)
            for column, (name, head) in enumerate(zip(self.facts.attributes, self.attributes, strict=True)):
                classes = batch.attributes[:, column]
                known = own & (classes != UNKNOWN)
                parts[f"attribute {name}"] = Mean.from_values(
                    _softmax(head(embedding), classes.clamp(min=0)), known
                )
                weights[f"attribute {name}"] = self.config.attribute_weight / len(self.attributes)
            return Losses(parts, weights, monitors)

    def fit_backend(self, batches: Iterable[ClipBatch]) -> None:
        """Fit all back ends on the window embeddings of the normal training clips."""
        embeddings, target, clip = training_embeddings(batches, self.embed)
        self.backends.fit(embeddings, target, clip=clip, seed=int(torch.randint(2**31, ())))

    @classmethod
    def window_pooling(cls, config: Config) -> Pooling:
        """Return the pooling of window scores, the mean by default."""
        return config.window_pooling

    def window_components(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Return three forms of the classifier's score and one score per back end."""
        embedding = self.embed(batch)
        logit = self.own_machine(embedding).squeeze(1).double()
        return {
            "logit": -logit,
            "probability": torch.sigmoid(-logit),
            "log-probability": nn.functional.softplus(-logit),
            **self.backends.score(embedding, batch.clip, batch.n_clips),
        }

    def embeddings(self, batch: ClipBatch) -> Tensor:
        """Return the mean embedding of a clip's windows."""
        return batch.mean_over_clips(self.embed(batch))


def _is_any(classes: Tensor, wanted: Sequence[int]) -> Tensor:
    """Return whether each class is one of a few, without a tensor of them, which a GPU would wait for."""
    return torch.stack([classes == one for one in wanted]).any(dim=0)


def _binary(logit: Tensor, labels: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logit, labels, reduction="none")


def _softmax(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels, reduction="none")
