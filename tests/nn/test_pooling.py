import pytest
import torch

from asdbench.nn.pooling import AttentiveStatisticsPooling


def test_it_is_the_weighted_mean_and_deviation_of_the_paper() -> None:
    torch.manual_seed(0)
    pooling = AttentiveStatisticsPooling(6, bottleneck=4).double()
    x = torch.randn(3, 11, 6, dtype=torch.float64)
    weight = [pooling.down.weight, pooling.down.bias, pooling.up.weight, pooling.up.bias]
    expected = []
    for row in x:
        scores = torch.stack(
            [weight[2] @ torch.tanh(weight[0] @ frame + weight[1]) + weight[3] for frame in row]
        )
        shares = scores.exp() / scores.exp().sum(dim=0)
        mean = (shares * row).sum(dim=0)
        deviation = (shares * (row - mean) ** 2).sum(dim=0).sqrt()
        expected.append(torch.cat([mean, deviation]))
    torch.testing.assert_close(pooling(x), torch.stack(expected), atol=1e-12, rtol=1e-12)


def test_it_has_the_sizes_of_the_report() -> None:
    pooling = AttentiveStatisticsPooling()
    assert pooling(torch.randn(2, 256, 256)).shape == (2, 512)
    assert sum(p.numel() for p in pooling.parameters()) == 256 * 128 + 128 + 128 * 256 + 256


def test_a_constant_sound_has_a_small_deviation_and_finite_gradients() -> None:
    pooling = AttentiveStatisticsPooling(4, bottleneck=2)
    x = torch.full((1, 9, 4), 3.0, requires_grad=True)
    pooled = pooling(x)
    torch.testing.assert_close(pooled, torch.tensor([[3.0] * 4 + [1e-3] * 4]))
    pooled.sum().backward()
    assert bool(x.grad.isfinite().all())


def test_under_autocast_it_stays_near_float32() -> None:
    torch.manual_seed(0)
    pooling = AttentiveStatisticsPooling(16)
    x = 3 + torch.randn(2, 64, 16)
    expected = pooling(x)
    for given in (x, x.bfloat16()):
        with torch.autocast("cpu", torch.bfloat16):
            found = pooling(given)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=0.03, rtol=0.01)


def test_it_follows_the_frames_not_their_order() -> None:
    pooling = AttentiveStatisticsPooling(4)
    x = torch.randn(2, 8, 4)
    torch.testing.assert_close(pooling(x.flip(1)), pooling(x))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(pooling(x[:, :4]), pooling(x))
