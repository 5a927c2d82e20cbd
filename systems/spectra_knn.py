"""A control that trains nothing: nearest neighbor of mean log spectra.

A detector that learns should beat this one. A clip is described by its log-mel spectrum in dB, averaged over
time; with ``level=removed``, the mean over the bands is subtracted, so that louder and quieter recordings of
one sound are equal. The score is the Euclidean distance to the nearest training clip of either domain
(``backend=knn``), or that distance normalized by the density of the training clips around the neighbor
(``knn-density``, ``knn-variance``; see :mod:`asdbench.backends.neighbors`).

That spectra averaged over time tell broken machines from intact ones was shown by K. Wilkinghoff,
"Sub-Cluster AdaCos: Learning Representations for Anomalous Sound Detection", IJCNN 2021, with short-time
Fourier transforms; here, they are log-mel.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from asdbench.backends import (
    Backend,
    DensityNormalizedNeighbors,
    NearestNeighbors,
    VarianceMinimizingNeighbors,
)
from asdbench.config import Choice, Range, tunable
from asdbench.spec import MelSpec
from asdbench.system import (
    BatchPlan,
    ClipBatch,
    Fusion,
    InputSpec,
    Stage,
    System,
    TrainingFacts,
    once_per_batch,
    training_embeddings,
)

_NORMALIZED = {"knn-density": DensityNormalizedNeighbors, "knn-variance": VarianceMinimizingNeighbors}


@dataclass(frozen=True)
class Config:
    """Settings; ``level`` is about the loudness of whole clips."""

    n_fft: int = tunable(1024, minimum=64, maximum=16_384)
    hop_samples: int = tunable(512, minimum=16, maximum=16_384)
    n_mels: int = tunable(128, minimum=8, maximum=512)
    level: str = tunable("kept", Choice("kept", "removed"), affects="scoring")
    backend: str = tunable("knn", Choice("knn", *_NORMALIZED), affects="fusion")
    density_neighbors: int = tunable(
        4,
        Range(1, 16, log=True),
        affects="scoring",
        minimum=1,
        maximum=1000,
        when={"backend": tuple(_NORMALIZED)},
    )


class SpectraKnn(System[Config]):
    """Euclidean distance of a clip's mean log spectrum to the nearest training clip; nothing is trained."""

    citation = """@inproceedings{wilkinghoff2021sub,
  author = {Wilkinghoff, Kevin},
  title = {Sub-Cluster {AdaCos}: Learning Representations for Anomalous Sound Detection},
  booktitle = {International Joint Conference on Neural Networks},
  year = {2021}
}"""

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.backends = nn.ModuleDict({"knn": NearestNeighbors(metric="euclidean")})
        for name, kind in _NORMALIZED.items():
            self.backends[name] = kind(density_neighbors=config.density_neighbors, metric="euclidean")

    @classmethod
    def input_spec(cls, config: Config) -> InputSpec:
        """Return whole clips in dB."""
        return InputSpec(MelSpec(config.n_fft, config.hop_samples, config.n_mels), window_frames=None)

    @classmethod
    def batch_plan(cls, config: Config) -> BatchPlan:
        """Return a plan that only serves the fit."""
        return BatchPlan(size=32, draw="window-per-clip", hold_out="cross-fit")

    @classmethod
    def fusion(cls, config: Config) -> Fusion:
        """Return a fusion that counts only the chosen back end."""
        return Fusion({config.backend: 1.0})

    def stages(self, steps_per_epoch: int) -> list[Stage]:
        """Return no stages."""
        return []

    def fit_backend(self, batches: Iterable[ClipBatch]) -> None:
        """Keep the spectra of all training clips."""
        spectra, target, clip = training_embeddings(batches, self.embeddings)
        for backend in self.backends.values():
            assert isinstance(backend, Backend)
            backend.fit(spectra, target, clip=clip, seed=0)

    def components(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Return the score of each back end."""
        spectra, scores = self.embeddings(batch), {}
        for name, backend in self.backends.items():
            assert isinstance(backend, Backend)
            scores[name] = backend.score(spectra)
        return scores

    @once_per_batch
    def embeddings(self, batch: ClipBatch) -> Tensor:
        """Return the mean log spectrum of each clip, Float[Tensor, "clip mel"]."""
        spectra = batch.windows.mean(dim=1)
        return spectra - spectra.mean(dim=1, keepdim=True) if self.config.level == "removed" else spectra
