"""Sub-cluster AdaCos: an angular loss in which each class has several centers.

K. Wilkinghoff, "Sub-cluster AdaCos: Learning representations for anomalous sound detection", IJCNN 2021. With
K centers w of each of C classes and the embedding x, both of unit length,

    p(c | x) = sum over k of softmax over all (c, k) of  s · cos(w_ck, x),    s = sqrt(2) · log(C · K - 1)

and the loss is -log p of the true class, or for a mixture of two classes the weighted sum of both.

Departures: the scale s is the fixed one of Zhang et al., "AdaCos", CVPR 2019, arXiv:1905.00292, as in the
recipes of Fujimura et al., "ASDKit", 2025, arXiv:2507.10264; the dynamic one differs little. Centers are
trained, as in Wilkinghoff, "Self-supervised learning for anomalous sound detection", ICASSP 2024.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class SubClusterAdaCos(nn.Module):
    """The logarithm of each class's probability from the angles to its centers.

    Parameters
    ----------
    dim : length of an embedding
    classes : number of classes
    clusters : centers of each class
    trainable : whether the centers are trained, or stay where they are drawn

    Examples
    --------
    >>> loss = SubClusterAdaCos(8, classes=3, clusters=2)
    >>> torch.allclose(loss(torch.ones(4, 8)).exp().sum(dim=1), torch.ones(4))
    True
    """

    def __init__(self, dim: int, *, classes: int, clusters: int = 16, trainable: bool = True) -> None:
        super().__init__()
        centers = nn.init.xavier_uniform_(torch.empty(classes * clusters, dim))
        self.centers = nn.Parameter(centers, requires_grad=trainable)
        self.clusters = clusters
        self.scale = math.sqrt(2) * math.log(max(classes * clusters - 1, 2))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return log-probabilities, Float[Tensor, "row class"], of Float[Tensor, "row dim"]."""
        cosines = normalize(embeddings, dim=1) @ normalize(self.centers, dim=1).T
        logits = (self.scale * cosines).log_softmax(dim=1)
        return logits.view(len(logits), -1, self.clusters).logsumexp(dim=2)
