"""One network for all machine types of a data set, trained to tell their joint labels apart.

K. Wilkinghoff, "Design choices for learning embeddings from auxiliary tasks for domain generalization in
anomalous sound detection", ICASSP 2023; settings of the recipe with trainable centers in
Fujimura et al., "ASDKit", 2025, arXiv:2507.10264. Every training clip belongs to a class: its machine type,
section, attribute values and domain together. Two branches embed the waveform of a window, one from the
spectrum of the whole window, one from its spectrogram (:mod:`asdbench.nn.spectral`); with ``resolutions=3``
there are spectrograms of three frame lengths. The concatenated embeddings are classified by sub-cluster
AdaCos (:mod:`asdbench.nn.adacos`). Half of the rows are mixed with another row of the batch,

    x <- a · x + (1 - a) · x',    loss <- a · loss(label) + (1 - a) · loss(label'),    a uniform in [0, 1].

The anomaly score is the distance of the embedding from those of the machine type's own training clips, by
default to the nearest one and normalized by the density there (:mod:`asdbench.backends`).

Departures: windows of 10 s in place of whole clips of one length, and a number of steps in place of epochs.
``normalize_level`` and ``compress`` (log1p of magnitudes) are not published; they are off by default.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asdbench import random_by_row
from asdbench.backends import BackendBank, BackendSettings
from asdbench.config import Choice, Range, tunable
from asdbench.errors import InputError
from asdbench.nn.adacos import SubClusterAdaCos
from asdbench.nn.all_rows import AllRows, partners
from asdbench.nn.spectral import SpectrogramEncoder, SpectrumEncoder
from asdbench.presets import Preset
from asdbench.spec import MelSpec
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
    training_embeddings,
)

_MEL = MelSpec(hop_samples=512, n_mels=32)  # windows are counted in its frames; the system reads waveforms
_RESOLUTIONS = {1: (1024,), 3: (256, 1024, 4096)}


@dataclass(frozen=True)
class Config(BackendSettings):
    """Settings besides those of the back ends."""

    steps: int = tunable(3000, Range(300, 10_000, log=True), minimum=2, maximum=10_000_000)
    batch_size: int = tunable(64, Range(32, 256, log=True), minimum=4, maximum=65_536)
    target_rows: int = tunable(4, Range(0, 16), minimum=0)
    learning_rate: float = tunable(1e-3, Range(1e-4, 3e-3, log=True), minimum=1e-8)
    weight_decay: float = tunable(1e-2, Range(0.0, 1e-1), minimum=0.0)
    mixup: float = tunable(0.5, Range(0.0, 1.0), minimum=0.0, maximum=1.0)
    clusters: int = tunable(16, Range(1, 32, log=True), minimum=1, maximum=1024)
    trainable_centers: bool = tunable(True, Choice(True, False))
    resolutions: int = tunable(1, Choice(1, 3))
    normalize_level: bool = tunable(False, Choice(False, True))
    compress: bool = tunable(False, Choice(False, True))
    embedding: int = tunable(128, minimum=2, maximum=4096)
    channels: int = tunable(16, minimum=2, maximum=256)
    window_frames: int = tunable(313, minimum=8, maximum=4096)
    window_hop_frames: int = tunable(156, affects="scoring", minimum=1, maximum=4096)
    precision: Precision = tunable("float32", Choice("auto", "bfloat16", "float32"), searched=False)


class AdaCos(System[Config]):
    """Windows of 10 s, embeddings of 128 numbers for each branch, 16 centers for each joint label."""

    scope = "data set"
    presets = {  # noqa: RUF012 - ClassVar in System
        "report": {},
        "fast": Preset(
            {"steps": 80, "backend": "knn-variance", "window_frames": 32, "window_hop_frames": 32},
            chosen_on=("shop",),
        ),
        "demo": {"steps": 40, "batch_size": 32, "window_frames": 32, "window_hop_frames": 32},
    }
    citation = """@inproceedings{wilkinghoff2023design,
  author = {Wilkinghoff, Kevin},
  title = {Design Choices for Learning Embeddings from Auxiliary Tasks for Domain Generalization in Anomalous
    Sound Detection},
  booktitle = {ICASSP},
  year = {2023}
}"""

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        if facts.groups < 2:
            raise InputError(
                f"adacos learns to tell joint labels apart, and all training clips (machine types: "
                f"{', '.join(facts.machine_types)}) have the same; choose a system that needs no labels"
            )
        dim, compress = config.embedding, config.compress
        samples = _MEL.n_fft + _MEL.hop_samples * (config.window_frames - 1)
        branches: list[nn.Module] = [
            SpectrumEncoder(samples, dim=dim, channels=8 * config.channels, compress=compress)
        ]
        for n_fft in _RESOLUTIONS[config.resolutions]:
            branches.append(
                SpectrogramEncoder(dim=dim, n_fft=n_fft, channels=config.channels, compress=compress)
            )
        self.branches = nn.ModuleList(branches)
        self.loss = SubClusterAdaCos(
            dim * len(branches),
            classes=facts.groups,
            clusters=config.clusters,
            trainable=config.trainable_centers,
        )
        self.all_rows = AllRows()
        self.backends = BackendBank(config)

    @classmethod
    def input_spec(cls, config: Config) -> InputSpec:
        """Return windows with their waveforms."""
        return InputSpec(_MEL, config.window_frames, config.window_hop_frames, waveform=True)

    @classmethod
    def batch_plan(cls, config: Config) -> BatchPlan:
        """Return a plan of one window of each clip, some of them from target domains."""
        return BatchPlan(config.batch_size, draw="window-per-clip", target_rows=config.target_rows)

    @classmethod
    def fusion(cls, config: Config) -> Fusion:
        """Return the back end as the only component that counts."""
        return Fusion({config.backend: 1.0})

    def stages(self, steps_per_epoch: int) -> Sequence[Stage]:
        """Return one stage of AdamW."""
        config = self.config
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        update = Update("all", optimizer)
        return [Stage("joint labels", [update], steps=config.steps, precision=config.precision)]

    def forward(self, batch: ClipBatch, update: str, progress: Tensor) -> Losses:
        """Return the loss of the joint labels, for mixed rows of both."""
        assert batch.group is not None  # these are training batches
        assert batch.waveform is not None
        waveform, other, share = self._mixed(batch, self._leveled(batch.waveform))
        log_probability = self.loss(self._embedded(waveform))
        own, others = (_negative(log_probability, label) for label in (batch.group, other))
        right = (log_probability.argmax(dim=1) == batch.group).to(share.dtype)
        return Losses(
            {"joint label": Mean.from_values(share * own + (1 - share) * others)},
            monitors={"joint label right": Mean.from_values(right, share == 1)},
        )

    def _mixed(self, batch: ClipBatch, waveform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return waveforms, some of them mixed, the label of the other row, and the own row's share."""
        assert batch.row_keys is not None
        assert batch.group is not None
        share = random_by_row.uniform(batch.row_keys, draw="share").to(waveform.dtype)
        is_mixed = random_by_row.uniform(batch.row_keys, draw="is mixed") < self.config.mixup
        share = torch.where(is_mixed, share, torch.ones_like(share))
        keys, waveforms, groups = self.all_rows(batch.row_keys, waveform, batch.group)
        partner = partners(batch.row_keys, keys)
        mixed = share[:, None] * waveform + (1 - share)[:, None] * waveforms[partner]
        return mixed, groups[partner], share

    def _leveled(self, waveform: Tensor) -> Tensor:
        """Return windows of unit power, if ``normalize_level`` says so."""
        if not self.config.normalize_level:
            return waveform
        return waveform / waveform.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-4)

    def _embedded(self, waveform: Tensor) -> Tensor:
        return torch.cat([branch(waveform) for branch in self.branches], dim=1)

    @once_per_batch
    def embed(self, batch: ClipBatch) -> Tensor:
        """Return Float[Tensor, "row dim"], the embedding of each window."""
        assert batch.waveform is not None
        return self._embedded(self._leveled(batch.waveform)).float()

    def fit_backend(self, batches: Iterable[ClipBatch]) -> None:
        """Fit all back ends on the window embeddings of the machine type's training clips."""
        embeddings, target, clip = training_embeddings(batches, self.embed)
        self.backends.fit(embeddings, target, clip=clip, seed=int(torch.randint(2**31, ())))

    def window_components(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Return one score per back end."""
        return self.backends.score(self.embed(batch), batch.clip, batch.n_clips)

    def embeddings(self, batch: ClipBatch) -> Tensor:
        """Return the mean embedding of a clip's windows."""
        return batch.mean_over_clips(self.embed(batch))


def _negative(log_probability: Tensor, label: Tensor) -> Tensor:
    return nn.functional.nll_loss(log_probability, label, reduction="none")
