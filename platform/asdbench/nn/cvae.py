"""Encoder and decoder of a convolutional conditional variational autoencoder over spectrogram windows.

Idea: a window's bands are the channels of one-dimensional convolutions over its frames. The encoder returns
the mean and log variance of a Gaussian over latent values; the decoder maps a sample from it, together with
conditions such as one-hot attributes, back to a window (K. Sohn, H. Lee and X. Yan, "Learning structured
output representation using deep conditional generative models", NeurIPS 2015). Two strides of 2 shorten the
frames to a quarter.

The encoder's widths, kernels and strides are table 1 of Y. Zhang and M. Li, "Anomalous sound detection via
multitask learning and adversarial learning", technical report, DCASE 2023 Challenge. Padding 1, batch norm,
LeakyReLU(0.2), a last layer for the log variance and the mirrored decoder are choices of this module.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_SLOPE = 0.2


class Encoder(nn.Module):
    """Map from windows to the mean and log variance of a Gaussian over latent values.

    Maps Float[Tensor, "row band frame"] and Float[Tensor, "row condition"] to two tensors
    Float[Tensor, "row latent"] in float32. Without conditions pass a tensor of width 0.

    Parameters
    ----------
    bands, frames : shape of a window; ``frames`` is a multiple of 4
    latent : number of dimensions of the latent space
    conditions : number of conditions, which are appended to the output of the convolutions

    Examples
    --------
    >>> encoder = Encoder(bands=128, frames=64, latent=16, conditions=3)
    >>> mean, log_variance = encoder(torch.zeros(2, 128, 64), torch.zeros(2, 3))
    >>> mean.shape
    torch.Size([2, 16])
    """

    def __init__(self, *, bands: int, frames: int, latent: int, conditions: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_normed(nn.Conv1d(bands, 32, kernel_size=1), 32),
            *_normed(nn.Conv1d(32, 16, kernel_size=3, stride=2, padding=1), 16),
            *_normed(nn.Conv1d(16, 8, kernel_size=3, stride=2, padding=1), 8),
            nn.Flatten(),
        )
        self.linear = nn.Sequential(
            nn.Linear(2 * frames + conditions, 256), nn.LeakyReLU(_SLOPE), nn.Linear(256, 2 * latent)
        )

    def forward(self, windows: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance."""
        joined = torch.cat([self.convolutions(windows), condition], dim=1)
        mean, log_variance = self.linear(joined).float().chunk(2, dim=1)
        return mean, log_variance


class Decoder(nn.Module):
    """Map from latent values and conditions to windows; the mirror image of the encoder.

    Maps Float[Tensor, "row latent"] and Float[Tensor, "row condition"] to Float[Tensor, "row band frame"] in
    float32. Batch norm follows only the transposed convolutions. Its parameters are those of
    :class:`Encoder`.

    Examples
    --------
    >>> decoder = Decoder(bands=128, frames=64, latent=16, conditions=3)
    >>> decoder(torch.zeros(2, 16), torch.zeros(2, 3)).shape
    torch.Size([2, 128, 64])
    """

    def __init__(self, *, bands: int, frames: int, latent: int, conditions: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(latent + conditions, 256),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(256, 2 * frames),
            nn.LeakyReLU(_SLOPE),
            nn.Unflatten(1, (8, frames // 4)),
            *_normed(_doubling(8, 16), 16),
            *_normed(_doubling(16, 32), 32),
            nn.Conv1d(32, bands, kernel_size=1),
        )

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Return windows."""
        windows: Tensor = self.layers(torch.cat([latent, condition], dim=1))
        return windows.float()


def drawn(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Return the sample of the Gaussian for standard normal ``noise``, differentiable in mean and variance.

    Examples
    --------
    >>> drawn(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([2.0]))
    tensor([3.])
    """
    return mean + (0.5 * log_variance).exp() * noise


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence from N(0, 1) in nats, Float[Tensor, "row latent"].

    Examples
    --------
    >>> divergence(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))
    tensor([[0., 2.]])
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)


def one_hot(classes: Tensor, sizes: Iterable[int]) -> Tensor:
    """Return the classes of several columns as conditions, Float[Tensor, "row condition"].

    Parameters
    ----------
    classes : Long[Tensor, "row column"]; a class that is negative gives zeros
    sizes : number of classes of each column

    Examples
    --------
    >>> one_hot(torch.tensor([[1, -1]]), [2, 3])
    tensor([[0., 1., 0., 0., 0.]])
    """
    columns = [torch.empty(len(classes), 0, device=classes.device)]
    for column, size in zip(classes.T, sizes, strict=True):
        columns.append((column[:, None] == torch.arange(size, device=column.device)).float())
    return torch.cat(columns, dim=1)


def _doubling(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose1d(inputs, outputs, kernel_size=3, stride=2, padding=1, output_padding=1)


def _normed(convolution: nn.Module, channels: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return convolution, nn.BatchNorm1d(channels), nn.LeakyReLU(_SLOPE, inplace=True)
