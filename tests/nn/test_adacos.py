"""Sub-cluster AdaCos: probabilities, scale and centers."""

import math

import torch
from torch.nn.functional import normalize

from asdbench.nn.adacos import SubClusterAdaCos


def test_a_class_has_the_probability_of_all_its_centers() -> None:
    torch.manual_seed(0)
    loss, embeddings = SubClusterAdaCos(5, classes=3, clusters=4), torch.randn(6, 5)
    scale = math.sqrt(2) * math.log(3 * 4 - 1)
    cosines = normalize(embeddings, dim=1) @ normalize(loss.centers, dim=1).T
    expected = torch.softmax(scale * cosines, dim=1).view(6, 3, 4).sum(dim=2)
    torch.testing.assert_close(loss(embeddings).exp(), expected)
    torch.testing.assert_close(loss(7 * embeddings), loss(embeddings))  # only angles count


def test_centers_are_trained_if_asked_for() -> None:
    for trainable in (True, False):
        loss = SubClusterAdaCos(5, classes=2, trainable=trainable)
        assert loss.centers.requires_grad is trainable
        assert loss.centers.shape == (32, 5)
