"""The autoencoder baseline of DCASE 2023 Task 2, scored by a (selective) Mahalanobis distance.

Harada et al., 2023, arXiv:2303.00455, section III, equations 2 and 3 (Selective Mahalanobis mode): the
residuals of normal training vectors give one covariance per domain; a clip's score is the smaller of its two
distances.

The released implementation does not compute the mean of frame-wise distances that the paper describes. It
averages the whole matrix of products r_i' P r_j over frames i and j, which is the distance m' P m of the
clip's mean residual m. ``maha_mode=released`` (default) does the same; ``maha_mode=per_frame`` follows the
paper, and so does the system ``baseline-maha-per-frame``, for a row of its own. As in the released
implementation, residuals of 640 values count as five vectors of 128, the subtracted mean is that of the batch
and domain, and the scatter is divided by the number of 640-vectors minus one. A domain without training
vectors uses the other domain's covariance. A singular covariance is inverted on its range.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from asdbench.config import Choice, tunable
from asdbench.system import ClipBatch, Fusion, System, TrainingFacts


@dataclass(frozen=True)
class Config:
    """Settings in addition to those of the autoencoder."""

    maha_mode: str = tunable("released", Choice("released", "per_frame"), affects="fusion")


class BaselineMaha(System[Config]):
    """Mahalanobis scores of the autoencoder that ``baseline-mse`` trains."""

    training_of = "baseline-mse"
    citation = """@article{harada2023firstshot,
  author = {Harada, Noboru and Niizumi, Daisuke and Takeuchi, Daiki and Ohishi, Yasunori and
            Yasuda, Masahiro},
  title = {First-shot anomaly detection for machine condition monitoring: A domain generalization baseline},
  journal = {arXiv:2303.00455},
  year = {2023}
}"""
    precision: Tensor

    def __init__(self, config: Config, facts: TrainingFacts, trained: Any) -> None:
        super().__init__(config, facts)
        self.trained = trained
        mels = trained.config.n_mels
        self.register_buffer("precision", torch.zeros(2, mels, mels, dtype=torch.float64))

    @classmethod
    def fusion(cls, config: Config) -> Fusion:
        """Return a fusion that counts only the chosen distance."""
        return Fusion({config.maha_mode: 1.0})

    def fit_backend(self, batches: Iterable[ClipBatch]) -> None:
        """Estimate the inverse covariance of the residuals in each domain."""
        scatter = torch.zeros_like(self.precision)
        vectors = [0, 0]
        for batch in batches:
            assert batch.domain is not None  # these are training batches
            residuals = self.trained.residuals(batch)
            for domain in (0, 1):
                rows = residuals[batch.domain == domain].flatten(0, 1).double()
                if len(rows):
                    centered = rows - rows.mean(dim=0)
                    scatter[domain] += centered.T @ centered
                    vectors[domain] += int((batch.domain == domain).sum())
        for domain in (0, 1):
            known = domain if vectors[domain] > 1 else 1 - domain
            self.precision[domain] = torch.linalg.pinv(
                scatter[known] / max(1, vectors[known] - 1), hermitian=True
            )

    def components(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Return ``released`` and ``per_frame``, each the smaller of the two domains' distances."""
        residuals = self.trained.residuals(batch).double()
        count = torch.bincount(batch.clip, minlength=batch.n_clips) * residuals.shape[1]
        sums = residuals.new_zeros(batch.n_clips, residuals.shape[2]).index_add_(
            0, batch.clip, residuals.sum(dim=1)
        )
        mean = sums / count[:, None]
        released = torch.einsum("ci,dij,cj->dc", mean, self.precision, mean)
        frames = torch.einsum("rfi,dij,rfj->dr", residuals, self.precision, residuals)
        per_frame = released.new_zeros(2, batch.n_clips).index_add_(1, batch.clip, frames) / count
        return {"released": released.amin(dim=0), "per_frame": per_frame.amin(dim=0)}

    def embeddings(self, batch: ClipBatch) -> Tensor:
        """Return those of the autoencoder: the mean bottleneck of a clip's vectors."""
        embeddings: Tensor = self.trained.embeddings(batch)
        return embeddings
