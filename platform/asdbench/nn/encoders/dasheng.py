"""Dasheng: scaling up masked audio encoder learning for general audio classification.

Dinkel et al., Interspeech 2024, arXiv:2406.06992; layout of the parameters as in the published safetensors.
The architecture of CED (:mod:`asdbench.nn.encoders.ced`) with patches of 4 frames by all 64 bands and
chunks of 1008 frames: one token every 40 ms, without frequency resolution. As in the authors' package,
chunks are not padded.

Known departures: frames at the end that do not fill a patch are left out, as published; no masks for padding,
since all rows of a batch have equal lengths.
"""

from torch import nn

from asdbench.nn.encoders.ced import Ced


class Dasheng(Ced):
    """The encoder of Dasheng.

    Parameters
    ----------
    dim, depth, heads : length of a token, layers, attention heads
    """

    def __init__(self, *, dim: int = 768, depth: int = 12, heads: int = 12) -> None:
        super().__init__(dim=dim, depth=depth, heads=heads, patch=(64, 4), chunk_frames=1008)
        # The checkpoints number the batch norm among two permutations of axes.
        self.init_bn = nn.Sequential(nn.Identity(), self.init_bn, nn.Identity())
