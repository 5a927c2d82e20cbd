import warnings

import pytest
import torch

from asdbench.backends import (
    DensityNormalizedNeighbors,
    Gaussian,
    GaussianMixture,
    LocalOutlierFactor,
    Mahalanobis,
    NearestNeighbors,
    VarianceMinimizingNeighbors,
    nearest,
)
from asdbench.engine.state import backend_state, load_backend
from asdbench.errors import InputError

KINDS = {
    "gmm": GaussianMixture,
    "knn": lambda: NearestNeighbors(2),
    "knn-density": lambda: DensityNormalizedNeighbors(2),
    "knn-variance": lambda: VarianceMinimizingNeighbors(2),
    "knn-euclidean": lambda: NearestNeighbors(2, metric="euclidean"),
    "knn-density-euclidean": lambda: DensityNormalizedNeighbors(2, metric="euclidean"),
    "knn-variance-euclidean": lambda: VarianceMinimizingNeighbors(2, metric="euclidean"),
    "gaussian": Gaussian,
    "mahalanobis": lambda: Mahalanobis(shared=False),
    "mahalanobis-ridge": lambda: Mahalanobis(shared=False, ridge=0.1),
    "mahalanobis-balanced": lambda: Mahalanobis(shared=True, ridge=0.1, balanced=True),
    "mahalanobis-shared": lambda: Mahalanobis(shared=True),
    "lof": LocalOutlierFactor,
}


@pytest.fixture(params=KINDS)
def make(request):
    return KINDS[request.param]


def windows(count=120, dim=6, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, generator=generator, dtype=dtype) + 4


def fitted(backend, embeddings, target=None, clip=None, *, seed=0):
    """Fit with the last third in the target domain and three windows a clip."""
    place = torch.arange(len(embeddings))
    backend.fit(
        embeddings,
        place >= len(embeddings) * 2 // 3 if target is None else target,
        clip=place // 3 if clip is None else clip,
        seed=seed,
    )
    return backend


def test_what_lies_far_off_scores_higher(make):
    backend = fitted(make(), windows())
    normal = backend.score(windows(50, seed=1))
    assert normal.shape == (50,)
    assert normal.dtype == torch.float64
    assert (backend.score(torch.diag(torch.full((6,), -30.0))) > normal.max()).all()


@pytest.mark.parametrize(
    ("embeddings", "target"),
    [
        (windows(1), torch.tensor([False])),
        (windows(1), torch.tensor([True])),
        (windows(2), torch.tensor([False, True])),
        (windows(3), torch.tensor([False, False, True])),
        (windows(40), torch.zeros(40, dtype=torch.bool)),
        (windows(40), torch.ones(40, dtype=torch.bool)),
        (torch.full((40, 6), 0.1), torch.arange(40) >= 35),
        (torch.zeros(40, 6), torch.arange(40) >= 35),
        (windows(3).repeat(40, 1), torch.arange(120) >= 100),
        (windows(60) * torch.tensor([1.0, 0, 0, 1e-12, 1e12, 1]), torch.arange(60) >= 20),
        (windows(1) * torch.tensor([[1e6], [-1e6]]), torch.tensor([False, False])),
        (windows(40, dtype=torch.bfloat16), torch.arange(40) >= 35),
    ],
    ids=[
        "one",
        "one-target",
        "one-each",
        "three",
        "no-target",
        "no-source",
        "constant",
        "zero",
        "duplicates",
        "scales",
        "opposite",
        "bfloat16",
    ],
)
def test_scores_are_finite_and_nothing_is_warned_of(make, embeddings, target):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backend = fitted(make(), embeddings, target)
    queries = torch.cat([embeddings.double(), windows(5, seed=1), torch.zeros(1, 6), torch.full((1, 6), 1e6)])
    assert backend.score(queries).isfinite().all()


