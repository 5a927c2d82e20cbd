"""The transformer block of CED, Dasheng and EAT, with the parameter names of their checkpoints.

Dosovitskiy et al., "An image is worth 16x16 words", 2021, arXiv:2010.11929. Pre-norm blocks (CED, Dasheng)
compute x + attention(norm(x)), then x + mlp(norm(x)); post-norm blocks (EAT, as in data2vec 2.0) compute
norm(x + attention(x)), then norm(x + mlp(x)).
"""

from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention


class Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map Float[Tensor, "row token dim"] to the same shape."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended: Tensor = scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map Float[Tensor, "row token dim"] to the same shape."""
        out: Tensor = self.fc2(gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """A transformer block; the hidden layer is four times as wide as a token.

    Examples
    --------
    >>> import torch
    >>> Block(8, heads=2, pre_norm=True)(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, dim: int, heads: int, *, pre_norm: bool) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map Float[Tensor, "row token dim"] to the same shape."""
        if self.pre_norm:
            x = x + self.attn(self.norm1(x))
            out: Tensor = x + self.mlp(self.norm2(x))
        else:
            x = self.norm1(x + self.attn(x))
            out = self.norm2(x + self.mlp(x))
        return out


class PatchEmbedding(nn.Module):
    """Linear projection of the patches of an image, without overlap."""

    def __init__(self, dim: int, patch: tuple[int, int]) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, dim, kernel_size=patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        """Map Float[Tensor, "row height width"] to Float[Tensor, "row dim height' width'"]."""
        out: Tensor = self.proj(image.unsqueeze(1))
        return out
