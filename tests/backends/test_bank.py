import pytest
import torch

from asdbench.backends import (
    SCORES,
    BackendBank,
    BackendSettings,
    DensityNormalizedNeighbors,
    Gaussian,
    GaussianMixture,
    LocalOutlierFactor,
    Mahalanobis,
    NearestNeighbors,
    VarianceMinimizingNeighbors,
)
from asdbench.engine.state import load_backend


def windows(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=generator) + 1


QUERIES = windows(30, 1)
CLIP = torch.arange(30) % 10


def fitted(backend):
    place = torch.arange(120)
    backend.fit(windows(120, 0), place >= 80, clip=place // 4, seed=3)
    return backend


def scores(**settings):
    return fitted(BackendBank(BackendSettings(**settings))).score(QUERIES, CLIP, 10)


def test_it_scores_as_each_of_its_members():
    gmm = fitted(GaussianMixture())
    expected = {
        "gmm": gmm.score(QUERIES),
        "gmm-max": gmm.score_with_max(QUERIES)[1],
        "gaussian": fitted(Gaussian()).score(QUERIES),
        "knn": fitted(NearestNeighbors()).score(QUERIES),
        "knn-density": fitted(DensityNormalizedNeighbors()).score(QUERIES),
        "knn-variance": fitted(VarianceMinimizingNeighbors()).score(QUERIES),
        "mahalanobis": fitted(Mahalanobis(shared=False)).score(QUERIES),
        "mahalanobis-shared": fitted(Mahalanobis(shared=True)).score(QUERIES),
        "lof": fitted(LocalOutlierFactor()).score(QUERIES),
    }
    found = scores()
    assert set(found) == set(SCORES)
    assert all(found[name].equal(values) for name, values in expected.items())


NEIGHBORS = {"knn", "knn-density", "knn-variance"}
MAHALANOBIS = {"mahalanobis", "mahalanobis-shared"}


@pytest.mark.parametrize(
    ("setting", "changed"),
    [
        ({"gmm_components": 3}, {"gmm", "gmm-max"}),
        ({"gmm_reg_covar": 0.1}, {"gmm", "gmm-max"}),
        ({"neighbors": 3}, NEIGHBORS),
        ({"density_neighbors": 2}, {"knn-density", "knn-variance"}),
        ({"covariance": "ridge"}, MAHALANOBIS),
        ({"ridge": 1.0}, {"gaussian"}),
        ({"ridge": 1.0, "covariance": "ridge"}, {"gaussian"} | MAHALANOBIS),
        ({"balanced_domains": True}, {"gaussian", "mahalanobis-shared"}),
        ({"lof_neighbors": 5}, {"lof"}),
        ({"backend_level": "clip"}, set(SCORES)),
        ({"backend": "lof"}, set()),
    ],
)
def test_each_setting_reaches_its_members_only(setting, changed):
    before, after = scores(), scores(**setting)
    assert {name for name in SCORES if not before[name].equal(after[name])} == changed


def test_clips_are_fitted_and_scored_by_their_mean_embeddings():
    clips = windows(120, 0).double().view(30, 4, 6).mean(dim=1)
    members = {"knn": NearestNeighbors(), "gmm": GaussianMixture(), "lof": LocalOutlierFactor()}
    found = scores(backend_level="clip")
    means = QUERIES.double().view(3, 10, 6).mean(dim=0)
    for name, member in members.items():
        member.fit(clips, torch.arange(30) >= 20, clip=torch.arange(30), seed=3)
        torch.testing.assert_close(found[name], member.score(means).repeat(3))


def test_a_bank_in_a_system_is_restored_from_its_state():
    bank, fresh = fitted(BackendBank()), BackendBank()
    load_backend(fresh, bank.state_dict())
    expected = bank.score(QUERIES, CLIP, 10)
    assert all(values.equal(expected[name]) for name, values in fresh.score(QUERIES, CLIP, 10).items())
