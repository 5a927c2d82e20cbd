"""All back ends of an embedding system, fitted and scored together.

A system stores the scores of all back ends as components. The fusion selects among them, so that trying
another back end costs no second pass through the network.
"""

from torch import Tensor, nn

from asdbench.backends.backend import Backend
from asdbench.backends.gaussian import GaussianMixture, Mahalanobis
from asdbench.backends.neighbors import DensityNormalizedNeighbors, LocalOutlierFactor, NearestNeighbors

SCORES = ("gmm", "gmm-max", "knn", "knn-density", "mahalanobis", "mahalanobis-shared", "lof")


class BackendBank(nn.Module):
    """One back end of each kind, whose scores have the names in ``SCORES``.

    Parameters
    ----------
    gmm_components, gmm_reg_covar : of :class:`GaussianMixture`
    neighbors : of :class:`NearestNeighbors` and :class:`DensityNormalizedNeighbors`
    density_neighbors : of :class:`DensityNormalizedNeighbors`
    lof_neighbors : of :class:`LocalOutlierFactor`

    Examples
    --------
    >>> import torch
    >>> embeddings = torch.eye(4).repeat(3, 1)
    >>> bank, target = BackendBank(), torch.zeros(12, dtype=torch.bool)
    >>> bank.fit(embeddings, target, clip=torch.arange(12), seed=0)
    >>> sorted(bank.score(embeddings)) == sorted(SCORES)
    True
    """

    def __init__(
        self,
        *,
        gmm_components: int = 2,
        gmm_reg_covar: float = 1e-3,
        neighbors: int = 1,
        density_neighbors: int = 4,
        lof_neighbors: int = 20,
    ) -> None:
        super().__init__()
        self.gmm = GaussianMixture(gmm_components, reg_covar=gmm_reg_covar)
        self.others = nn.ModuleDict(
            {
                "knn": NearestNeighbors(neighbors),
                "knn-density": DensityNormalizedNeighbors(neighbors, density_neighbors=density_neighbors),
                "mahalanobis": Mahalanobis(shared=False),
                "mahalanobis-shared": Mahalanobis(shared=True),
                "lof": LocalOutlierFactor(lof_neighbors),
            }
        )

    def fit(self, embeddings: Tensor, target: Tensor, *, clip: Tensor, seed: int) -> None:
        """Fit all back ends; parameters and errors are those of :meth:`Backend.fit`."""
        for backend in (self.gmm, *self.others.values()):
            assert isinstance(backend, Backend)
            backend.fit(embeddings, target, clip=clip, seed=seed)

    def score(self, embeddings: Tensor) -> dict[str, Tensor]:
        """Return the scores of each window by name, each Float64[Tensor, "window"]; see `Backend.score`."""
        scores = {"gmm": self.gmm.score(embeddings), "gmm-max": self.gmm.score_max(embeddings)}
        for name, backend in self.others.items():
            assert isinstance(backend, Backend)
            scores[name] = backend.score(embeddings)
        return scores
