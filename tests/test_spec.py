import pytest
import torch

from asdbench.features.mel import log_mel
from asdbench.spec import MelSpec


@pytest.mark.parametrize("samples", [1, 159, 160, 16_000])
def test_the_number_of_frames_is_that_of_the_spectrogram(samples: int) -> None:
    spec = MelSpec(n_mels=8)
    assert log_mel(torch.zeros(samples), spec).shape == (spec.frames(samples), 8)
