import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.preprocessing import StandardScaler

from asdbench.backends import Gaussian, GaussianMixture, Mahalanobis
from asdbench.backends.gaussian import LEAST_WINDOWS

RNG = np.random.default_rng(5)
MIX = RNG.standard_normal((12, 12))
SOURCE = RNG.standard_normal((300, 12)) @ MIX + 3 * (RNG.random((300, 1)) < 0.3)
TARGET = RNG.standard_normal((60, 12)) @ MIX.T + 4
BOTH = np.concatenate([SOURCE, TARGET])
QUERIES = RNG.standard_normal((80, 12)) * 4


NONE = np.empty((0, 12))


def fitted(backend, source, target=NONE, *, seed=3):
    embeddings = torch.from_numpy(np.concatenate([source, target]))
    place = torch.arange(len(embeddings))
    backend.fit(embeddings, place >= len(source), clip=place // 4, seed=seed)
    return backend


def scores(backend, queries=QUERIES):
    return backend.score(torch.from_numpy(queries)).numpy()


@pytest.mark.parametrize(
    ("components", "reg_covar", "initializations"), [(1, 1e-3, 1), (2, 1e-3, 3), (2, 0.5, 3), (3, 1e-3, 2)]
)
def test_mixture_scores_are_those_of_sklearn(components, reg_covar, initializations):
    scaler = StandardScaler().fit(BOTH)
    reference = SklearnMixture(components, reg_covar=reg_covar, n_init=initializations, random_state=3)
    reference.fit(scaler.transform(BOTH))
    expected = -reference.score_samples(scaler.transform(QUERIES))
    backend = GaussianMixture(components, reg_covar=reg_covar, initializations=initializations)
    np.testing.assert_allclose(scores(fitted(backend, SOURCE, TARGET)), expected, rtol=1e-8)


def test_the_largest_component_alone():
    backend = fitted(GaussianMixture(3), SOURCE, TARGET)
    standardized = (torch.from_numpy(QUERIES) - backend.mean) / backend.deviation
    densities = [
        log_weight
        + torch.distributions.MultivariateNormal(
            mean, precision_matrix=factor @ factor.T, validate_args=False
        ).log_prob(standardized)
        for log_weight, mean, factor in zip(backend.log_weights, backend.means, backend.factors, strict=True)
    ]
    score, largest = backend.score_with_max(torch.from_numpy(QUERIES))
    torch.testing.assert_close(largest, -torch.stack(densities).amax(dim=0), rtol=1e-8, atol=0)
    assert score.equal(backend.score(torch.from_numpy(QUERIES)))
    assert (score <= largest).all()
    assert torch.lt(*backend.score_with_max(torch.from_numpy(BOTH))).any()


def test_no_more_components_than_different_windows():
    assert len(fitted(GaussianMixture(5), np.repeat(SOURCE[:3], 20, axis=0)).means) == 3
    assert len(fitted(GaussianMixture(5), SOURCE[:1]).means) == 1


def test_mixture_depends_on_its_seed():
    noise = np.random.default_rng(0).standard_normal((60, 12))
    found = [scores(fitted(GaussianMixture(3, initializations=1), noise, seed=seed)) for seed in (0, 1)]
    assert not np.allclose(*found)


def test_mixture_does_not_depend_on_the_scale_of_dimensions():
    scale = np.logspace(-3, 3, 12)
    found = scores(fitted(GaussianMixture(), SOURCE * scale), QUERIES * scale)
    np.testing.assert_allclose(found, scores(fitted(GaussianMixture(), SOURCE)), rtol=1e-6)


def distances(covariance, center):
    return np.einsum("qi,ij,qj->q", QUERIES - center, np.linalg.inv(covariance), QUERIES - center)


def shrunk(centered):
    return LedoitWolf(assume_centered=True).fit(centered).covariance_


CENTRED = SOURCE - SOURCE.mean(axis=0), TARGET - TARGET.mean(axis=0)


def test_mahalanobis_with_a_covariance_a_domain():
    expected = np.minimum(
        distances(shrunk(CENTRED[0]), SOURCE.mean(axis=0)), distances(shrunk(CENTRED[1]), TARGET.mean(axis=0))
    )
    found = scores(fitted(Mahalanobis(shared=False), SOURCE, TARGET))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_mahalanobis_with_a_shared_covariance():
    covariance = shrunk(np.concatenate(CENTRED))
    expected = np.minimum(
        distances(covariance, SOURCE.mean(axis=0)), distances(covariance, TARGET.mean(axis=0))
    )
    found = scores(fitted(Mahalanobis(shared=True), SOURCE, TARGET))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert not np.allclose(found, scores(fitted(Mahalanobis(shared=False), SOURCE, TARGET)))


def test_mahalanobis_of_one_domain():
    expected = distances(shrunk(CENTRED[0]), SOURCE.mean(axis=0))
    for backend in (Mahalanobis(shared=True), Mahalanobis(shared=False)):
        np.testing.assert_allclose(scores(fitted(backend, SOURCE)), expected, rtol=1e-6)
    everything_is_target = scores(fitted(Mahalanobis(shared=False), NONE, SOURCE))
    np.testing.assert_allclose(everything_is_target, expected, rtol=1e-6)


def test_a_domain_of_few_windows_takes_the_shared_covariance():
    def factors(count):
        shared, own = (
            fitted(Mahalanobis(shared=shared), SOURCE, TARGET[:count]).factors for shared in (True, False)
        )
        return [domain.equal(shared[0]) for domain in own]

    assert factors(LEAST_WINDOWS - 1) == [False, True]
    assert factors(LEAST_WINDOWS) == [False, False]


def with_ridge(centered, ridge):
    """Return the covariance with ``ridge`` times the variance of each dimension added to its diagonal."""
    covariance = centered.T @ centered / len(centered)
    return covariance + np.diag(ridge * np.diag(covariance))


@pytest.mark.parametrize("ridge", [0.1, 3.0])
def test_one_gaussian_with_a_ridge_on_standardized_dimensions(ridge):
    expected = distances(with_ridge(BOTH - BOTH.mean(axis=0), ridge), BOTH.mean(axis=0))
    np.testing.assert_allclose(scores(fitted(Gaussian(ridge), SOURCE, TARGET)), expected, rtol=1e-8)


def test_balanced_domains_count_the_same():
    repeated = np.concatenate([SOURCE, *[TARGET] * 5])  # 300 of each
    expected = scores(fitted(Gaussian(), repeated))
    found = scores(fitted(Gaussian(balanced=True), SOURCE, TARGET))
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    shared = (CENTRED[0].T @ CENTRED[0] / 300 + CENTRED[1].T @ CENTRED[1] / 60) / 2
    covariance = shared + 0.1 * np.diag(np.diag(shared))
    expected = np.minimum(*(distances(covariance, part.mean(axis=0)) for part in (SOURCE, TARGET)))
    backend = Mahalanobis(shared=True, ridge=0.1, balanced=True)
    np.testing.assert_allclose(scores(fitted(backend, SOURCE, TARGET)), expected, rtol=1e-8)


def test_mahalanobis_with_a_ridge():
    expected = np.minimum(
        *(
            distances(with_ridge(centered, 0.1), part.mean(axis=0))
            for centered, part in zip(CENTRED, (SOURCE, TARGET), strict=True)
        )
    )
    found = scores(fitted(Mahalanobis(shared=False, ridge=0.1), SOURCE, TARGET))
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_a_ridge_does_not_depend_on_the_scale_of_dimensions():
    scale = np.logspace(-3, 3, 12)
    for make in (Gaussian, lambda: Mahalanobis(shared=True, ridge=0.1)):
        found = scores(fitted(make(), SOURCE * scale, TARGET * scale), QUERIES * scale)
        np.testing.assert_allclose(found, scores(fitted(make(), SOURCE, TARGET)), rtol=1e-8)