def test_a_window_alone_scores_as_in_any_batch(make):
    embeddings = torch.cat([windows(150), windows(50)])  # duplicates
    backend = fitted(make(), embeddings)
    queries = torch.cat([windows(40, seed=1), embeddings[:20]])
    together = backend.score(queries)
    for size in (1, 7):
        apart = torch.cat([backend.score(part) for part in queries.split(size)])
        torch.testing.assert_close(apart, together, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(backend.score(queries.flip(0)).flip(0), together, rtol=1e-9, atol=1e-14)


def test_no_windows_have_no_scores(make):
    assert fitted(make(), windows()).score(torch.empty(0, 6)).shape == (0,)


def test_small_chunks_give_the_same_scores(make, monkeypatch):
    queries = windows(40, seed=1)
    whole = fitted(make(), windows()).score(queries)
    monkeypatch.setattr(nearest, "_CHUNK_ELEMENTS", 500)
    torch.testing.assert_close(fitted(make(), windows()).score(queries), whole, rtol=1e-9, atol=0)


def test_its_buffers_are_all_its_state(make, tmp_path):
    backend, other = fitted(make(), windows()), fitted(make(), windows(30, dim=4, seed=2))
    torch.save(backend_state(backend, make().state_dict()), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    queries = windows(20, seed=1)
    for restored in (make(), other):  # other shapes before: none, and those of another fit
        load_backend(restored, state)
        assert restored.score(queries).equal(backend.score(queries))


def test_equal_seeds_give_equal_buffers(make):
    first = fitted(make(), windows(), seed=2**62 + 1)
    torch.manual_seed(7)
    second = fitted(make(), windows(), seed=2**62 + 1)
    assert all(value.equal(second.state_dict()[name]) for name, value in first.state_dict().items())


def test_a_second_fit_replaces_the_first(make):
    backend = fitted(fitted(make(), windows(30, dim=4, seed=2)), windows())
    assert backend.score(windows(9, seed=1)).equal(fitted(make(), windows()).score(windows(9, seed=1)))


def test_it_learns_nothing_of_gradients_nor_of_later_changes(make):
    embeddings = windows().requires_grad_()
    backend = fitted(make(), embeddings)
    assert not any(buffer.requires_grad for buffer in backend.buffers())
    before = backend.score(windows(9, seed=1))
    with torch.no_grad():
        embeddings.zero_()
    assert backend.score(windows(9, seed=1)).equal(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_scores_of_the_cpu(make):
    on_gpu = fitted(make(), windows().cuda())  # target and clip are on the CPU
    assert all(buffer.is_cuda for buffer in on_gpu.buffers())
    found = on_gpu.score(windows(20, seed=1).cuda())
    assert found.is_cuda
    torch.testing.assert_close(
        found.cpu(), fitted(make(), windows()).score(windows(20, seed=1)), rtol=1e-9, atol=0
    )


def test_score_needs_fit(make):
    with pytest.raises(RuntimeError, match="has not been fitted; call fit before score"):
        make().score(windows())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"embeddings": torch.empty(0, 6)}, r"shape \(0, 6\); a back end needs at least one window"),
        ({"embeddings": torch.empty(12, 0)}, r"shape \(12, 0\); a back end needs at least one window"),
        ({"embeddings": torch.zeros(12)}, r"shape \(12,\) .*shape \(window, dim\)"),
        ({"embeddings": torch.zeros(12, 6).long()}, "type torch.int64; give floating point numbers"),
        ({"embeddings": torch.full((12, 6), torch.nan)}, "12 of 12 training embeddings are not finite"),
        (
            {"target": torch.zeros(12)},
            "target has shape .* type torch.float32 .* give one torch.bool per window",
        ),
        ({"target": torch.zeros(11, dtype=torch.bool)}, r"target has shape \(11,\)"),
        ({"clip": torch.zeros(12)}, "clip has shape .* give one torch.int64 per window"),
        ({"clip": torch.zeros(12, 1).long()}, r"clip has shape \(12, 1\)"),
    ],
)
def test_what_cannot_be_fitted_is_refused(changed, message):
    given = {
        "embeddings": windows(12),
        "target": torch.zeros(12, dtype=torch.bool),
        "clip": torch.zeros(12).long(),
    } | changed
    with pytest.raises(InputError, match=message):
        GaussianMixture().fit(given["embeddings"], given["target"], clip=given["clip"], seed=0)


def test_embeddings_of_another_dimension_are_refused(make):
    with pytest.raises(InputError, match=r"embeddings have 5 dimensions, but \w+ was fitted to 6"):
        fitted(make(), windows()).score(windows(dim=5))
    with pytest.raises(InputError, match=r"shape \(6,\)"):
        fitted(make(), windows()).score(windows()[0])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GaussianMixture(0), "components is 0; give at least 1"),
        (lambda: GaussianMixture(initializations=0), "initializations is 0"),
        (lambda: GaussianMixture(reg_covar=0), "reg_covar is 0; give a number above 0"),
        (lambda: GaussianMixture(reg_covar=float("nan")), "reg_covar is nan"),
        (lambda: Gaussian(0), "ridge is 0; give a number above 0"),
        (lambda: Mahalanobis(shared=True, ridge=-1.0), "ridge is -1.0; give 0 or a number above"),
        (lambda: NearestNeighbors(0), "neighbors is 0"),
        (lambda: DensityNormalizedNeighbors(-1), "neighbors is -1"),
        (lambda: DensityNormalizedNeighbors(density_neighbors=0), "density_neighbors is 0"),
        (lambda: LocalOutlierFactor(0), "neighbors is 0"),
    ],
)
def test_settings_out_of_range_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
