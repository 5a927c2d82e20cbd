"""All back ends of an embedding system, fitted and scored together.

A system stores the scores of all back ends as components. The fusion selects among them, so that trying
another back end costs no second pass through the network.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from asdbench.backends.backend import Backend
from asdbench.backends.gaussian import Gaussian, GaussianMixture, Mahalanobis
from asdbench.backends.neighbors import (
    DensityNormalizedNeighbors,
    LocalOutlierFactor,
    NearestNeighbors,
    VarianceMinimizingNeighbors,
)
from asdbench.config import Choice, Range, tunable

SCORES = (
    "gmm",
    "gmm-max",
    "gaussian",
    "knn",
    "knn-density",
    "knn-variance",
    "mahalanobis",
    "mahalanobis-shared",
    "lof",
)
Covariance = Literal["shrunk", "ridge"]
Level = Literal["window", "clip"]

_GMM = {"backend": ("gmm", "gmm-max")}
_NEIGHBORS = {"backend": ("knn", "knn-density", "knn-variance")}
_DENSITY = {"backend": ("knn-density", "knn-variance")}
_MAHALANOBIS = {"backend": ("mahalanobis", "mahalanobis-shared")}
_RIDGE = {"backend": ("gaussian", "mahalanobis", "mahalanobis-shared")}
_LOF = {"backend": ("lof",)}


@dataclass(frozen=True)
class BackendSettings:
    """The settings of a bank, for the ``Config`` of an embedding system to inherit.

    Attributes
    ----------
    backend
        The score of the bank that the system's fusion uses.
    backend_level
        ``"window"``: fit and score the embeddings of windows; ``"clip"``: their means over each clip.
    gmm_components, gmm_reg_covar
        Of :class:`GaussianMixture`.
    neighbors, density_neighbors
        Of :class:`NearestNeighbors`, :class:`DensityNormalizedNeighbors` and
        :class:`VarianceMinimizingNeighbors`.
    covariance
        Covariances of :class:`Mahalanobis`: ``"shrunk"`` or with a ``"ridge"``.
    ridge
        Of :class:`Gaussian`, and of :class:`Mahalanobis` with ``covariance="ridge"``.
    balanced_domains
        Let both domains count the same in shared covariances.
    lof_neighbors
        Of :class:`LocalOutlierFactor`.

    Examples
    --------
    >>> BackendSettings(backend="knn").neighbors
    1
    """

    backend: str = tunable("knn-density", Choice(*SCORES), affects="fusion")
    backend_level: Level = tunable("window", Choice("window", "clip"), affects="scoring")
    gmm_components: int = tunable(
        2, Range(1, 8, log=True), affects="scoring", minimum=1, maximum=256, when=_GMM
    )
    gmm_reg_covar: float = tunable(
        1e-3, Range(1e-4, 1e-1, log=True), affects="scoring", minimum=1e-9, when=_GMM
    )
    neighbors: int = tunable(
        1, Range(1, 8, log=True), affects="scoring", minimum=1, maximum=1000, when=_NEIGHBORS
    )
    density_neighbors: int = tunable(
        4, Range(1, 16, log=True), affects="scoring", minimum=1, maximum=1000, when=_DENSITY
    )
    covariance: Covariance = tunable(
        "shrunk", Choice("shrunk", "ridge"), affects="scoring", when=_MAHALANOBIS
    )
    ridge: float = tunable(0.1, Range(0.01, 3.0, log=True), affects="scoring", minimum=1e-6, when=_RIDGE)
    balanced_domains: bool = tunable(False, Choice(False, True), affects="scoring", when=_RIDGE)
    lof_neighbors: int = tunable(
        20, Range(4, 64, log=True), affects="scoring", minimum=1, maximum=1000, when=_LOF
    )


class BackendBank(nn.Module):
    """One back end of each kind, whose scores have the names in ``SCORES``.

    Parameters
    ----------
    settings : BackendSettings
        Their parameters.

    Examples
    --------
    >>> embeddings, target = torch.eye(4).repeat(3, 1), torch.zeros(12, dtype=torch.bool)
    >>> bank, clip = BackendBank(), torch.arange(12) // 2
    >>> bank.fit(embeddings, target, clip=clip, seed=0)
    >>> sorted(bank.score(embeddings, clip, n_clips=6)) == sorted(SCORES)
    True
    """

    def __init__(self, settings: BackendSettings | None = None) -> None:
        super().__init__()
        given = settings or BackendSettings()
        ridge = given.ridge if given.covariance == "ridge" else 0.0
        balanced = given.balanced_domains
        count, density = given.neighbors, given.density_neighbors
        self.level = given.backend_level
        self.gmm = GaussianMixture(given.gmm_components, reg_covar=given.gmm_reg_covar)
        self.others = nn.ModuleDict(
            {
                "gaussian": Gaussian(given.ridge, balanced=balanced),
                "knn": NearestNeighbors(count),
                "knn-density": DensityNormalizedNeighbors(count, density_neighbors=density),
                "knn-variance": VarianceMinimizingNeighbors(count, density_neighbors=density),
                "mahalanobis": Mahalanobis(shared=False, ridge=ridge, balanced=balanced),
                "mahalanobis-shared": Mahalanobis(shared=True, ridge=ridge, balanced=balanced),
                "lof": LocalOutlierFactor(given.lof_neighbors),
            }
        )

    def fit(self, embeddings: Tensor, target: Tensor, *, clip: Tensor, seed: int) -> None:
        """Fit all back ends; parameters and errors are those of :meth:`Backend.fit`."""
        if self.level == "clip" and len(embeddings):
            clips, row = torch.unique(clip.to(embeddings.device), return_inverse=True)
            of_clip = torch.empty(len(clips), dtype=torch.bool, device=row.device)
            of_clip[row] = target.to(row.device)
            embeddings, target, clip = _means(embeddings, row, len(clips)), of_clip, clips
        for backend in (self.gmm, *self.others.values()):
            assert isinstance(backend, Backend)
            backend.fit(embeddings, target, clip=clip, seed=seed)

    def score(self, embeddings: Tensor, clip: Tensor, n_clips: int) -> dict[str, Tensor]:
        """Return the scores of each window by name, each Float64[Tensor, "window"]; see `Backend.score`.

        ``clip``, Long[Tensor, "window"], is the clip of each window, from 0 to ``n_clips - 1``. With
        ``backend_level="clip"``, each window gets the score of its clip's mean embedding.
        """
        if self.level == "window":
            return self._scores(embeddings)
        of_clips = self._scores(_means(embeddings, clip, n_clips))
        return {name: values[clip] for name, values in of_clips.items()}

    def _scores(self, embeddings: Tensor) -> dict[str, Tensor]:
        score, largest = self.gmm.score_with_max(embeddings)
        scores = {"gmm": score, "gmm-max": largest}
        for name, backend in self.others.items():
            assert isinstance(backend, Backend)
            scores[name] = backend.score(embeddings)
        return scores


def _means(embeddings: Tensor, clip: Tensor, n_clips: int) -> Tensor:
    """Return the mean embedding of each clip, Float64[Tensor, "clip dim"]."""
    count = embeddings.new_zeros(n_clips, dtype=torch.float64).index_add_(
        0, clip, embeddings.new_ones(len(clip), dtype=torch.float64)
    )
    sums = embeddings.new_zeros(n_clips, embeddings.shape[1], dtype=torch.float64)
    return sums.index_add_(0, clip, embeddings.double()) / count[:, None]
