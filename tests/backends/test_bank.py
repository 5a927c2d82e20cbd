import pytest
import torch

from asdbench.backends import (
    SCORES,
    BackendBank,
    DensityNormalizedNeighbors,
    GaussianMixture,
    LocalOutlierFactor,
    Mahalanobis,
    NearestNeighbors,
)
from asdbench.engine.state import load_backend


def windows(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=generator) + 1


QUERIES = windows(30, 1)


def fitted(backend):
    place = torch.arange(120)
    backend.fit(windows(120, 0), place >= 80, clip=place // 4, seed=3)
    return backend


def test_it_scores_as_each_of_its_members():
    gmm = fitted(GaussianMixture())
    expected = {
        "gmm": gmm.score(QUERIES),
        "gmm-max": gmm.score_max(QUERIES),
        "knn": fitted(NearestNeighbors()).score(QUERIES),
        "knn-density": fitted(DensityNormalizedNeighbors()).score(QUERIES),
        "mahalanobis": fitted(Mahalanobis(shared=False)).score(QUERIES),
        "mahalanobis-shared": fitted(Mahalanobis(shared=True)).score(QUERIES),
        "lof": fitted(LocalOutlierFactor()).score(QUERIES),
    }
    found = fitted(BackendBank()).score(QUERIES)
    assert tuple(found) == SCORES
    assert all(found[name].equal(values) for name, values in expected.items())


@pytest.mark.parametrize(
    ("setting", "changed"),
    [
        ({"gmm_components": 3}, {"gmm", "gmm-max"}),
        ({"gmm_reg_covar": 0.1}, {"gmm", "gmm-max"}),
        ({"neighbors": 3}, {"knn", "knn-density"}),
        ({"density_neighbors": 2}, {"knn-density"}),
        ({"lof_neighbors": 5}, {"lof"}),
    ],
)
def test_each_setting_reaches_its_members_only(setting, changed):
    before, after = fitted(BackendBank()).score(QUERIES), fitted(BackendBank(**setting)).score(QUERIES)
    assert {name for name in SCORES if not before[name].equal(after[name])} == changed


def test_a_bank_in_a_system_is_restored_from_its_state():
    bank, fresh = fitted(BackendBank()), BackendBank()
    load_backend(fresh, bank.state_dict())
    expected = bank.score(QUERIES)
    assert all(values.equal(expected[name]) for name, values in fresh.score(QUERIES).items())
