"""Back ends that store the training embeddings and search for the nearest ones (`nearest`).

Cosine distance is computed as half the squared Euclidean distance of unit vectors, 1 - cos, which is exact
for windows that are almost equal. A zero vector stays zero: its distance to another zero vector is 0, to any
other vector ½. With fewer references than requested neighbors, all references are used. References have the
type of the embeddings.

With D a distance, y a reference and s(y) its spacing, the mean distance to its nearest other references,

    density normalization     min over y of  D(x, y) / s(y)
    variance minimization     min over y of  log D(x, y) - a · log s(y),    a = Cov(u, v) / Var(v)

where, for each reference, u is the logarithm of its distance to the nearest other reference and v that of
this neighbor's spacing: with this a, the variance of u - a·v, the scores of the references themselves, is
smallest. With a = 1, the order of scores is that of density normalization, with a = 0 that of the nearest
neighbor.

Sources: the smaller of the two domains' distances as in Harada et al., 2023, arXiv:2303.00455, who apply it
to Mahalanobis distances; local density based normalization is K. Wilkinghoff et al., "Keeping the Balance:
Anomaly Score Calculation for Domain Generalization", ICASSP 2025, and "Local Density-Based Anomaly Score
Normalization for Domain Generalization", 2025, arXiv:2509.10951; variance minimization is M. Matsumoto et
al., "Adjusting Bias in Anomaly Scores via Variance Minimization for Domain-Generalized Discriminative
Anomalous Sound Detection", DCASE Workshop 2025, in the logarithmic form of K. Wilkinghoff et al., "Temporal
Pooling Strategies for Training-Free Anomalous Sound Detection with Self-Supervised Audio Embeddings", 2026,
arXiv:2603.04605; the local outlier factor is M. M. Breunig et al., "LOF: identifying density-based local
outliers", SIGMOD 2000.

Departures: Wilkinghoff et al. score clips. Overlapping windows of one clip are near-duplicates, so the other
references of a window are those of other clips. The mean distance replaces the sum.
"""

import torch
from torch import Tensor

from asdbench.backends.backend import Backend, at_least
from asdbench.backends.nearest import Metric, NearestReferences

# Lower bounds of the mean distance of a reference to its neighbors: that of a cosine of 1 - 1e-9, since what
# float32 rounding makes of equal windows is far smaller; and one for copies, which are no domain of their own
LEAST_SPACING = 1e-9
_LEAST_SHARE = 1e-3  # of the median spacing of the references that are no copies


class NearestNeighbors(Backend):
    """Mean distance to the nearest references of a domain, in the domain where it is smaller.

    A domain without references is skipped.

    Parameters
    ----------
    neighbors : int
        Number of nearest references of each domain that are averaged.
    metric : "cosine" or "euclidean"
        The distance.
    """

    source: Tensor
    target: Tensor

    def __init__(self, neighbors: int = 1, *, metric: Metric = "cosine") -> None:
        super().__init__("source", "target")
        self.neighbors = at_least("neighbors", neighbors)
        self.metric: Metric = metric

    def _fit(self, embeddings: Tensor, target: Tensor, clip: Tensor, seed: int) -> None:
        self.source, self.target = embeddings[~target], embeddings[target]

    def _score(self, embeddings: Tensor) -> Tensor:
        domains = self._prepared(
            lambda: [NearestReferences(part, self.metric) for part in (self.source, self.target) if len(part)]
        )
        scores = [domain.search(embeddings, self.neighbors)[0].mean(dim=1) for domain in domains]
        return torch.stack(scores).amin(dim=0)


