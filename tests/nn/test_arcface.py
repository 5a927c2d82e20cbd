"""The margin is added to the angle of the right class, and the loss stays monotonic beyond π - m."""

import math
from itertools import pairwise

import torch

from asdbench.nn.arcface import ArcFace


def on_circle(angle: float) -> torch.Tensor:
    return torch.tensor([[math.cos(angle), math.sin(angle)]])


def loss_at(angle: float, *, margin: float, scale: float = 5.0) -> float:
    loss = ArcFace(2, classes=2, scale=scale, margin=margin)
    loss.centers.data = torch.tensor([[2.0, 0.0], [-0.5, 0.0]])  # lengths do not count
    return loss(3 * on_circle(angle), torch.tensor([0])).item()


def test_it_is_the_published_formula() -> None:
    angle, margin, scale = 0.4, 0.3, 5.0
    own, other = math.cos(angle + margin), -math.cos(angle)
    expected = -math.log(math.exp(scale * own) / (math.exp(scale * own) + math.exp(scale * other)))
    assert abs(loss_at(angle, margin=margin, scale=scale) - expected) < 1e-5
    assert loss_at(angle, margin=0.3) > loss_at(angle, margin=0.0)


def test_a_larger_angle_never_costs_less() -> None:
    losses = [loss_at(angle, margin=0.5) for angle in torch.linspace(0, math.pi, 50).tolist()]
    assert all(near <= far + 1e-6 for near, far in pairwise(losses))


def test_gradients_are_finite_at_the_center() -> None:
    loss = ArcFace(2, classes=2, scale=30.0, margin=0.2)
    embeddings = loss.centers.detach().clone().requires_grad_()
    loss(embeddings, torch.arange(2)).sum().backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()
