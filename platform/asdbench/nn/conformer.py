"""The conformer: blocks of feed-forward, self-attention and convolution modules.

Gulati et al., "Conformer: Convolution-augmented transformer for speech recognition", Interspeech 2020,
arXiv:2005.08100, with the sizes and defaults of WeNet. A block is ½ feed-forward, attention, convolution,
½ feed-forward, layer norm; every module normalizes its input and is added to it.

Known departures: no positional encoding (a machine's sound has no beginning), no dropout of attention
weights (as in WeNet), no lengths and no masks, since all rows of a batch are equally long. In evaluation and
on equal weights it agrees with ``torchaudio.models.Conformer``.

The layout is row, frame, feature throughout: 1×1 convolutions are linear layers, and the depthwise
convolution runs on a channels-last view, so that nothing is transposed.
"""

from torch import Tensor, nn
from torch.nn import functional

from asdbench.errors import InputError
from asdbench.nn.dropout import Dropout


class FeedForward(nn.Module):
    """Half of layer norm, linear, Swish, dropout, linear, dropout, added to the input.

    Maps Float[Tensor, "row frame width"] to the same shape.
    """

    def __init__(self, width: int, *, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.inner_dropout = Dropout(dropout)
        self.down = nn.Linear(hidden, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` plus half the module's output."""
        hidden = self.inner_dropout(functional.silu(self.up(self.norm(x))))
        return self.dropout.residual(x, self.down(hidden), weight=0.5)


class SelfAttention(nn.Module):
    """Layer norm, attention over all frames, dropout, added to the input.

    Maps Float[Tensor, "row frame width"] to the same shape.
    """

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise InputError(
                f"the width {width} is not a multiple of the number of heads {heads}; change one of them"
            )
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` plus the module's output."""
        rows, frames, width = x.shape
        qkv = self.qkv(self.norm(x)).view(rows, frames, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.dropout.residual(x, self.out(attended.transpose(1, 2).reshape(rows, frames, width)))


class Convolution(nn.Module):
    """Layer norm, 1×1 convolution, GLU, depthwise convolution, batch norm, Swish, 1×1 convolution, dropout.

    Added to the input. Maps Float[Tensor, "row frame width"] to the same shape; frames beyond the ends
    are zero.
    """

    def __init__(self, width: int, *, kernel: int, dropout: float) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise InputError(f"the convolution's kernel is {kernel} frames; give an odd number")
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.batch_norm = nn.BatchNorm1d(width)
        self.down = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` plus the module's output."""
        gated = functional.glu(self.up(self.norm(x)), dim=-1)
        convolved = self._over_frames(gated)
        normed = self.batch_norm(convolved.flatten(0, 1)).view_as(convolved)
        return self.dropout.residual(x, self.down(functional.silu(normed)))

    def _over_frames(self, x: Tensor) -> Tensor:
        """Return the depthwise convolution over frames."""
        layer = self.depthwise
        image = x.transpose(1, 2).unsqueeze(3)  # row width frame 1, in memory: row frame width
        convolved = functional.conv2d(
            image,
            layer.weight.unsqueeze(3),
            layer.bias,
            padding=(layer.kernel_size[0] // 2, 0),
            groups=len(layer.weight),
        )
        return convolved.squeeze(3).transpose(1, 2)


class ConformerBlock(nn.Module):
    """One conformer block. Maps Float[Tensor, "row frame width"] to the same shape.

    Parameters
    ----------
    width : number of features of a frame
    heads : number of attention heads
    ffn : number of hidden units of the feed-forward modules
    kernel : number of frames that the depthwise convolution spans, odd
    dropout : dropout probability
    """

    def __init__(self, width: int, *, heads: int, ffn: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.ffn1 = FeedForward(width, hidden=ffn, dropout=dropout)
        self.attention = SelfAttention(width, heads=heads, dropout=dropout)
        self.convolution = Convolution(width, kernel=kernel, dropout=dropout)
        self.ffn2 = FeedForward(width, hidden=ffn, dropout=dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block, Float[Tensor, "row frame width"]."""
        out: Tensor = self.norm(self.ffn2(self.convolution(self.attention(self.ffn1(x)))))
        return out


class Conformer(nn.Module):
    """Linear layer to ``width``, layer norm, dropout, ``blocks`` conformer blocks, layer norm.

    Parameters
    ----------
    inputs : number of features of an input frame
    width, heads, ffn, kernel, dropout : as for :class:`ConformerBlock`
    blocks : number of blocks

    Raises
    ------
    InputError
        ``kernel`` is even, ``width`` is not a multiple of ``heads`` or ``dropout`` is not in [0, 1).

    Examples
    --------
    >>> import torch
    >>> conformer = Conformer(128, width=32, heads=4, ffn=64, blocks=1)
    >>> conformer(torch.zeros(2, 64, 128)).shape  # row, frame, width
    torch.Size([2, 64, 32])
    """

    def __init__(
        self,
        inputs: int,
        *,
        width: int = 256,
        heads: int = 4,
        ffn: int = 512,
        blocks: int = 3,
        kernel: int = 15,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(inputs, width), nn.LayerNorm(width), Dropout(dropout))
        self.blocks = nn.Sequential(
            *(
                ConformerBlock(width, heads=heads, ffn=ffn, kernel=kernel, dropout=dropout)
                for _ in range(blocks)
            )
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map Float[Tensor, "row frame feature"] to Float[Tensor, "row frame width"]."""
        out: Tensor = self.norm(self.blocks(self.project(x)))
        return out
