"""TgramNet: frames learned from the waveform, to complement those of a log-mel spectrogram.

Liu et al., "Anomalous sound detection using spectral-temporal information fusion", ICASSP 2022,
arXiv:2201.05510 (STgram-MFN), and its code. Frame t of the first convolution covers the samples
[hop·t, hop·t + kernel) of the padded crop, as frame t of :func:`asdbench.features.mel.log_mel` does.

Known departures: hop 160 instead of 512, 256 frames instead of 313, and no padding in the first convolution,
since the crop already holds the context.
"""

from torch import Tensor, nn


class TgramNet(nn.Module):
    """A convolution over the waveform, then three times layer norm over frames, leaky ReLU, convolution.

    The layer norms are over all frames of a channel, so that the number of frames is fixed.

    Parameters
    ----------
    frames : number of frames of a window
    channels : number of features of a frame
    kernel_samples, hop_samples : length of the frames and distance between them
    layers : number of convolutions over frames

    Examples
    --------
    >>> import torch
    >>> tgram = TgramNet(64, channels=8)
    >>> tgram(torch.zeros(2, tgram.samples)).shape  # row, frame, channel
    torch.Size([2, 64, 8])
    """

    def __init__(
        self,
        frames: int = 256,
        *,
        channels: int = 128,
        kernel_samples: int = 1024,
        hop_samples: int = 160,
        layers: int = 3,
    ) -> None:
        super().__init__()
        self.samples = (frames - 1) * hop_samples + kernel_samples
        self.first = nn.Conv1d(1, channels, kernel_samples, stride=hop_samples, bias=False)
        self.encoder = nn.Sequential(
            *(
                nn.Sequential(
                    nn.LayerNorm(frames),
                    nn.LeakyReLU(0.2),
                    nn.Conv1d(channels, channels, 3, padding=1, bias=False),
                )
                for _ in range(layers)
            )
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Map Float[Tensor, "row sample"] of ``samples`` samples to Float[Tensor, "row frame channel"]."""
        frames: Tensor = self.encoder(self.filtered(waveform))
        return frames.transpose(1, 2)

    def filtered(self, waveform: Tensor) -> Tensor:
        """Return the first convolution of Float[Tensor, "row sample"]: Float[Tensor, "row channel frame"]."""
        out: Tensor = self.first(waveform.unsqueeze(1))
        return out
