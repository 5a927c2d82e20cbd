"""Classification by angle with a margin, for embeddings that are compared by cosine.

Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", 2019, arXiv:1801.07698:

    loss = -log softmax_y(z),    z_j = s cos(θ_j) for j ≠ y,    z_y = s cos(θ_y + m),

where θ_j is the angle between an embedding and the center of class j. The margin m asks more of the right
class than to be the nearest. Beyond θ_y = π - m, where the cosine would rise again, z_y is
s (cos θ_y - m sin m).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize


class ArcFace(nn.Module):
    """The loss of embeddings and their classes, with a trainable center of each class.

    Parameters
    ----------
    dim : length of an embedding
    classes : number of classes
    scale, margin : s and m; the margin in radians

    Examples
    --------
    >>> loss = ArcFace(4, classes=3, scale=30.0, margin=0.2)
    >>> loss(torch.ones(2, 4), torch.tensor([0, 2])).shape
    torch.Size([2])
    """

    def __init__(self, dim: int, classes: int, *, scale: float, margin: float) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(classes, dim))
        self.scale, self.margin = scale, margin

    def cosines(self, embeddings: Tensor) -> Tensor:
        """Return the cosine of each embedding's angle with each center, Float[Tensor, "row class"]."""
        return linear(normalize(embeddings), normalize(self.centers))

    def forward(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        """Return the loss of each row.

        Parameters
        ----------
        embeddings : Float[Tensor, "row dim"]
        classes : Long[Tensor, "row"]

        Returns
        -------
        Float[Tensor, "row"]
        """
        cosines = self.cosines(embeddings).float()
        own = cosines.gather(1, classes[:, None])
        sine = (1 - own.square()).clamp_min(1e-12).sqrt()
        turned = own * math.cos(self.margin) - sine * math.sin(self.margin)
        with_margin = torch.where(
            own > -math.cos(self.margin), turned, own - self.margin * math.sin(self.margin)
        )
        logits = cosines.scatter(1, classes[:, None], with_margin)
        return cross_entropy(self.scale * logits, classes, reduction="none")
