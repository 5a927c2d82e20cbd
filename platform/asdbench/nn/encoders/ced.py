"""CED: consistent ensemble distillation for audio tagging.

Dinkel et al., ICASSP 2024, arXiv:2308.11957; layout of the parameters as in the published safetensors. A mel
spectrogram of 64 bands in dB, a batch norm over bands, patches of 16 frames by 16 bands, learned positions in
time plus learned positions in frequency, pre-norm transformer blocks and a final norm.

Known departures: a clip of more than 1012 frames (10.1 s) is cut into chunks of 1012 frames, as published,
but the last chunk is not padded with zeros, which the tokens of the clip would attend to: it has fewer
tokens, and frames at its end that do not fill a patch are left out. The batch norm always uses its stored
statistics. The head of classes is not used.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from asdbench.nn.encoders.blocks import Block, PatchEmbedding
from asdbench.nn.encoders.encoder import Encoder, TokenGrid
from asdbench.nn.encoders.spectra import MelSpectrogram

_MELS, _FRAME_S = 64, 0.01


class Ced(Encoder):
    """The encoder of CED.

    Parameters
    ----------
    dim, depth, heads : length of a token, layers, attention heads
    patch : bands and frames of a patch
    chunk_frames : frames that are encoded together
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int = 12,
        heads: int,
        patch: tuple[int, int] = (16, 16),
        chunk_frames: int = 1012,
    ) -> None:
        super().__init__()
        self.dim, self.depth = dim, depth
        self.patch, self.chunk_frames = patch, chunk_frames
        self.mel = MelSpectrogram(_MELS)
        self.init_bn: nn.Module = StoredBatchNorm(_MELS)
        self.patch_embed = PatchEmbedding(dim, patch)
        self.time_pos_embed = nn.Parameter(torch.randn(1, dim, 1, chunk_frames // patch[1]) * 0.02)
        self.freq_pos_embed = nn.Parameter(torch.randn(1, dim, _MELS // patch[0], 1) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads, pre_norm=True) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def grid(self, samples: int) -> TokenGrid:
        """Return the token grid: 4 bands and a time step every 0.16 s with CED's patches."""
        chunks, rest = divmod(MelSpectrogram.frames(samples), self.chunk_frames)
        height, width = self.patch
        time = chunks * (self.chunk_frames // width) + rest // width
        return TokenGrid(time, _MELS // height, token_s=width * _FRAME_S)

    def layer_outputs(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield the outputs of the layers, each Float[Tensor, "row token dim"]."""
        mels = self.init_bn(self.mel(waveform).transpose(1, 2).unsqueeze(2)).squeeze(2)
        pieces = mels.split(self.chunk_frames, dim=-1)
        chunks = [self._embed(piece) for piece in pieces if piece.shape[-1] >= self.patch[1]]
        for layer, block in enumerate(self.blocks, start=1):
            chunks = [block(chunk) for chunk in chunks]
            tokens = torch.cat(chunks, dim=1)
            yield self.norm(tokens) if layer == self.depth else tokens

    def _embed(self, mels: Tensor) -> Tensor:
        patches = self.patch_embed(mels)
        patches = patches + self.time_pos_embed[..., : patches.shape[-1]] + self.freq_pos_embed
        out: Tensor = patches.permute(0, 3, 2, 1).flatten(1, 2)  # row (time band) dim
        return out


class StoredBatchNorm(nn.Module):
    """A batch norm that uses its stored statistics, in training mode, too.

    It is none of torch's batch norms, which a data-parallel training replaces by one over all processes.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))  # as in checkpoints; unused

    def forward(self, x: Tensor) -> Tensor:
        """Map Float[Tensor, "row channel height width"] to the same shape."""
        mean, var = self.running_mean, self.running_var
        return nn.functional.batch_norm(x, mean, var, self.weight, self.bias, training=False)