class DensityNormalizedNeighbors(Backend):
    """Mean of the smallest ratios of the distance to a reference and the spacing around that reference.

    The spacing of a reference is its mean distance to its nearest references of other clips, at least 1e-9,
    and at least a thousandth of the median spacing, that of references with as many copies left out. With a
    single clip, that clip's other references are used. References of both domains are one set: a reference of
    a sparse domain has a wide spacing, which is what balances the domains.

    Parameters
    ----------
    neighbors : int
        Number of smallest ratios that are averaged.
    density_neighbors : int
        Number of nearest references that the spacing is computed from.
    metric : "cosine" or "euclidean"
        The distance.
    """

    references: Tensor
    spacing: Tensor

    def __init__(self, neighbors: int = 1, *, density_neighbors: int = 4, metric: Metric = "cosine") -> None:
        super().__init__("references", "spacing")
        self.neighbors = at_least("neighbors", neighbors)
        self.density_neighbors = at_least("density_neighbors", density_neighbors)
        self.metric: Metric = metric

    def _fit(self, embeddings: Tensor, target: Tensor, clip: Tensor, seed: int) -> None:
        self.references = embeddings
        self.spacing = self._among_references(clip)[0]

    def _among_references(self, clip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return spacing, distance to the nearest reference of another clip, and the latter's index.

        Both have the same lower bound.
        """
        if bool((clip == clip[0]).all()):
            clip = torch.arange(len(clip), device=clip.device)
        distances, nearest = NearestReferences(self.references, self.metric).search(
            self.references, self.density_neighbors, group=clip
        )
        known = torch.where(distances.isfinite(), distances, torch.nan)
        spacing = known.nanmean(dim=1)
        apart = spacing[spacing > LEAST_SPACING]
        least = max(LEAST_SPACING, _LEAST_SHARE * float(apart.median())) if len(apart) else LEAST_SPACING
        return spacing.clamp_min(least), distances[:, 0].clamp_min(least), nearest[:, 0]

    def _score(self, embeddings: Tensor) -> Tensor:
        references = self._prepared(lambda: NearestReferences(self.references, self.metric))
        return references.search(embeddings, self.neighbors, spacing=self.spacing)[0].mean(dim=1)


class VarianceMinimizingNeighbors(DensityNormalizedNeighbors):
    """Logarithm of the mean of the smallest ratios of the distance to a reference and a power of its spacing.

    The exponent of the spacing is the one with which the scores of the references themselves vary least (see
    the module); it is 0 where all spacings are equal. Parameters are those of
    :class:`DensityNormalizedNeighbors`; a mean ratio counts as at least 1e-9.
    """

    def _fit(self, embeddings: Tensor, target: Tensor, clip: Tensor, seed: int) -> None:
        self.references = embeddings
        spacing, distance, nearest = self._among_references(clip)
        own = distance.log()
        neighbors = spacing.log()[nearest]
        variance = neighbors.var(correction=0)
        covariance = ((own - own.mean()) * (neighbors - neighbors.mean())).mean()
        exponent = covariance / variance if variance > LEAST_SPACING else torch.zeros_like(variance)
        self.spacing = spacing**exponent

    def _score(self, embeddings: Tensor) -> Tensor:
        return super()._score(embeddings).clamp_min(LEAST_SPACING).log()


class LocalOutlierFactor(Backend):
    """Local outlier factor of a window among the training windows, near 1 for a typical window.

    Uses Euclidean distances and both domains together; windows of the same clip can be neighbors. Equals
    ``sklearn.neighbors.LocalOutlierFactor(novelty=True)``, with exact distances between duplicates.

    Parameters
    ----------
    neighbors : int
        Number of neighbors; all other windows if there are fewer.
    """

    references: Tensor
    reach: Tensor
    density: Tensor

    def __init__(self, neighbors: int = 20) -> None:
        super().__init__("references", "reach", "density")
        self.neighbors = at_least("neighbors", neighbors)

    def _fit(self, embeddings: Tensor, target: Tensor, clip: Tensor, seed: int) -> None:
        self.references = embeddings
        each = torch.arange(len(embeddings), device=embeddings.device)
        count = min(self.neighbors, len(embeddings) - 1)
        references = NearestReferences(embeddings, "euclidean")
        distances, nearest = references.search(embeddings, count, group=each)
        self.reach = distances[:, -1].clone()
        self.density = _reachability_density(distances, self.reach[nearest])

    def _score(self, embeddings: Tensor) -> Tensor:
        count = min(self.neighbors, len(self.references) - 1)
        references = self._prepared(lambda: NearestReferences(self.references, "euclidean"))
        distances, nearest = references.search(embeddings, count)
        density = _reachability_density(distances, self.reach[nearest])
        return self.density[nearest].mean(dim=1) / density


def _reachability_density(distances: Tensor, reach: Tensor) -> Tensor:
    """Return the inverse mean of reachability distances; both arguments have axes "window neighbor"."""
    return 1 / (torch.maximum(distances, reach).mean(dim=1) + 1e-10)  # as in scikit-learn, for duplicates
