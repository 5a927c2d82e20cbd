"""Low-rank fine-tuning: pretrained weights stay, and a product of two thin matrices is added.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2022, arXiv:2106.09685:

    W' = W + s B A,    A: (rank, in), B: (out, rank), s = scale / rank.

B starts at zero, so that training starts from the pretrained network; A starts as the weights of a linear
layer do. Only A and B are trained: for rank 8 about one in a hundred of the parameters.

Departure: the sum is formed where a weight is read (:mod:`torch.nn.utils.parametrize`), not in the layer's
output, so that it reaches every layer that reads a matrix by name, fused attention and torch's fast paths
included. There is no dropout of the low-rank branch.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRankUpdate(nn.Module):
    """The term that is added to a matrix.

    Parameters
    ----------
    shape : of the matrix, (out, in)
    rank : of the term
    scale : factor of the term, over the rank
    """

    def __init__(self, shape: torch.Size, *, rank: int, scale: float) -> None:
        super().__init__()
        n_out, n_in = shape
        self.down = nn.Parameter(torch.empty(rank, n_in))
        self.up = nn.Parameter(torch.zeros(n_out, rank))
        self.factor = scale / rank
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """Return Float[Tensor, "out in"] with the term added."""
        return torch.addmm(weight, self.up, self.down, alpha=self.factor)


def add_low_rank(network: nn.Module, pattern: str, *, rank: int, scale: float) -> list[nn.Parameter]:
    """Freeze a network and add low-rank terms to some of its matrices; return the parameters to train.

    Parameters
    ----------
    network : the pretrained network, changed in place
    pattern : regular expression; a matrix changes if it matches its whole name, such as
        ``blocks.0.attn.qkv.weight``
    rank, scale : of each term, see :class:`LowRankUpdate`

    Raises
    ------
    ValueError
        No matrix has such a name.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    >>> [tuple(part.shape) for part in add_low_rank(network, "1[.]weight", rank=2, scale=2.0)]
    [(2, 4), (2, 2)]
    """
    network.requires_grad_(False)
    names = [name for name, value in network.named_parameters() if value.dim() == 2]
    chosen = [name for name in names if re.fullmatch(pattern, name)]
    if not chosen:
        raise ValueError(f"no matrix has a name that matches {pattern!r}; there are {', '.join(names[:8])}")
    for name in chosen:
        owner, _, leaf = name.rpartition(".")
        module = network.get_submodule(owner)
        update = LowRankUpdate(getattr(module, leaf).shape, rank=rank, scale=scale)
        parametrize.register_parametrization(module, leaf, update)
    return [value for value in network.parameters() if value.requires_grad]


def load_frozen(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a network with low-rank terms its pretrained tensors, by their names before :func:`add_low_rank`.

    The tensors are shared, not copied.

    Raises
    ------
    ValueError
        A tensor is missing, unknown or of another shape.
    """
    own = {original_name(name): value for name, value in network.state_dict(keep_vars=True).items()}
    own = {name: value for name, value in own.items() if not value.requires_grad}
    wrong = list(own.keys() ^ tensors.keys())
    wrong += [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    if wrong:
        raise ValueError(f"the weights do not fit the network, the first at {min(wrong)!r}")
    for name, value in own.items():
        value.data = tensors[name].detach()


def original_name(name: str) -> str:
    """Return the name that a tensor had before low-rank terms were added.

    >>> original_name("attn.qkv.parametrizations.weight.original")
    'attn.qkv.weight'
    """
    return re.sub(r"parametrizations\.(\w+)\.original$", r"\1", name)
