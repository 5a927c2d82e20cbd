import pytest
import torch

from asdbench.features.mel import log_mel
from asdbench.nn.conformer import Conformer
from asdbench.nn.pooling import AttentiveStatisticsPooling
from asdbench.nn.tgram import TgramNet
from asdbench.spec import MelSpec


def test_shapes_and_number_of_parameters_are_those_of_the_report() -> None:
    net = TgramNet()
    assert net.samples == 41_824
    assert net(torch.randn(2, 41_824)).shape == (2, 256, 128)
    assert count(net) == 280_064
    others = [
        Conformer(256),
        AttentiveStatisticsPooling(),
        torch.nn.BatchNorm1d(512),
        torch.nn.Linear(512, 128),
    ]
    assert count(net) + sum(count(part) for part in others) == 3_460_096


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("at_sample", [1, 511, 5_000, 20_001, 41_000])
@pytest.mark.parametrize("start_frame", [0, 37])
def test_an_impulse_is_seen_by_the_same_frames_of_waveform_and_mel(at_sample: int, start_frame: int) -> None:
    """The crop for start frame t0 is padded samples [160 t0, 160 t0 + 41 824); mel frames t0 to t0 + 255."""
    spec = MelSpec(floor=1e-30)
    clip = torch.zeros(48_000)
    padded = torch.nn.functional.pad(clip, (512, 512))
    padded[160 * start_frame + at_sample] = 1.0
    mel = log_mel(padded[512:-512], spec)[start_frame : start_frame + 256]
    net = TgramNet()
    with torch.no_grad():
        filtered = net.filtered(padded[None, 160 * start_frame : 160 * start_frame + net.samples])[0]
    assert filtered.shape == (128, 256)
    seen = (filtered != 0).any(dim=0)
    expected = torch.tensor([160 * t <= at_sample < 160 * t + 1024 for t in range(256)])
    assert torch.equal(seen, expected)
    if start_frame:  # before the first clip sample there is only padding
        assert torch.equal(mel.amax(dim=1) > -200.0, expected)


def test_it_is_the_network_of_the_paper() -> None:
    torch.manual_seed(0)
    net = TgramNet(frames=8, channels=4, kernel_samples=32, hop_samples=5, layers=2)
    x = torch.randn(3, net.samples)
    h = torch.nn.functional.conv1d(x[:, None], net.first.weight, stride=5)
    for norm, relu, convolution in net.encoder:
        assert relu.negative_slope == 0.2
        scaled = (h - h.mean(dim=2, keepdim=True)) / (h.var(dim=2, correction=0, keepdim=True) + 1e-5).sqrt()
        h = scaled * norm.weight + norm.bias
        h = torch.nn.functional.conv1d(torch.where(h > 0, h, 0.2 * h), convolution.weight, padding=1)
    torch.testing.assert_close(net(x), h.transpose(1, 2), atol=1e-4, rtol=1e-4)
