"""Encoder and decoder of the conditional autoencoder: shapes, layers, parameters, the posterior."""

import pytest
import torch
from torch import nn

from asdbench.nn.cvae import Decoder, Encoder, divergence, drawn

SIZES = {"bands": 128, "frames": 256, "latent": 16}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("conditions", [0, 27])
def test_both_have_the_counted_parameters(conditions: int) -> None:
    assert parameters(Encoder(**SIZES, conditions=0)) == 145_736
    assert parameters(Encoder(**SIZES, conditions=conditions)) == 145_736 + 256 * conditions
    assert parameters(Decoder(**SIZES, conditions=conditions)) == 142_224 + 256 * conditions


def test_the_encoder_is_that_of_table_1() -> None:
    encoder = Encoder(**SIZES, conditions=0)
    convolutions = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv1d)]
    assert [(c.out_channels, *c.kernel_size, *c.stride) for c in convolutions] == [
        (32, 1, 1),
        (16, 3, 2),
        (8, 3, 2),
    ]
    linear = [layer for layer in encoder.modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(512, 256), (256, 2 * 16)]
    assert sum(isinstance(layer, nn.BatchNorm1d) for layer in encoder.modules()) == 3


def test_the_decoder_mirrors_it_down_to_the_shapes() -> None:
    decoder = Decoder(**SIZES, conditions=3)
    shapes = []
    for layer in decoder.modules():
        if not isinstance(layer, nn.Sequential | Decoder | nn.LeakyReLU | nn.BatchNorm1d):
            layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    decoder(torch.zeros(2, 16), torch.zeros(2, 3))
    assert shapes == [(256,), (512,), (8, 64), (16, 128), (32, 256), (128, 256)]
    places = [type(layer) for layer in decoder.layers]
    normed = [places[place - 1] for place, kind in enumerate(places) if kind is nn.BatchNorm1d]
    assert normed == [nn.ConvTranspose1d] * 2
    assert places[-1] is nn.Conv1d  # linear output


def test_sizes_reach_both() -> None:
    sizes = {"bands": 6, "frames": 16, "latent": 5}
    encoder, decoder = Encoder(**sizes, conditions=2), Decoder(**sizes, conditions=2)
    condition = torch.zeros(3, 2)
    mean, log_variance = encoder(torch.randn(3, 6, 16), condition)
    assert mean.shape == log_variance.shape == (3, 5)
    assert decoder(mean, condition).shape == (3, 6, 16)


def test_conditions_change_what_comes_out() -> None:
    torch.manual_seed(0)
    encoder = Encoder(**SIZES, conditions=2).eval()
    decoder = Decoder(**SIZES, conditions=2).eval()
    windows, latent = torch.randn(1, 128, 256), torch.randn(1, 16)
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    with torch.no_grad():
        assert not torch.allclose(encoder(windows, one)[0], encoder(windows, other)[0])
        assert not torch.allclose(decoder(latent, one), decoder(latent, other))


def test_outputs_are_float32_under_autocast() -> None:
    encoder, decoder = Encoder(**SIZES, conditions=0), Decoder(**SIZES, conditions=0)
    with torch.autocast("cpu", torch.bfloat16):
        mean, log_variance = encoder(torch.randn(2, 128, 256), torch.zeros(2, 0))
        windows = decoder(mean, torch.zeros(2, 0))
    assert {mean.dtype, log_variance.dtype, windows.dtype} == {torch.float32}


def test_draws_have_the_posteriors_mean_and_deviation() -> None:
    torch.manual_seed(0)
    mean = torch.tensor([2.0, -1.0]).expand(40_000, 2).clone().requires_grad_()
    log_variance = torch.tensor([0.25, 4.0]).log().expand(40_000, 2).clone().requires_grad_()
    found = drawn(mean, log_variance, torch.randn(40_000, 2))
    torch.testing.assert_close(found.mean(dim=0), torch.tensor([2.0, -1.0]), atol=0.05, rtol=0.0)
    torch.testing.assert_close(found.std(dim=0), torch.tensor([0.5, 2.0]), atol=0.0, rtol=0.02)
    found.sum().backward()
    assert mean.grad is not None
    assert log_variance.grad is not None
    torch.testing.assert_close(mean.grad, torch.ones_like(mean))
    assert log_variance.grad.abs().sum() > 0


def test_the_divergence_is_that_of_two_gaussians() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = torch.distributions.Normal(torch.zeros(5, 3), torch.ones(5, 3))
    expected = torch.distributions.kl_divergence(posterior, prior)
    torch.testing.assert_close(divergence(mean, log_variance), expected)
    assert not divergence(torch.zeros(1, 3), torch.zeros(1, 3)).any()
