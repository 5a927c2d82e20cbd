"""Bands are scored by a back end each, independent of one another, and their state is in buffers."""

import pytest
import torch

from asdbench.backends import DensityNormalizedNeighbors, NearestNeighbors
from asdbench.backends.bands import BandBackends
from asdbench.engine.state import load_backend
from asdbench.errors import InputError


def clips(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, 5, generator=torch.Generator().manual_seed(seed)) + 1


REFERENCES, QUERIES = clips(20, 0), clips(7, 1)
TARGET = torch.arange(20) >= 15


@pytest.mark.parametrize("make", [NearestNeighbors, DensityNormalizedNeighbors])
def test_the_score_is_the_mean_of_the_bands_own_scores(make) -> None:
    bands = BandBackends(make)
    bands.fit(REFERENCES, TARGET, seed=0)
    expected = []
    for band in range(3):
        backend = make()
        backend.fit(REFERENCES[:, band], TARGET, clip=torch.arange(20), seed=0)
        expected.append(backend.score(QUERIES[:, band]))
    torch.testing.assert_close(bands.score(QUERIES), torch.stack(expected).mean(dim=0))


def test_each_band_finds_its_own_reference_and_loudness_does_not_count() -> None:
    mixed = torch.stack([REFERENCES[0, 0], 1000 * REFERENCES[1, 1], REFERENCES[2, 2]])[None]
    bands = BandBackends(NearestNeighbors)
    bands.fit(REFERENCES, TARGET, seed=0)
    torch.testing.assert_close(bands.score(mixed), torch.zeros(1, dtype=torch.float64), atol=1e-9, rtol=0)


def test_loaded_buffers_give_the_same_scores() -> None:
    fitted, loaded = BandBackends(DensityNormalizedNeighbors), BandBackends(DensityNormalizedNeighbors)
    fitted.fit(REFERENCES, TARGET, seed=0)
    load_backend(loaded, {name: values.clone() for name, values in fitted.named_buffers()})
    assert torch.equal(loaded.score(QUERIES), fitted.score(QUERIES))


def test_another_number_of_bands_is_refused() -> None:
    bands = BandBackends(NearestNeighbors)
    bands.fit(REFERENCES, TARGET, seed=0)
    with pytest.raises(InputError, match="have 2 bands, but BandBackends was fitted to 3"):
        bands.score(QUERIES[:, :2])
