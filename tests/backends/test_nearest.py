import copy
import pickle

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from asdbench.backends import DensityNormalizedNeighbors, NearestNeighbors, nearest
from asdbench.backends.bands import BandBackends
from asdbench.backends.nearest import Metric, NearestReferences

METRICS: tuple[Metric, ...] = ("cosine", "euclidean")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def brute_force(
    references: Tensor, queries: Tensor, metric: Metric, spacing: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return all distances, ascending, and the references' indices, from float64 differences."""
    references, queries = references.double(), queries.double()
    if metric == "cosine":
        references, queries = (normalize(values, dim=1, eps=1e-300) for values in (references, queries))
    squared = torch.stack([(query - references).square().sum(dim=1) for query in queries])
    distances = squared / 2 if metric == "cosine" else squared.sqrt()
    smallest = (distances / spacing).sort(dim=1, stable=True)
    return smallest.values, smallest.indices


CLUSTER = normal(1, 96) + 1e-4 * normal(500, 96, seed=1)  # as a classifier's embeddings collapse
COPIES = normal(40, 96).repeat(12, 1)
DATA = {
    "spread": (normal(500, 96), normal(50, 96, seed=2)),
    "one cluster": (torch.cat([CLUSTER, normal(200, 96, seed=3)]), CLUSTER[:50] + 1e-5 * normal(50, 96)),
    "copies": (COPIES, torch.cat([COPIES[:40], normal(10, 96, seed=4)])),
    "huge": (1e18 * normal(500, 96), 1e25 * normal(50, 96, seed=2)),
    "tiny": (1e-25 * normal(500, 96), 1e-25 * normal(50, 96, seed=2)),
    "one point": (torch.ones(300, 96), normal(50, 96)),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("is_spaced", [False, True])
@pytest.mark.parametrize("kind", DATA)
def test_distances_are_those_of_brute_force_in_float64(kind: str, is_spaced: bool, metric: Metric) -> None:
    references, queries = DATA[kind]
    spacing = (4 * normal(len(references), seed=9)).exp().double() if is_spaced else None
    expected, order = brute_force(references, queries, metric, 1.0 if spacing is None else spacing)
    distances, found = NearestReferences(references, metric).search(queries, 3, spacing=spacing)
    torch.testing.assert_close(distances, expected[:, :3], rtol=1e-9, atol=1e-300)
    is_distinct = expected[:, 1:4] > expected[:, :3] * (1 + 1e-9)
    assert found[is_distinct].equal(order[:, :3][is_distinct])


@pytest.mark.parametrize("metric", METRICS)
def test_pairs_of_a_group_do_not_count(metric: Metric) -> None:
    references, group = CLUSTER[:120], torch.arange(120) // 7
    found, nearest_ones = NearestReferences(references, metric).search(references, 4, group=group)
    assert (group[nearest_ones] != group[:, None]).all()
    for row in range(0, 120, 17):
        others = references[group != group[row]]
        expected, _ = brute_force(others, references[row : row + 1], metric)
        torch.testing.assert_close(found[row], expected[0, :4], rtol=1e-9, atol=0)


def float64_rows(monkeypatch: pytest.MonkeyPatch, references: Tensor, queries: Tensor) -> int:
    """Return how many queries are searched with float64 products."""
    rows, honest = [0], nearest._Search._in_float64

    def counting(search: nearest._Search, some: Tensor) -> tuple[Tensor, Tensor]:
        rows[0] += len(some)
        return honest(search, some)

    monkeypatch.setattr(nearest._Search, "_in_float64", counting)
    NearestReferences(references, "cosine").search(queries, 2)
    return rows[0]


def test_float64_products_are_for_queries_that_float32_leaves_in_doubt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert float64_rows(monkeypatch, *DATA["spread"]) == 0
    assert float64_rows(monkeypatch, *DATA["one cluster"]) == 50


def test_products_are_float32_whatever_networks_compute_in(monkeypatch: pytest.MonkeyPatch) -> None:
    centers = normal(1, 96) * torch.tensor([[1.0], [-1.0]]).repeat(250, 1)  # far from where all have theirs
    references, queries = centers + 0.05 * normal(500, 96, seed=1), centers + 0.05 * normal(500, 96, seed=2)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert float64_rows(monkeypatch, references, queries) < 10
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def fitted(references: Tensor) -> DensityNormalizedNeighbors:
    backend, n_windows = DensityNormalizedNeighbors(), len(references)
    target = torch.zeros(n_windows, dtype=torch.bool)
    backend.fit(references, target, clip=torch.arange(n_windows), seed=0)
    return backend


def test_scores_follow_the_buffers() -> None:
    backend, other = fitted(normal(60, 8)), fitted(normal(60, 8, seed=1))
    queries = normal(20, 8, seed=2)
    before, expected = backend.score(queries), other.score(queries)
    assert not torch.allclose(before, expected)
    backend.load_state_dict(other.state_dict())  # in place
    assert backend.score(queries).equal(expected)
    backend.references = backend.references.clone()  # as moving to a device does
    backend.references[:] = 0.0
    assert not torch.allclose(backend.score(queries), expected)


def test_references_are_prepared_once_and_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    bands = BandBackends(NearestNeighbors)
    bands.fit(normal(30, 2, 8), torch.arange(30) < 10, seed=0)
    n_made, honest = [0], NearestReferences.__init__

    def counting(self: NearestReferences, references: Tensor, metric: Metric) -> None:
        n_made[0] += 1
        honest(self, references, metric)

    monkeypatch.setattr(NearestReferences, "__init__", counting)
    size = len(pickle.dumps(bands))
    scores = [bands.score(normal(4, 2, 8, seed=seed)) for seed in range(3)]
    assert n_made == [4]  # two bands, two domains
    assert len(pickle.dumps(bands)) == size
    assert copy.deepcopy(bands).score(normal(4, 2, 8, seed=2)).equal(scores[2])
