"""BEATs: audio pre-training with acoustic tokenizers.

Chen et al., ICML 2023, arXiv:2212.09058; layout of the parameters as in the published checkpoints
(iterations 1 to 3, not fine-tuned). Log-mel patches of 16 frames by 16 bands, a norm and a projection; a
convolution over the sequence of tokens adds positions. A layer computes (DeepNorm, α = (2 layers)^(1/4))

    x <- norm(α x + attention(x)),  x <- norm(α x + mlp(x)).

Attention has a bias by bucket of the distance i - j in the sequence, shared by all layers and scaled by a
gate of the query (WavLM, arXiv:2110.13900, equations 4 to 6):

    bias'(i, j) = (g1 (g2 a - 1) + 2) bias(i - j),  g1, g2 = σ(sums over four of W q_i + b)

Known departures: no dropout and no layer drop; frames that do not fill a patch at the end are left out, as
published; no head of classes.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, gelu, scaled_dot_product_attention

from asdbench.nn.encoders.encoder import Encoder, TokenGrid
from asdbench.nn.encoders.spectra import KaldiFbank

_MELS, _PATCH = 128, 16
_FBANK_MEAN, _FBANK_DEVIATION = 15.41663, 6.55582


class Beats(Encoder):
    """The encoder of BEATs.

    Parameters
    ----------
    dim, depth, heads, hidden : length of a token, layers, attention heads, width of the hidden layers
    patch_dim : length of a patch's embedding before the projection to ``dim``
    conv_width, conv_groups : kernel and groups of the convolution that adds positions
    buckets, max_distance : buckets of distances, and the distance from which on all share the last bucket
    """

    def __init__(
        self,
        *,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        patch_dim: int = 512,
        conv_width: int = 128,
        conv_groups: int = 16,
        buckets: int = 320,
        max_distance: int = 800,
    ) -> None:
        super().__init__()
        self.dim, self.depth = dim, depth
        self.fbank = KaldiFbank(_MELS, "povey")
        self.patch_embedding = nn.Conv2d(1, patch_dim, kernel_size=_PATCH, stride=_PATCH, bias=False)
        self.layer_norm = nn.LayerNorm(patch_dim)
        self.post_extract_proj = nn.Linear(patch_dim, dim)
        distances = nn.Embedding(buckets, heads)
        self.encoder = _Layers(dim, depth, heads, hidden, conv_width, conv_groups, distances)
        self.max_distance = max_distance

    def grid(self, samples: int) -> TokenGrid:
        """Return the token grid: 8 bands, a time step every 0.16 s."""
        return TokenGrid(KaldiFbank.frames(samples) // _PATCH, _MELS // _PATCH, token_s=0.16)

    def layer_outputs(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield the outputs of the layers, each Float[Tensor, "row token dim"]."""
        mels = (self.fbank(waveform * 2**15) - _FBANK_MEAN) / (2 * _FBANK_DEVIATION)
        patches = self.patch_embedding(mels.unsqueeze(1)).flatten(2).transpose(1, 2)
        yield from self.encoder(self.post_extract_proj(self.layer_norm(patches)), self.max_distance)


class _Layers(nn.Module):
    def __init__(
        self, dim: int, depth: int, heads: int, hidden: int, width: int, groups: int, distances: nn.Embedding
    ) -> None:
        super().__init__()
        self.distances = (distances,)  # in a tuple: its parameters are those of the layers
        self.pos_conv = nn.Sequential(_PositionConv(dim, width, groups))
        self.layer_norm = nn.LayerNorm(dim)
        alpha = (2 * depth) ** 0.25
        self.layers = nn.ModuleList(_Layer(dim, heads, hidden, alpha, distances) for _ in range(depth))

    def forward(self, x: Tensor, max_distance: int) -> Iterator[Tensor]:
        x = self.layer_norm(x + self.pos_conv(x))
        (table,) = self.distances
        buckets = distance_buckets(x.shape[1], table.num_embeddings, max_distance).to(x.device)
        bias = table(buckets).permute(2, 0, 1)
        for layer in self.layers:
            x = layer(x, bias)
            yield x


class _PositionConv(nn.Module):
    """Grouped convolution over tokens, its kernel normed per tap: g v / |v|, then a GELU."""

    def __init__(self, dim: int, width: int, groups: int) -> None:
        super().__init__()
        self.width, self.groups = width, groups
        self.weight_g = nn.Parameter(torch.ones(1, 1, width))
        self.weight_v = nn.Parameter(torch.randn(dim, dim // groups, width) * (4 / (width * dim)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight_g * self.weight_v / self.weight_v.norm(dim=(0, 1), keepdim=True)
        out = conv1d(x.transpose(1, 2), weight, self.bias, padding=self.width // 2, groups=self.groups)
        return gelu(out[..., : x.shape[1]]).transpose(1, 2)


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int, alpha: float, distances: nn.Embedding) -> None:
        super().__init__()
        self.alpha = alpha
        self.self_attn = _Attention(dim, heads, distances)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.final_layer_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(self.alpha * x + self.self_attn(x, bias))
        out: Tensor = self.final_layer_norm(self.alpha * x + self.fc2(gelu(self.fc1(x))))
        return out


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int, distances: nn.Embedding) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.q_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.grep_linear = nn.Linear(dim // heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, heads, 1, 1))
        self.relative_attention_bias = distances

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        projections = (self.q_proj, self.k_proj, self.v_proj)
        query, key, value = (p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in projections)
        first, second = self.grep_linear(query).unflatten(-1, (2, 4)).sum(-1).sigmoid().split(1, dim=-1)
        gated = (first * (second * self.grep_a - 1) + 2) * bias
        attended = scaled_dot_product_attention(query, key, value, attn_mask=gated.to(query.dtype))
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out


def distance_buckets(tokens: int, buckets: int, max_distance: int) -> Tensor:
    """Return the bucket of each distance j - i, Long[Tensor, "token token"].

    Half of the buckets are for j > i. Of each half, the first half has one distance per bucket; the rest
    grows logarithmically up to ``max_distance`` (T5, Raffel et al., 2020, arXiv:1910.10683).

    Examples
    --------
    >>> distance_buckets(4, buckets=8, max_distance=16).tolist()
    [[0, 5, 6, 6], [1, 0, 5, 6], [2, 1, 0, 5], [2, 2, 1, 0]]
    """
    places = torch.arange(tokens)
    distance = places[None, :] - places[:, None]
    half, far = buckets // 2, distance.abs()
    exact = half // 2
    ratio = torch.log(far.clamp_min(1).float() / exact) / math.log(max_distance / exact)
    coarse = (exact + (ratio * (half - exact)).long()).clamp_max(half - 1)
    return torch.where(far < exact, far, coarse) + (distance > 0) * half
