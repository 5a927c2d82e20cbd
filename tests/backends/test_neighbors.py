import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_distances, euclidean_distances
from sklearn.neighbors import LocalOutlierFactor as SklearnLof

from asdbench.backends import (
    DensityNormalizedNeighbors,
    LocalOutlierFactor,
    NearestNeighbors,
    VarianceMinimizingNeighbors,
)
from asdbench.backends.neighbors import LEAST_SPACING

RNG = np.random.default_rng(8)
SOURCE = RNG.standard_normal((90, 7)) + 1
TARGET = 0.5 * RNG.standard_normal((15, 7)) - 1
QUERIES = RNG.standard_normal((60, 7))
NONE = np.empty((0, 7))


def fitted(backend, source, target=NONE, *, windows_per_clip=3):
    embeddings = torch.from_numpy(np.concatenate([source, target]))
    clip = torch.cat(
        [torch.arange(len(part)) // windows_per_clip + first for part, first in ((source, 0), (target, 1000))]
    )
    backend.fit(embeddings, torch.arange(len(embeddings)) >= len(source), clip=clip, seed=0)
    return backend


def scores(backend, queries=QUERIES):
    return backend.score(torch.from_numpy(queries)).numpy()


def smallest(values, count):
    return np.sort(values, axis=1)[:, :count].mean(axis=1)


@pytest.mark.parametrize("neighbors", [1, 3, 20])
def test_mean_distance_in_the_nearer_domain(neighbors):
    each = [smallest(cosine_distances(QUERIES, part), neighbors) for part in (SOURCE, TARGET)]
    assert (each[0] < each[1]).any()
    assert (each[0] > each[1]).any()
    found = scores(fitted(NearestNeighbors(neighbors), SOURCE, TARGET))
    np.testing.assert_allclose(found, np.minimum(*each), rtol=1e-9)


def test_euclidean_distances():
    each = [smallest(euclidean_distances(QUERIES, part), 3) for part in (SOURCE, TARGET)]
    found = scores(fitted(NearestNeighbors(3, metric="euclidean"), SOURCE, TARGET))
    np.testing.assert_allclose(found, np.minimum(*each), rtol=1e-9)


def test_a_domain_without_references_is_left_out():
    one = scores(fitted(NearestNeighbors(), SOURCE))
    assert (one == scores(fitted(NearestNeighbors(), NONE, SOURCE))).all()
    assert (scores(fitted(NearestNeighbors(), SOURCE, TARGET)) <= one).all()


def test_a_distance_between_nearly_equal_windows_is_exact():
    shift = np.zeros(7)
    shift[0] = 1e-7
    base = np.zeros(7)
    base[1] = 1e3
    found = scores(
        fitted(NearestNeighbors(), np.stack([base, SOURCE[0]])), np.stack([base, base + 1e3 * shift])
    )
    np.testing.assert_allclose(found, [0, 0.5e-14], rtol=1e-6)


def test_zero_vectors():
    backend = fitted(NearestNeighbors(), np.stack([SOURCE[0]]))
    assert scores(backend, np.zeros((1, 7))) == pytest.approx([0.5])
    assert scores(fitted(NearestNeighbors(), np.zeros((2, 7))), np.zeros((1, 7))) == [0]


DISTANCES = {"cosine": cosine_distances, "euclidean": euclidean_distances}
BOTH = np.concatenate([SOURCE, TARGET])
CLIPS = np.arange(len(BOTH)) // 3  # no clip has windows of both domains


def among_references(metric):
    """Return the distances between references; those within a clip are infinite."""
    distances = DISTANCES[metric](BOTH)
    distances[CLIPS[:, None] == CLIPS] = np.inf
    return distances


@pytest.mark.parametrize(
    ("neighbors", "density_neighbors", "metric"),
    [(1, 4, "cosine"), (3, 4, "cosine"), (1, 1, "cosine"), (3, 4, "euclidean")],
)
def test_distances_are_divided_by_spacings_among_all_references(neighbors, density_neighbors, metric):
    spacing = smallest(among_references(metric), density_neighbors)
    expected = smallest(DISTANCES[metric](QUERIES, BOTH) / spacing, neighbors)
    backend = DensityNormalizedNeighbors(neighbors, density_neighbors=density_neighbors, metric=metric)
    np.testing.assert_allclose(scores(fitted(backend, SOURCE, TARGET)), expected, rtol=1e-9)


def test_the_domain_of_a_reference_is_of_no_account():
    backend = DensityNormalizedNeighbors()
    backend.fit(
        torch.from_numpy(BOTH), torch.zeros(105, dtype=torch.bool), clip=torch.from_numpy(CLIPS), seed=0
    )
    assert (scores(backend) == scores(fitted(DensityNormalizedNeighbors(), SOURCE, TARGET))).all()


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize(("neighbors", "density_neighbors"), [(1, 1), (1, 4), (3, 4)])
def test_the_exponent_minimizes_the_variance_of_the_references_scores(neighbors, density_neighbors, metric):
    distances = among_references(metric)
    spacing = smallest(distances, density_neighbors)
    own, of_neighbor = np.log(distances.min(axis=1)), np.log(spacing[distances.argmin(axis=1)])
    exponents = np.linspace(-1, 2, 3001)
    variances = (own - exponents[:, None] * of_neighbor).var(axis=1)
    best = exponents[variances.argmin()]
    assert 0.05 < best < 1.5
    backend = VarianceMinimizingNeighbors(neighbors, density_neighbors=density_neighbors, metric=metric)
    fitted(backend, SOURCE, TARGET)
    np.testing.assert_allclose(backend.spacing.numpy(), spacing**best, rtol=5e-3)
    expected = np.log(smallest(DISTANCES[metric](QUERIES, BOTH) / backend.spacing.numpy(), neighbors))
    np.testing.assert_allclose(scores(backend), expected, rtol=1e-9, atol=1e-9)


def test_equal_spacings_are_not_divided_by():
    backend = fitted(VarianceMinimizingNeighbors(), np.eye(7), windows_per_clip=1)
    assert backend.spacing.tolist() == [1] * 7
    expected = np.log(scores(fitted(NearestNeighbors(), np.eye(7), windows_per_clip=1)))
    np.testing.assert_allclose(scores(backend), expected, rtol=1e-9)


def test_windows_of_the_same_clip_do_not_count_for_its_density():
    clips = np.repeat(SOURCE[:30], 6, axis=0) + 1e-4 * RNG.standard_normal((180, 7))
    backend = fitted(DensityNormalizedNeighbors(), clips, windows_per_clip=6)
    apart = fitted(DensityNormalizedNeighbors(), clips, windows_per_clip=1)
    assert backend.spacing.min() > 1e3 * apart.spacing.max()


def test_fewer_other_windows_than_density_neighbors():
    part = SOURCE[:4]  # clips of three windows and of one
    distances = cosine_distances(part)
    expected = [*distances[:3, 3], distances[3, :3].mean()]
    backend = fitted(DensityNormalizedNeighbors(), part)
    np.testing.assert_allclose(backend.spacing.numpy(), expected, rtol=1e-9)


def test_a_single_clip_takes_its_other_windows():
    part = SOURCE[:3]
    expected = cosine_distances(part).sum(axis=1) / 2
    backend = fitted(DensityNormalizedNeighbors(), part)
    np.testing.assert_allclose(backend.spacing.numpy(), expected, rtol=1e-9)


def test_duplicates_of_other_clips_are_spaced_by_the_least():
    backend = fitted(DensityNormalizedNeighbors(), np.tile(SOURCE[:3], (6, 1)))
    assert backend.spacing.tolist() == [LEAST_SPACING] * 18


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize("kind", [DensityNormalizedNeighbors, VarianceMinimizingNeighbors])
def test_windows_beside_copies_of_a_clip_score_low(kind, metric):
    copied = np.concatenate([SOURCE, np.tile(SOURCE[:1], (5, 1))])
    backend = fitted(kind(metric=metric), copied, windows_per_clip=1)
    shift = {"cosine": 2e-3, "euclidean": 1e-4}[metric]
    beside = scores(backend, SOURCE[:1] + shift * RNG.standard_normal((20, 7)))
    usual = np.quantile(scores(backend), 0.05)
    assert (beside < usual).all()
    least = DensityNormalizedNeighbors(metric=metric)
    spacing = fitted(least, copied, windows_per_clip=1).spacing.numpy()
    assert spacing[[0, *range(90, 95)]] == pytest.approx([1e-3 * np.median(spacing[1:90])] * 6, rel=0.05)


@pytest.mark.parametrize(("neighbors", "count"), [(20, 90), (5, 90), (20, 12), (1, 2)])
def test_the_local_outlier_factor_is_that_of_sklearn(neighbors, count):
    reference = SklearnLof(n_neighbors=min(neighbors, count - 1), novelty=True).fit(SOURCE[:count])
    expected = -reference.score_samples(QUERIES)
    found = scores(fitted(LocalOutlierFactor(neighbors), SOURCE[:count]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_local_outlier_factor_in_many_dimensions_is_that_of_sklearn():
    references, queries = RNG.standard_normal((200, 64)), RNG.standard_normal((30, 64))
    backend = LocalOutlierFactor()
    backend.fit(
        torch.from_numpy(references), torch.zeros(200, dtype=torch.bool), clip=torch.zeros(200).long(), seed=0
    )
    expected = -SklearnLof(n_neighbors=20, novelty=True).fit(references).score_samples(queries)
    np.testing.assert_allclose(scores(backend, queries), expected, rtol=1e-6)


def test_neighbors_are_exact_where_clusters_lie_far_apart():
    # Squared distances of 0.01 beside squared norms of 1e12: a matrix product alone confuses the order.
    shift = np.where(np.arange(90) % 2, 1e6, -1e6)[:, None]
    references, queries = 0.05 * SOURCE + shift, 0.05 * QUERIES + shift[:60]
    reference = SklearnLof(n_neighbors=3, novelty=True, algorithm="kd_tree").fit(references)
    found = scores(fitted(LocalOutlierFactor(3), references), queries)
    np.testing.assert_allclose(found, -reference.score_samples(queries), rtol=1e-9)


def test_neighbors_are_exact_far_from_the_origin():
    references, queries = 0.01 * SOURCE + 1e7, 0.01 * QUERIES + 1e7
    reference = SklearnLof(n_neighbors=3, novelty=True, algorithm="kd_tree").fit(references)
    found = scores(fitted(LocalOutlierFactor(3), references), queries)
    np.testing.assert_allclose(found, -reference.score_samples(queries), rtol=1e-9)


def test_the_local_outlier_factor_takes_both_domains_together():
    together = scores(fitted(LocalOutlierFactor(), np.concatenate([SOURCE, TARGET])))
    assert (scores(fitted(LocalOutlierFactor(), SOURCE, TARGET)) == together).all()
