"""Encoders of waveforms: shapes, what they see, and what their options remove."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from asdbench.nn.spectral import SpectrogramEncoder, SpectrumEncoder, SqueezeExcitation


@pytest.mark.parametrize("samples", [1024 + 512 * 11, 16_384, 16_001])
def test_shapes(samples: int) -> None:
    waveform = torch.randn(3, samples)
    assert SpectrumEncoder(samples, dim=6, channels=8)(waveform).shape == (3, 6)
    for n_fft in (256, 1024, 4096):
        assert SpectrogramEncoder(dim=6, n_fft=n_fft, channels=2)(waveform).shape == (3, 6)


def test_a_gate_scales_whole_channels() -> None:
    gate, x = SqueezeExcitation(4, ratio=2), torch.randn(2, 4, 3, 5)
    scale = gate(x) / x
    torch.testing.assert_close(scale, scale[:, :, :1, :1].expand_as(x))
    assert ((scale > 0) & (scale < 1)).all()


@pytest.mark.parametrize("remove_mean", [True, False])
def test_without_its_mean_a_spectrogram_shows_what_changes_in_time_alone(remove_mean: bool) -> None:
    time = torch.arange(16_384) / 16_000
    steady = torch.sin(2 * math.pi * 1000 * time)[None]  # 64 periods in 1,024 samples: every frame is equal
    torch.manual_seed(0)
    encoder = SpectrogramEncoder(dim=4, channels=2, remove_mean=remove_mean).eval()
    with torch.no_grad():
        distance = (encoder(steady) - encoder(torch.zeros_like(steady))).abs().max()
    assert bool(distance < 1e-2) is remove_mean


@pytest.mark.parametrize(
    "build",
    [
        lambda compress: SpectrumEncoder(8192, dim=4, channels=8, compress=compress),
        lambda compress: SpectrogramEncoder(dim=4, channels=2, compress=compress),
    ],
)
def test_magnitudes_are_compressed_if_asked_for(build: Callable[[bool], nn.Module]) -> None:
    waveform, results = torch.randn(2, 8192), []
    for compress in (False, True):
        torch.manual_seed(0)
        results.append(build(compress).eval()(waveform))
    assert not torch.allclose(*results)
