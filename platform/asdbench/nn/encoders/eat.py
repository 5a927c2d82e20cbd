"""EAT: self-supervised pre-training with an efficient audio transformer.

Chen et al., IJCAI 2024, arXiv:2401.03497; layout of the parameters as in the safetensors that the authors
publish for feature extraction. Log-mel patches of 16 frames by 16 bands plus fixed sine and cosine
positions, a class token, a norm, and post-norm transformer blocks (data2vec 2.0, arXiv:2212.07525).

Known departures: frames are padded to a multiple of 16 with energies of 0, as the authors advise for clips
of any length (their example for 10 s pads to 1024 frames: one more patch of nothing); a clip longer than
the table of positions (123 s) is encoded in chunks; the class token takes part, but is not returned.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from asdbench.nn.encoders.blocks import Block, PatchEmbedding
from asdbench.nn.encoders.encoder import Encoder, TokenGrid
from asdbench.nn.encoders.spectra import KaldiFbank

_MELS, _PATCH, _MAX_TIME = 128, 16, 768
_BANDS = _MELS // _PATCH
_FBANK_MEAN, _FBANK_DEVIATION = -4.268, 4.569


class Eat(Encoder):
    """The encoder of EAT.

    Parameters
    ----------
    dim, depth, heads : length of a token, layers, attention heads
    """

    def __init__(self, *, dim: int = 768, depth: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.dim, self.depth = dim, depth
        self.fbank = KaldiFbank(_MELS, "hanning")
        self.local_encoder = PatchEmbedding(dim, (_PATCH, _PATCH))
        self.extra_tokens = nn.Parameter(torch.zeros(1, 1, dim))
        self.fixed_positional_encoder = nn.ParameterDict({"positions": _positions(dim)})
        self.fixed_positional_encoder.requires_grad_(False)
        self.blocks = nn.ModuleList(Block(dim, heads, pre_norm=False) for _ in range(depth))
        self.pre_norm = nn.LayerNorm(dim, eps=1e-6)

    def grid(self, samples: int) -> TokenGrid:
        """Return the token grid: 8 bands, a time step every 0.16 s."""
        return TokenGrid(-(-KaldiFbank.frames(samples) // _PATCH), _BANDS, token_s=0.16)

    def layer_outputs(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield the outputs of the layers, each Float[Tensor, "row token dim"]."""
        mels = self.fbank(waveform - waveform.mean(-1, keepdim=True))
        mels = nn.functional.pad(mels, (0, 0, 0, -mels.shape[1] % _PATCH))
        pieces = torch.split((mels - _FBANK_MEAN) / (2 * _FBANK_DEVIATION), _PATCH * _MAX_TIME, dim=1)
        chunks = [self._embed(piece) for piece in pieces]
        for block in self.blocks:
            chunks = [block(chunk) for chunk in chunks]
            yield torch.cat([chunk[:, 1:] for chunk in chunks], dim=1)

    def _embed(self, mels: Tensor) -> Tensor:
        patches = self.local_encoder(mels).flatten(2).transpose(1, 2)
        patches = patches + self.fixed_positional_encoder["positions"][:, : patches.shape[1]]
        first = self.extra_tokens.expand(len(mels), -1, -1)
        out: Tensor = self.pre_norm(torch.cat([first, patches], dim=1))
        return out


def _positions(dim: int) -> Tensor:
    """Return fixed positions, Float[Tensor, "1 time*band dim"]: half of them tell the band, half the time."""
    rates = 10_000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    waves = torch.arange(max(_MAX_TIME, _BANDS), dtype=torch.float64)[:, None] * rates
    table = torch.cat([waves.sin(), waves.cos()], dim=1)
    band = table[:_BANDS].expand(_MAX_TIME, -1, -1)
    time = table[:_MAX_TIME, None].expand(-1, _BANDS, -1)
    return torch.cat([band, time], dim=2).flatten(0, 1)[None].float()
