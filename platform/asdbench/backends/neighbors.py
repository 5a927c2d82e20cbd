"""Back ends that store the training embeddings and search for the nearest ones.

Cosine distance is computed as half the squared Euclidean distance of unit vectors, 1 - cos, which is exact
for windows that are almost equal. A zero vector stays zero: its distance to another zero vector is 0, to any
other vector ½. With fewer references than requested neighbors, all references are used. References have the
type of the embeddings.

Sources: the smaller of the two domains' distances as in Harada et al., 2023, arXiv:2303.00455, who apply it
to Mahalanobis distances; local density based normalization is K. Wilkinghoff et al., "Keeping the Balance:
Anomaly Score Calculation for Domain Generalization", ICASSP 2025, and "Local Density-Based Anomaly Score
Normalization for Domain Generalization", 2025, arXiv:2509.10951; the local outlier factor is M. M. Breunig et
al., "LOF: identifying density-based local outliers", SIGMOD 2000.

Departures: Wilkinghoff et al. score clips. Overlapping windows of one clip are near-duplicates, so a window's
own clip is excluded from its local density; densities are computed within a domain; the mean distance
replaces the sum.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from asdbench.backends.backend import Backend, at_least

# Lower bound of the mean distance of a reference to its neighbors, that of a cosine of 1 - 1e-9. Differences
# between equal windows due to float32 rounding are far smaller.
LEAST_SPACING = 1e-9
_CHUNK_ELEMENTS = 2**22  # 32 MB in float64
_MARGIN = 8  # candidates in addition to the requested neighbors


class NearestNeighbors(Backend):
    """Mean cosine distance to the nearest references of a domain, in the domain where it is smaller.

    A domain without references is skipped.

    Parameters
    ----------
    neighbors : int
        Number of nearest references of each domain that are averaged.
    """

    source: Tensor
    target: Tensor

    def __init__(self, neighbors: int = 1) -> None:
        super().__init__("source", "target")
        self.neighbors = at_least("neighbors", neighbors)

    def _fit(self, embeddings: Tensor, target: Tensor, clip: Tensor, seed: int) -> None:
        self.source, self.target = embeddings[~target], embeddings[target]

    def _score(self, embeddings: Tensor) -> Tensor:
        scores = [
            _nearest(_unit(embeddings), _unit(references), self.neighbors)[0].mean(dim=1) / 2
            for references in (self.source, self.target)
            if len(references)
        ]
        return torch.stack(scores).amin(dim=0)


class DensityNormalizedNeighbors(Backend):
    """Like :class:`NearestNeighbors`, with each distance divided by the spacing around its reference.

    The spacing of a reference is its mean cosine distance to its nearest references of the same domain and
    another clip, at least 1e-9. If the domain has only one clip, that clip's references are used; a reference
    that is alone in its domain gets the mean of the other domain. The nearest references have the smallest
    ratios.

    Parameters
    ----------
    neighbors : int
        Number of smallest ratios in each domain that are averaged.
    density_neighbors : int
        Number of nearest references that the spacing is computed from.
    """

    source: Tensor
    target: Tensor
    source_spacing: Tensor
    target_spacing: Tensor

    def __init__(self, neighbors: int = 1, *, density_neighbors: int = 4) -> None:
        super().__init__("source", "target", "source_spacing", "target_spacing")
        self.neighbors = at_least("neighbors", neighbors)
        self.density_neighbors = at_least("density_neighbors", density_neighbors)

    def _fit(self, embeddings: Tensor, target: Tensor, clip: Tensor, seed: int) -> None:
        self.source, self.target = embeddings[~target], embeddings[target]
        spacings = [self._spacing(embeddings[domain], clip[domain]) for domain in (~target, target)]
        known = torch.cat(spacings)
        alone = known.nanmean() if known.isfinite().any() else 1.0
        self.source_spacing, self.target_spacing = (
            torch.where(spacing.isnan(), alone, spacing).clamp_min(LEAST_SPACING) for spacing in spacings
        )

    def _spacing(self, references: Tensor, clip: Tensor) -> Tensor:
        """Return Float64[Tensor, "reference"]; NaN for a lone reference."""
        if not len(references):
            return references.new_empty(0, dtype=torch.float64)
        if bool((clip == clip[0]).all()):
            clip = torch.arange(len(clip), device=clip.device)
        unit = _unit(references)
        distances = _nearest(unit, unit, self.density_neighbors, group=clip)[0] / 2
        return torch.where(distances.isfinite(), distances, torch.nan).nanmean(dim=1)

    def _score(self, embeddings: Tensor) -> Tensor:
        scores = [
            _nearest(_unit(embeddings), _unit(references), self.neighbors, scale=spacing)[0].mean(dim=1) / 2
            for references, spacing in (
                (self.source, self.source_spacing),
                (self.target, self.target_spacing),
            )
            if len(references)
        ]
        return torch.stack(scores).amin(dim=0)


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
        windows = embeddings.double()
        each = torch.arange(len(windows), device=windows.device)
        count = min(self.neighbors, len(windows) - 1)
        squared, nearest = _nearest(windows, windows, count, group=each)
        self.reach = squared[:, -1].sqrt()
        self.density = _reachability_density(squared.sqrt(), self.reach[nearest])

    def _score(self, embeddings: Tensor) -> Tensor:
        count = min(self.neighbors, len(self.references) - 1)
        squared, nearest = _nearest(embeddings, self.references.double(), count)
        density = _reachability_density(squared.sqrt(), self.reach[nearest])
        return self.density[nearest].mean(dim=1) / density


def _reachability_density(distances: Tensor, reach: Tensor) -> Tensor:
    """Return the inverse mean of reachability distances; both arguments have axes "window neighbor"."""
    return 1 / (torch.maximum(distances, reach).mean(dim=1) + 1e-10)  # as in scikit-learn, for duplicates


def _unit(vectors: Tensor) -> Tensor:
    return normalize(vectors.double(), dim=1, eps=1e-300)


def _nearest(
    queries: Tensor,
    references: Tensor,
    count: int,
    *,
    scale: Tensor | None = None,
    group: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the smallest squared Euclidean distances to references, ascending, and their indices.

    Matrix products select candidates, in chunks of bounded memory. The distances of the candidates are then
    computed from differences, which avoids cancellation and does not depend on the other queries.

    Parameters
    ----------
    queries : Float64[Tensor, "window dim"]
    references : Float64[Tensor, "reference dim"]
    count : number of neighbors of each query; all references if there are fewer
    scale : Float64[Tensor, "reference"], divides the squared distances to each reference
    group : Long[Tensor, "reference"], if the queries are the references: pairs of one group are infinitely
        far apart

    Returns
    -------
    Float64[Tensor, "window neighbor"] and Long[Tensor, "window neighbor"]
    """
    count = min(count, len(references))
    candidates = min(count + _MARGIN, len(references))
    rows = max(1, _CHUNK_ELEMENTS // max(len(references), candidates * references.shape[1]))
    center = references.mean(dim=0)
    centered = references - center
    norms = centered.square().sum(dim=1)
    nearest: list[tuple[Tensor, Tensor]] = []
    for start in range(0, max(1, len(queries)), rows):
        chunk = queries[start : start + rows]
        shifted = chunk - center
        cost = torch.addmm(norms, shifted, centered.T, alpha=-2)
        if scale is not None:
            cost = (cost + shifted.square().sum(dim=1, keepdim=True)) / scale
        if group is not None:
            cost.masked_fill_(group[start : start + rows, None] == group, torch.inf)
        near = cost.topk(candidates, dim=1, largest=False, sorted=False).indices.sort(dim=1).values
        squared = (chunk[:, None] - references[near]).square().sum(dim=2)
        if scale is not None:
            squared = squared / scale[near]
        if group is not None:
            squared.masked_fill_(group[start : start + rows, None] == group[near], torch.inf)
        squared, order = squared.sort(dim=1, stable=True)
        nearest.append((squared[:, :count], near.gather(1, order[:, :count])))
    return torch.cat([squared for squared, _ in nearest]), torch.cat([near for _, near in nearest])
