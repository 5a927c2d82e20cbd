"""Exact nearest references by float32 matrix products, on the device of the embeddings.

A float32 product gives, for every pair of a query and a reference, a lower bound of the squared distance. The
references with the smallest bounds are the candidates; their distances are then computed from differences in
float64, which avoids cancellation and does not depend on the other queries. Where the distance of the last
neighbor is at most every bound that was left out, no other reference can be nearer. Where it is not, the
query is searched again with float64 products. The result is always that of float64.

The bound: the computed product of two rounded vectors x, y of n dimensions errs by at most (λ√n + 4)u·|x||y|,
u = 2⁻²⁴, with a probability of at least 1 - 2n·exp(-λ²/2) (N. J. Higham and T. Mary, "A new approach to
probabilistic rounding error analysis", SIAM Journal on Scientific Computing 41(5), 2019, theorem 2.4; the
errors of partial sums are far below what it allows, so that λ = 4 is ample). The term is subtracted within
the same product, as one more dimension.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

Metric = Literal["cosine", "euclidean"]

_CHUNK_ELEMENTS = 2**22  # 32 MB in float64
_MARGIN = 8  # candidates in addition to the requested neighbors
_LAMBDA = 4.0
_LEAST_NORM = 1e-300  # a zero vector stays zero


class NearestReferences:
    """References, prepared for the search of those nearest to queries.

    Parameters
    ----------
    references : Float[Tensor, "reference dim"], kept as they are, not copied
    metric : cosine distance, 1 - cos, computed as half the squared Euclidean distance of unit vectors, or
        Euclidean distance

    Examples
    --------
    >>> references = NearestReferences(torch.tensor([[0.0, 3.0], [4.0, 0.0]]), "euclidean")
    >>> distances, nearest = references.search(torch.zeros(1, 2), 1)
    >>> distances.item(), nearest.item()
    (3.0, 0)
    """

    def __init__(self, references: Tensor, metric: Metric) -> None:
        self.references, self.metric = references, metric
        norms = torch.linalg.vector_norm(references.double(), dim=1, keepdim=True)
        self._norms = norms.clamp_min(_LEAST_NORM)
        points = self._points()
        self._center = points.mean(dim=0)
        centered = points - self._center
        lengths = torch.linalg.vector_norm(centered, dim=1, keepdim=True)
        self._radius = lengths.amax().clamp_min(_LEAST_NORM)  # by it all is divided: nothing overflows
        self._share = (_LAMBDA * math.sqrt(references.shape[1]) + 8) * 2**-24  # of |x||y|, the error
        self._factors = (torch.cat([centered, lengths], dim=1) / self._radius).float()
        self._bounds = ((lengths / self._radius).square()[:, 0] * (1 - self._share)).float()

    def search(
        self, queries: Tensor, count: int, *, spacing: Tensor | None = None, group: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the smallest distances to references, ascending, and their indices.

        On a GPU, the call waits once, to learn which queries need float64 products.

        Parameters
        ----------
        queries : Float[Tensor, "window dim"]
        count : number of neighbors of each query; all references if there are fewer
        spacing : Float64[Tensor, "reference"], divides the distances to each reference
        group : Long[Tensor, "reference"], if the queries are the references: pairs of one group are
            infinitely far apart

        Returns
        -------
        Float64[Tensor, "window neighbor"] and Long[Tensor, "window neighbor"]
        """
        queries = queries.double()
        if self.metric == "cosine":
            queries = normalize(queries, dim=1, eps=_LEAST_NORM)
        elif spacing is not None:
            spacing = spacing.square()
        search = _Search(self, queries, min(count, len(self.references)), spacing, group)
        squared, nearest = search.run()
        return (squared / 2 if self.metric == "cosine" else squared.sqrt()), nearest

    def _points(self) -> Tensor:
        """Return the points between which distances are taken, Float64[Tensor, "reference dim"]."""
        points = self.references.double()
        return points / self._norms if self.metric == "cosine" else points

    def _some_points(self, which: Tensor) -> Tensor:
        """Return some of these points in new memory, Float64[Tensor, "... dim"]."""
        points = self.references[which].double()
        return points.div_(self._norms[which]) if self.metric == "cosine" else points


