"""Parts of adversarial training: shapes, order of logits, and residuals that stay those of their window."""

import torch

from asdbench.nn.adversarial import Discriminator, in_order, moved_residual


def test_the_discriminator_halves_both_axes_four_times() -> None:
    discriminator = Discriminator()
    shapes = []
    for layer in discriminator.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    assert discriminator(torch.randn(2, 128, 256)).shape == (2,)
    assert shapes == [(32, 64, 128), (64, 32, 64), (128, 16, 32), (128, 8, 16)]


def test_pairs_in_the_right_order_count_and_ties_count_a_half() -> None:
    high, low = torch.tensor([3.0, 2.0]), torch.tensor([1.0, 0.0, -1.0])
    assert in_order(high, low).mean() == 1.0
    assert in_order(low, high).mean() == 0.0
    assert in_order(torch.ones(4), torch.ones(3)).mean() == 0.5
    assert in_order(torch.tensor([1.0]), torch.tensor([0.0, 1.0, 2.0, 3.0])).mean() == 0.375
    assert not in_order(high.requires_grad_(), low).requires_grad


def test_a_residual_moves_as_a_whole_by_what_its_key_says() -> None:
    windows, rebuilt = torch.randn(3, 4, 16), torch.randn(3, 4, 16)
    keys = torch.tensor([0, 8, 2**40])
    moved = moved_residual(windows, rebuilt, keys)
    for row, distance in enumerate((4, 12, 4 + 2**40 % 9)):
        expected = (windows - rebuilt)[row].roll(-distance, dims=1)
        torch.testing.assert_close(moved[row], expected)
