"""Low-rank fine-tuning of a pretrained encoder on joint labels, with nearest training clips per machine type.

Idea: what makes a recording of its machine type, section, attributes and domain is what a frozen encoder
(``encoder-knn``) may not look at. A classifier of these joint labels, over all machine types of the data set
together, teaches the encoder to tell them apart. The pretrained weights stay; low-rank terms are added to the
matrices of its attention (see `asdbench.nn.lora`), so that a few clips of each label are enough. The tokens
of a window are averaged and projected to an embedding; the loss is ArcFace (see `asdbench.nn.arcface`).

    e = P · mean over tokens of encoder(x),    loss = ArcFace(e, joint label)

A clip's embedding is the mean over its windows. Its score is the distance to the nearest training clip of its
machine type, plain or normalized, as ``encoder-knn`` computes it.

Source: low-rank fine-tuning is Hu et al., 2022, arXiv:2106.09685; 25 epochs of it on labels of machines and
attributes are what systems of DCASE 2026 Task 2 report.

Departures: no single system is followed. There are no pseudo-labels for machine types without attributes, no
mixup and no noise from other recordings, and the far microphone is not subtracted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asdbench.backends import DensityNormalizedNeighbors, NearestNeighbors, VarianceMinimizingNeighbors
from asdbench.config import Choice, Range, tunable
from asdbench.errors import InputError
from asdbench.features.waveform import normalize_level
from asdbench.nn import encoders
from asdbench.nn.arcface import ArcFace
from asdbench.nn.lora import add_low_rank, load_frozen
from asdbench.spec import SAMPLE_RATE_HZ, MelSpec
from asdbench.system import (
    BatchPlan,
    ClipBatch,
    Fusion,
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

_ATTENTION = r".*\b(qkv|[qkv]_proj|proj|out_proj)\.weight|.*\bin_proj_weight"
_WARM_UP = 0.1  # of the steps
_MEL = MelSpec(hop_samples=512)


@dataclass(frozen=True)
class Config:
    """Encoder and windows; low-rank terms; loss and optimizer; distance."""

    encoder: str = tunable("beats-iter3")
    window_s: float = tunable(4.0, Range(1.0, 10.0), minimum=0.5)
    normalize_level: bool = tunable(True, Choice(True, False), searched=False)
    rank: int = tunable(8, Range(2, 64, log=True), minimum=1)
    rank_scale: float = tunable(16.0, Range(1.0, 64.0, log=True), minimum=0.0)
    embedding: int = tunable(256, minimum=2)
    margin: float = tunable(0.2, Range(0.0, 0.5), minimum=0.0)
    logit_scale: float = tunable(30.0, Range(8.0, 64.0, log=True), minimum=1.0)
    epochs: int = tunable(25, Range(5, 50), minimum=1)
    batch_size: int = tunable(32, minimum=2)
    target_rows: int = tunable(4, minimum=0)
    learning_rate: float = tunable(1e-4, Range(1e-5, 1e-3, log=True), minimum=0.0)
    weight_decay: float = tunable(0.01, minimum=0.0)
    precision: Precision = tunable("auto", Choice("auto", "bfloat16", "float32"), searched=False)
    spacing_neighbors: int = tunable(
        4, Range(1, 16), affects="scoring", minimum=1, when={"distance": ("knn-density", "knn-variance")}
    )
    distance: str = tunable("knn-variance", Choice("knn", "knn-density", "knn-variance"), affects="fusion")


class EncoderLora(System[Config]):
    """Distance to the nearest training clip after low-rank fine-tuning of a pretrained encoder."""

    scope = "data set"
    citation = """@inproceedings{hu2022lora,
  author = {Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, Yuanzhi and
            Wang, Shean and Wang, Lu and Chen, Weizhu},
  title = {{LoRA}: Low-Rank Adaptation of Large Language Models},
  booktitle = {ICLR},
  year = {2022}
}"""

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        if facts.groups < 2:
            raise InputError(
                f"encoder-lora learns to tell joint labels apart, and all training clips (machine types: "
                f"{', '.join(facts.machine_types)}) have the same; choose a system that needs no labels, "
                f"such as encoder-knn"
            )
        self.encoder = encoders.build(config.encoder)
        add_low_rank(self.encoder, _ATTENTION, rank=config.rank, scale=config.rank_scale)
        self.projection = nn.Linear(self.encoder.dim, config.embedding)
        self.loss = ArcFace(config.embedding, facts.groups, scale=config.logit_scale, margin=config.margin)
        neighbors = config.spacing_neighbors
        self.distances = nn.ModuleDict(
            {
                "knn": NearestNeighbors(),
                "knn-density": DensityNormalizedNeighbors(density_neighbors=neighbors),
                "knn-variance": VarianceMinimizingNeighbors(density_neighbors=neighbors),
            }
        )

    @classmethod
    def input_spec(cls, config: Config) -> InputSpec:
        """Return windows that do not overlap, with their waveforms."""
        frames = max(1, round(config.window_s * SAMPLE_RATE_HZ / _MEL.hop_samples))
        return InputSpec(_MEL, window_frames=frames, window_hop_frames=frames, waveform=True)

    @classmethod
    def batch_plan(cls, config: Config) -> BatchPlan:
        """Return one random window per clip, of all machine types."""
        return BatchPlan(config.batch_size, draw="window-per-clip", target_rows=config.target_rows)

    @classmethod
    def fusion(cls, config: Config) -> Fusion:
        """Return a fusion that counts only the chosen distance."""
        return Fusion({config.distance: 1.0})

    @classmethod
    def pretrained(cls, config: Config) -> tuple[str, ...]:
        """Return the encoder's weights."""
        return (config.encoder,)

    def load_pretrained(self, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Load the encoder, which stays as it is."""
        loaded = encoders.load(self.config.encoder, weights[self.config.encoder])
        load_frozen(self.encoder, loaded.state_dict())

    def stages(self, steps_per_epoch: int) -> list[Stage]:
        """Return one stage, with a learning rate that rises over a tenth of it and falls linearly to 0."""
        config = self.config
        trained = [value for value in self.parameters() if value.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        steps = config.epochs * steps_per_epoch
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / (_WARM_UP * steps), max(0.0, 1 - step / steps))
        )
        update = Update("all", optimizer, scheduler, gradient_clip=5.0)
        return [Stage("joint labels", [update], epochs=config.epochs, precision=config.precision)]

    def embed(self, waveform: Tensor) -> Tensor:
        """Return Float[Tensor, "row embedding"] of Float[Tensor, "row sample"]."""
        if self.config.normalize_level:
            waveform = normalize_level(waveform)
        (tokens,) = self.encoder(waveform, [self.encoder.depth])
        embeddings: Tensor = self.projection(tokens.mean(dim=1))
        return embeddings

    def forward(self, batch: ClipBatch, update: str, progress: Tensor) -> Losses:
        """Return the loss of the joint labels; the share of rows that are classified right is a monitor."""
        assert batch.waveform is not None
        assert batch.group is not None
        embeddings = self.embed(batch.waveform)
        right = self.loss.cosines(embeddings).argmax(dim=1) == batch.group
        return Losses(
            {"joint label": Mean.from_values(self.loss(embeddings, batch.group))},
            monitors={"accuracy": Mean.from_values(right.float())},
        )

    @once_per_batch
    def embed_clips(self, batch: ClipBatch) -> Tensor:
        """Return the mean embedding of each clip's windows, Float[Tensor, "clip embedding"]."""
        assert batch.waveform is not None
        return batch.mean_over_clips(self.embed(batch.waveform))

    def fit_backend(self, batches: Iterable[ClipBatch]) -> None:
        """Keep the embeddings of the machine type's training clips, and the spacings around them."""
        parts, target = [], []
        for batch in batches:
            assert batch.domain is not None  # these are training batches
            parts.append(self.embed_clips(batch))
            first_rows = torch.searchsorted(batch.clip, torch.arange(batch.n_clips, device=batch.clip.device))
            target.append(batch.domain[first_rows] == 1)
        embeddings = torch.cat(parts)
        clip = torch.arange(len(embeddings), device=embeddings.device)
        for distance in self.distances.values():
            distance.fit(embeddings, torch.cat(target), clip=clip, seed=0)  # type: ignore[operator]

    def components(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Return the distance to the nearest training clip, plain and normalized by its surroundings."""
        embeddings = self.embed_clips(batch)
        return {name: distance.score(embeddings) for name, distance in self.distances.items()}  # type: ignore[operator]

    def embeddings(self, batch: ClipBatch) -> Tensor:
        """Return the mean embedding of each clip's windows."""
        return self.embed_clips(batch)