class _Search:
    """The search of the ``count`` nearest references of some queries, Float64[Tensor, "window dim"]."""

    def __init__(
        self,
        references: NearestReferences,
        queries: Tensor,
        count: int,
        scale: Tensor | None,
        group: Tensor | None,
    ) -> None:
        self.references, self.queries, self.count = references, queries, count
        self.scale, self.group = scale, group
        n_references, dim = references.references.shape
        self.n_candidates = min(count + _MARGIN, n_references)
        self.chunk_rows = max(1, _CHUNK_ELEMENTS // max(n_references, self.n_candidates * dim))

    def run(self) -> tuple[Tensor, Tensor]:
        """Return squared distances, divided by the scale, and indices, each "window neighbor"."""
        every = torch.arange(len(self.queries), device=self.queries.device)
        with _full_float32(self.queries.device.type):
            found = [self._by_bounds(rows) for rows in torch.split(every, self.chunk_rows)]
        squared, nearest, is_certain = (torch.cat(parts) for parts in zip(*found, strict=True))
        if self.n_candidates < len(self.references.references):
            doubtful = (~is_certain).nonzero()[:, 0]
            if len(doubtful):
                squared[doubtful], nearest[doubtful] = self._in_float64(doubtful)
        return squared, nearest

    def _by_bounds(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return squared distances, indices, and whether they are certain to be the smallest."""
        references, share = self.references, self.references._share
        shifted = (self.queries[rows] - references._center) / references._radius
        size = torch.linalg.vector_norm(shifted, dim=1, keepdim=True)
        factors = torch.cat([shifted, size * share], dim=1).float()
        bounds = torch.addmm(references._bounds, factors, references._factors.T, alpha=-2)
        offset = size.square() * (1 - share)
        if self.scale is not None:
            least_scale = torch.finfo(torch.float32).tiny
            bounds = (bounds + offset.float()) / self.scale.float().clamp_min(least_scale) * (1 - 2**-20)
            offset = torch.zeros_like(offset)
        candidates, least = self._candidates(bounds, rows)
        squared, nearest = self._nearest_of(candidates, rows)
        left_out = (least.double() + offset[:, 0]) * references._radius.square()
        return squared, nearest, (squared[:, -1] <= left_out) & left_out.isfinite()

    def _in_float64(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        points = self.references._points() - self.references._center
        norms = points.square().sum(dim=1)
        found = []
        for some in torch.split(rows, self.chunk_rows):
            shifted = self.queries[some] - self.references._center
            costs = torch.addmm(norms, shifted, points.T, alpha=-2)
            if self.scale is not None:
                costs = (costs + shifted.square().sum(dim=1, keepdim=True)) / self.scale
            found.append(self._nearest_of(self._candidates(costs, some)[0], some))
        return torch.cat([squared for squared, _ in found]), torch.cat([nearest for _, nearest in found])

    def _candidates(self, costs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the references of the smallest costs in order of their indices, and the largest of these."""
        if self.group is not None:
            costs.masked_fill_(self.group[rows, None] == self.group, torch.inf)
        smallest = costs.topk(self.n_candidates, dim=1, largest=False, sorted=False)
        return smallest.indices.sort(dim=1).values, smallest.values.amax(dim=1)

    def _nearest_of(self, candidates: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the squared distances of the nearest candidates, from differences, and their indices."""
        differences = self.references._some_points(candidates).sub_(self.queries[rows, None])
        squared = differences.square_().sum(dim=2)
        if self.scale is not None:
            squared = squared / self.scale[candidates]
        if self.group is not None:
            squared.masked_fill_(self.group[rows, None] == self.group[candidates], torch.inf)
        squared, order = squared.sort(dim=1, stable=True)
        return squared[:, : self.count], candidates.gather(1, order[:, : self.count])


@contextmanager
def _full_float32(device: str) -> Iterator[None]:
    """Compute float32 products in float32, whatever has been allowed for networks."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
