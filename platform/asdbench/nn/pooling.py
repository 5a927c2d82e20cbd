"""Attentive statistics pooling: a weighted mean and standard deviation over frames.

Okabe et al., "Attentive statistics pooling for deep speaker embedding", Interspeech 2018, arXiv:1803.10963,
with a weight for every channel (as in ECAPA-TDNN, Desplanques et al., 2020, arXiv:2005.07143) instead of one
for all.
"""

import torch
from torch import Tensor, nn


class AttentiveStatisticsPooling(nn.Module):
    """Weighted mean and deviation over frames; the weights come from linear, tanh, linear and a softmax.

    Parameters
    ----------
    width : number of features of a frame
    bottleneck : number of units of the layer that computes the weights

    Examples
    --------
    >>> AttentiveStatisticsPooling(width=32, bottleneck=8)(torch.zeros(2, 64, 32)).shape
    torch.Size([2, 64])
    """

    def __init__(self, width: int = 256, bottleneck: int = 128) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map Float[Tensor, "row frame width"] to Float[Tensor, "row 2*width"]: means, then deviations.

        A deviation is at least 1e-3, so that its gradient is finite.
        """
        exact = torch.promote_types(x.dtype, torch.float32)  # sums over frames are not for bfloat16
        weighted = self.up(torch.tanh(self.down(x))).softmax(dim=1, dtype=exact) * x
        mean = weighted.sum(dim=1)
        variance = (weighted * x).sum(dim=1) - mean.square()
        return torch.cat([mean, variance.clamp(min=1e-6).sqrt()], dim=1)
