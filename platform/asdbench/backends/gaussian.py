"""Back ends that model the training normals by Gaussian densities.

scikit-learn fits them on the CPU in float64; scores are computed in torch from means and the Cholesky factors
L of precision matrices P = L L': the squared distance of x from m is |(x - m) L|².

A ridge is a number added to the diagonal of the covariance of standardized dimensions; a constant dimension
is only centered.

Sources: full covariances with 1e-3 added to their diagonals are those of STgram-MFN as released (Liu et al.,
ICASSP 2022); shrinkage after O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional
covariance matrices", Journal of Multivariate Analysis 88(2), 2004; the smaller of the two domains' distances
as in the Selective Mahalanobis mode of Harada et al., 2023, arXiv:2303.00455.
"""

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from asdbench.backends.backend import Backend, at_least
from asdbench.errors import InputError

# A domain with fewer windows uses the shared covariance. The ten target clips of a DCASE machine type, with
# four windows or more each, are enough: shrinkage copes with fewer windows than dimensions.
LEAST_WINDOWS = 32
_CONSTANT = 1e-7  # deviation of a dimension relative to its size, up to which it counts as constant


class GaussianMixture(Backend):
    """Negative log-likelihood under a mixture of Gaussians with full covariances.

    The embeddings are standardized per dimension first (a constant dimension is only centered); the density
    is that of standardized embeddings. Both domains are fitted together.

    Parameters
    ----------
    components : int
        Number of Gaussians, at most the number of distinct windows.
    reg_covar : float
        Number added to the diagonals of the covariances.
    initializations : int
        Number of fits from different k-means initializations; the most likely one is kept. A fit that has
        not converged after 100 steps takes part too.
    """

    mean: Tensor
    deviation: Tensor
    log_weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, components: int = 2, *, reg_covar: float = 1e-3, initializations: int = 3) -> None:
        super().__init__("mean", "deviation", "log_weights", "means", "factors")
        self.components = at_least("components", components)
        self.initializations = at_least("initializations", initializations)
        if not 0 < reg_covar < math.inf:
            raise InputError(f"reg_covar is {reg_covar}; give a number above 0, such as 0.001")
        self.reg_covar = reg_covar

    def _fit(self, embeddings: Tensor, target: Tensor, clip: Tensor, seed: int) -> None:
        # Imported here, because scoring does not need it.
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture as Mixture
        from sklearn.preprocessing import StandardScaler

        windows = embeddings.double().cpu().numpy()
        scaler = StandardScaler().fit(windows)
        standardized = scaler.transform(windows)
        mixture = Mixture(
            min(self.components, len(np.unique(standardized, axis=0))),
            reg_covar=self.reg_covar,
            n_init=self.initializations,
            random_state=seed % 2**32,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(standardized)
        self.mean, self.deviation, self.log_weights, self.means, self.factors = (
            torch.from_numpy(np.ascontiguousarray(values)).to(embeddings.device)
            for values in (
                scaler.mean_,
                scaler.scale_,
                np.log(mixture.weights_),
                mixture.means_,
                mixture.precisions_cholesky_,
            )
        )

    def _score(self, embeddings: Tensor) -> Tensor:
        return -self._log_densities(embeddings).logsumexp(dim=0)

    def score_with_max(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Return the score, and minus the largest weighted log-density of a component instead of their sum's.

        Parameters, results and errors are those of :meth:`score`; the densities are computed once.
        """
        log_densities = self._log_densities(self._checked(embeddings))
        return -log_densities.logsumexp(dim=0), -log_densities.amax(dim=0)

    def _log_densities(self, embeddings: Tensor) -> Tensor:
        """Return the logarithm of weight times density, Float64[Tensor, "component window"]."""
        standardized = (embeddings - self.mean) / self.deviation
        norm = (
            self.factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)
            - math.log(2 * math.pi) * len(self.mean) / 2
        )
        distances = _squared_distances(standardized, self.means, self.factors)
        return (self.log_weights + norm)[:, None] - distances / 2


class Mahalanobis(Backend):
    """Squared Mahalanobis distance to the nearer of the two domains' means.

    A domain without windows is skipped. Without a ridge, covariances are shrunk after Ledoit and Wolf, and
    their diagonals are increased by 1e-9 of their mean variance plus 1e-12, so that constant embeddings have
    finite scores.

    Parameters
    ----------
    shared : bool
        Use one covariance for both domains, that of the windows minus the mean of their domain; otherwise one
        covariance per domain, where a domain of fewer than 32 windows uses the shared one.
    ridge : float
        If above 0, add it to the diagonals of the standardized dimensions' covariances instead of shrinking.
    balanced : bool
        Let both domains count the same in the shared covariance, regardless of their numbers of windows.
    """

    means: Tensor
    factors: Tensor

    def __init__(self, *, shared: bool, ridge: float = 0.0, balanced: bool = False) -> None:
        super().__init__("means", "factors")
        if not 0 <= ridge < math.inf:
            raise InputError(f"ridge is {ridge}; give 0 or a number above, such as 0.1")
        self.shared = shared
        self.ridge = ridge
        self.balanced = balanced

    def _fit(self, embeddings: Tensor, target: Tensor, clip: Tensor, seed: int) -> None:
        windows = embeddings.double()
        domains = _domains(windows, target)
        self.means = torch.stack([part.mean(dim=0) for part in domains])
        centered = [part - mean for part, mean in zip(domains, self.means, strict=True)]
        size = windows.abs().mean(dim=0)
        shared = self._factor(torch.cat(_weighted(centered) if self.balanced else centered), size)
        self.factors = (
            shared[None]
            if self.shared
            else torch.stack([self._factor(p, size) if len(p) >= LEAST_WINDOWS else shared for p in centered])
        )

    def _factor(self, centered: Tensor, size: Tensor) -> Tensor:
        return _ridge_factor(centered, self.ridge, size) if self.ridge else _shrunk_factor(centered)

    def _score(self, embeddings: Tensor) -> Tensor:
        return _squared_distances(embeddings, self.means, self.factors).amin(dim=0)


class Gaussian(Backend):
    """Squared Mahalanobis distance to the mean of both domains together, with a ridge.

    Parameters
    ----------
    ridge : float
        Number added to the diagonal of the standardized dimensions' covariance.
    balanced : bool
        Let both domains count the same in mean and covariance, regardless of their numbers of windows.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, ridge: float = 0.1, *, balanced: bool = False) -> None:
        super().__init__("mean", "factor")
        if not 0 < ridge < math.inf:
            raise InputError(f"ridge is {ridge}; give a number above 0, such as 0.1")
        self.ridge = ridge
        self.balanced = balanced

    def _fit(self, embeddings: Tensor, target: Tensor, clip: Tensor, seed: int) -> None:
        windows = embeddings.double()
        domains = _domains(windows, target) if self.balanced else [windows]
        self.mean = torch.stack([part.mean(dim=0) for part in domains]).mean(dim=0)
        centered = torch.cat(_weighted([part - self.mean for part in domains]))
        self.factor = _ridge_factor(centered, self.ridge, windows.abs().mean(dim=0))

    def _score(self, embeddings: Tensor) -> Tensor:
        return _squared_distances(embeddings, self.mean[None], self.factor[None])[0]


def _domains(windows: Tensor, target: Tensor) -> list[Tensor]:
    """Return the windows of each domain that has some."""
    return [part for part in (windows[~target], windows[target]) if len(part)]


def _weighted(domains: list[Tensor]) -> list[Tensor]:
    """Return centered windows scaled so that the mean square over all is the mean of the domains'."""
    total = sum(map(len, domains))
    return [part * math.sqrt(total / (len(domains) * len(part))) for part in domains]


def _squared_distances(embeddings: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """Return squared distances, Float64[Tensor, "mean window"]; one factor may serve all means."""
    return ((embeddings - means[:, None]) @ factors).square().sum(dim=2)


def _shrunk_factor(centered: Tensor) -> Tensor:
    """Return L with L L' the inverse of the shrunk covariance of centered windows, Float64["dim dim"]."""
    from sklearn.covariance import ledoit_wolf

    covariance = torch.from_numpy(ledoit_wolf(centered.cpu().numpy(), assume_centered=True)[0])
    covariance.diagonal().add_(1e-9 * covariance.diagonal().mean() + 1e-12)
    return _inverse_root(covariance).to(centered.device)


def _ridge_factor(centered: Tensor, ridge: float, size: Tensor) -> Tensor:
    """Return L with L L' the inverse covariance of centered windows with a ridge, Float64["dim dim"].

    ``size``, Float64[Tensor, "dim"], is the mean absolute value of the windows before they were centered.
    """
    deviation = centered.square().mean(dim=0).sqrt()
    deviation = torch.where(deviation > _CONSTANT * size, deviation, 1.0)
    standardized = (centered / deviation).cpu()
    covariance = standardized.T @ standardized / len(standardized)
    covariance.diagonal().add_(ridge)
    return _inverse_root(covariance).to(centered.device) / deviation[:, None]


def _inverse_root(covariance: Tensor) -> Tensor:
    """Return L with L L' the inverse of a covariance on the CPU."""
    root = torch.linalg.cholesky(covariance)
    identity = torch.eye(len(root), dtype=root.dtype)
    inverse: Tensor = torch.linalg.solve_triangular(root, identity, upper=False).T.contiguous()
    return inverse
