"""Back ends that model the training normals by Gaussian densities.

scikit-learn fits them on the CPU in float64; scores are computed in torch from means and the Cholesky factors
L of precision matrices P = L L': the squared distance of x from m is |(x - m) L|².

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

    def score_max(self, embeddings: Tensor) -> Tensor:
        """Return minus the largest weighted log-density of a component, instead of that of their sum.

        Parameters, result and errors are those of :meth:`score`.
        """
        return -self._log_densities(self._checked(embeddings)).amax(dim=0)

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

    A domain without windows is skipped. The diagonal of each covariance is increased by 1e-9 of its mean
    variance plus 1e-12, so that constant embeddings have finite scores.

    Parameters
    ----------
    shared : bool
        Use one covariance for both domains, that of the windows minus the mean of their domain; otherwise one
        covariance per domain, where a domain of fewer than 32 windows uses the shared one.
    """

    means: Tensor
    factors: Tensor

    def __init__(self, *, shared: bool) -> None:
        super().__init__("means", "factors")
        self.shared = shared

    def _fit(self, embeddings: Tensor, target: Tensor, clip: Tensor, seed: int) -> None:
        windows = embeddings.double()
        domains = [part for part in (windows[~target], windows[target]) if len(part)]
        self.means = torch.stack([part.mean(dim=0) for part in domains])
        centered = [part - mean for part, mean in zip(domains, self.means, strict=True)]
        shared = _precision_factor(torch.cat(centered))
        self.factors = (
            shared[None]
            if self.shared
            else torch.stack([_precision_factor(p) if len(p) >= LEAST_WINDOWS else shared for p in centered])
        )

    def _score(self, embeddings: Tensor) -> Tensor:
        return _squared_distances(embeddings, self.means, self.factors).amin(dim=0)


def _squared_distances(embeddings: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """Return squared distances, Float64[Tensor, "mean window"]; one factor may serve all means."""
    return ((embeddings - means[:, None]) @ factors).square().sum(dim=2)


def _precision_factor(centered: Tensor) -> Tensor:
    """Return L with L L' the inverse of the shrunk covariance of centered windows, Float64["dim dim"]."""
    from sklearn.covariance import ledoit_wolf

    covariance = torch.from_numpy(ledoit_wolf(centered.cpu().numpy(), assume_centered=True)[0])
    covariance.diagonal().add_(1e-9 * covariance.diagonal().mean() + 1e-12)
    root = torch.linalg.cholesky(covariance)
    identity = torch.eye(len(root), dtype=root.dtype)
    factor: Tensor = torch.linalg.solve_triangular(root, identity, upper=False).T.contiguous()
    return factor.to(centered.device)
