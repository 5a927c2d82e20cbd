"""Encoder and decoder of a convolutional conditional variational autoencoder over spectrogram windows.

Idea: a window's bands are the channels of one-dimensional convolutions over its frames. The encoder gives the
mean and log variance of a Gaussian over latent values; the decoder turns a draw from it, with conditions such
as one-hot attributes beside it, back into a window (K. Sohn, H. Lee and X. Yan, "Learning structured output
representation using deep conditional generative models", NeurIPS 2015). Two strides of 2 shorten the frames
to a quarter.

The encoder's widths, kernels and strides are table 1 of Y. Zhang and M. Li, "Anomalous sound detection via
multitask learning and adversarial learning", technical report, DCASE 2023 Challenge. Padding 1, batch norm,
LeakyReLU(0.2), a last layer for the log variance and the mirrored decoder are choices made here.
"""

import torch
from torch import Tensor, nn

_SLOPE = 0.2


class Encoder(nn.Module):
    """Windows to the Gaussian over latent values.

    Float[Tensor, "row band frame"], Float[Tensor, "row condition"] to mean and log variance, each
    Float[Tensor, "row latent"] in float32. Pass conditions of width 0 where there are none.

    Parameters
    ----------
    bands, frames : shape of a window; ``frames`` is a multiple of 4
    latent : dimensions of the latent space
    conditions : width of what is appended to the convolutions' output
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
    """Latent values and conditions to windows; the encoder's mirror image.

    Float[Tensor, "row latent"], Float[Tensor, "row condition"] to Float[Tensor, "row band frame"] in float32.
    Batch norm follows the transposed convolutions only. Parameters: those of :class:`Encoder`.
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
    """Return the draw from the Gaussian that standard normal ``noise`` gives, differentiable in both."""
    return mean + (0.5 * log_variance).exp() * noise


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence from N(0, 1) in nats, Float[Tensor, "row latent"]."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)


def _doubling(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose1d(inputs, outputs, kernel_size=3, stride=2, padding=1, output_padding=1)


def _normed(convolution: nn.Module, channels: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return convolution, nn.BatchNorm1d(channels), nn.LeakyReLU(_SLOPE, inplace=True)
