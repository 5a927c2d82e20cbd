"""Settings of the systems with pretrained encoders."""

import pytest
import torch

from asdbench import registry
from asdbench.config import settings_of
from asdbench.errors import InputError


@pytest.mark.parametrize("system", ["encoder-knn", "encoder-lora"])
def test_spacing_matters_to_the_distances_that_are_divided_by_it(system: str) -> None:
    settings = settings_of(registry.get(system).Config)
    assert settings["spacing_neighbors"].when == {"distance": ("knn-density", "knn-variance")}


def test_the_exponent_has_a_maximum_with_which_the_weights_of_a_long_clip_are_finite() -> None:
    with pytest.raises(InputError, match=r"deviation_exponent=1000000\.0 is above the maximum of 100"):
        registry.configure("encoder-knn", {"deviation_exponent": 1e6})
    config = registry.configure("encoder-knn", {"deviation_exponent": 100}).config
    assert torch.isfinite(torch.full((100_000,), 2.0).pow(config.deviation_exponent).sum())
