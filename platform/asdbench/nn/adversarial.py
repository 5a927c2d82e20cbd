"""Parts of adversarial training on spectrogram windows: a classifier, freezing, fakes with real texture.

The classifier is a plain strided CNN, as in A. Radford, L. Metz and S. Chintala, "Unsupervised representation
learning with deep convolutional generative adversarial networks", arXiv:1511.06434, with a mean over time and
frequency before its last layer.

An autoencoder's output is smoother than any recording, and a classifier that is to tell the two apart needs
to look at nothing else. :func:`moved_residual` returns what the autoencoder left out of a window, from
another time of the same window: added to the autoencoder's output, it makes a fake with the texture of a
recording, in which only the course in time does not fit. This is a choice of ours.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Discriminator(nn.Module):
    """Four convolutions of stride 2: Float[Tensor, "row mel frame"] to logits, Float[Tensor, "row"].

    Examples
    --------
    >>> Discriminator()(torch.zeros(2, 128, 256)).shape
    torch.Size([2])
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 32, 64, 128, 128)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [
                nn.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        # With this layout, a step on a CPU takes two thirds of the time.
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, windows: Tensor) -> Tensor:
        """Return logits in float32."""
        return self.logits(self.layers(windows.unsqueeze(1)))

    def logits(self, pooled: Tensor) -> Tensor:
        """Return the logits of the output of ``layers``, in float32."""
        with torch.autocast(pooled.device.type, enabled=False):  # bfloat16 would give equal logits
            logits: Tensor = self.head(pooled.float())
        return logits.squeeze(1)


def frozen(network: nn.Module, *inputs: Tensor) -> Any:
    """Return the output of a network as at scoring; gradients reach its inputs, and nothing in it changes.

    Examples
    --------
    >>> network, rows = nn.BatchNorm1d(3), torch.ones(2, 3, requires_grad=True)
    >>> frozen(network, rows).sum().backward()
    >>> network.weight.grad is None, rows.grad is None, network.training
    (True, False, True)
    """
    was_training = network.training
    network.eval()
    try:
        detached = {name: value.detach() for name, value in network.named_parameters()}
        return functional_call(network, detached, inputs)
    finally:
        network.train(was_training)


def in_order(positive: Tensor, negative: Tensor) -> Tensor:
    """Return whether ``positive`` is greater, for each pair of logits; a tie counts as one half.

    Both are Float[Tensor, "row"]; the result is Float[Tensor, "positive negative"], and its mean is the AUC.

    Examples
    --------
    >>> in_order(torch.tensor([2.0]), torch.tensor([1.0, 2.0, 3.0]))
    tensor([[1.0000, 0.5000, 0.0000]])
    """
    return (positive.detach()[:, None] - negative.detach()).sign().add(1.0).div(2.0)


def moved_residual(windows: Tensor, rebuilt: Tensor, keys: Tensor) -> Tensor:
    """Return ``windows − rebuilt``, moved in time by a quarter to three quarters of the window, circularly.

    Parameters
    ----------
    windows, rebuilt : Float[Tensor, "row mel frame"]
    keys : Long[Tensor, "row"], which decide how far

    Examples
    --------
    >>> windows = torch.arange(8.0).view(1, 1, 8)
    >>> moved_residual(windows, torch.zeros(1, 1, 8), torch.tensor([1]))
    tensor([[[3., 4., 5., 6., 7., 0., 1., 2.]]])
    """
    frames = windows.shape[2]
    distance = frames // 4 + keys % (frames // 2 + 1)
    source = (torch.arange(frames, device=keys.device) + distance[:, None]) % frames
    return torch.gather(windows - rebuilt, 2, source[:, None].expand_as(windows))
