"""Two encoders of a waveform: of the spectrum of a whole window, and of its spectrogram.

K. Wilkinghoff, "Design choices for learning embeddings from auxiliary tasks for domain generalization in
anomalous sound detection", ICASSP 2023, and "Self-supervised learning for anomalous sound
detection", ICASSP 2024, arXiv:2312.09578. The spectrum resolves the pitch of a steady machine as finely as
the window is long; the spectrogram shows what changes in time. No linear layer has a bias.

Departures: the spectrogram's last pooling is the maximum over all frames, which for windows of 18 s is the
published pooling over 18 frames; magnitudes are compressed by ``log1p`` where ``compress`` is set.
"""

import torch
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """Scale channels by a gate that is computed from their means over all other axes.

    Parameters
    ----------
    channels : number of channels
    ratio : how many times narrower the hidden layer is
    """

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // ratio)
        self.gate = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map Float[Tensor, "row channel ..."] to the same shape."""
        gates: Tensor = self.gate(x.flatten(2).mean(dim=2))
        return x * gates.view(*gates.shape, *[1] * (x.dim() - 2))


class SpectrumEncoder(nn.Module):
    """Three strided convolutions over the magnitudes of a window's spectrum, then dense layers.

    Parameters
    ----------
    samples : length of the windows
    dim : length of the embedding
    channels : channels of the convolutions, and width of the dense layers
    compress : take log1p of the magnitudes

    Examples
    --------
    >>> SpectrumEncoder(16_000, dim=128)(torch.zeros(2, 16_000)).shape
    torch.Size([2, 128])
    """

    def __init__(self, samples: int, *, dim: int, channels: int = 128, compress: bool = False) -> None:
        super().__init__()
        self.compress = compress
        layers: list[nn.Module] = []
        before, length = 1, samples // 2
        for kernel, stride in ((256, 64), (64, 32), (16, 4)):
            convolution = nn.Conv1d(before, channels, kernel, stride, padding=kernel // 2, bias=False)
            layers += [convolution, nn.ReLU(), SqueezeExcitation(channels)]
            before, length = channels, (length + 2 * (kernel // 2) - kernel) // stride + 1
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        dense: list[nn.Module] = []
        width = channels * length
        for _ in range(4):
            dense += [nn.Linear(width, channels, bias=False), nn.BatchNorm1d(channels), nn.ReLU()]
            width = channels
        self.dense = nn.Sequential(*dense, nn.Linear(channels, dim, bias=False))

    def forward(self, waveform: Tensor) -> Tensor:
        """Map Float[Tensor, "row sample"], full scale 1, to Float[Tensor, "row dim"]."""
        magnitudes = torch.fft.rfft(waveform).abs()[:, : waveform.shape[1] // 2]
        magnitudes = magnitudes.log1p() if self.compress else magnitudes
        embedding: Tensor = self.dense(self.convolutions(magnitudes[:, None]))
        return embedding


class SpectrogramEncoder(nn.Module):
    """A small residual network over magnitude spectrograms.

    Parameters
    ----------
    dim : length of the embedding
    n_fft : length of the transform, in samples; frames overlap by half
    channels : of the first stage; later ones have two, four and eight times as many
    f_min_hz : lower frequencies are left out
    compress : take log1p of the magnitudes
    remove_mean : subtract the mean over time from each frequency

    Examples
    --------
    >>> SpectrogramEncoder(dim=128)(torch.zeros(2, 16_000)).shape
    torch.Size([2, 128])
    """

    window: Tensor

    def __init__(
        self,
        *,
        dim: int,
        n_fft: int = 1024,
        channels: int = 16,
        f_min_hz: float = 200.0,
        compress: bool = False,
        remove_mean: bool = True,
    ) -> None:
        super().__init__()
        self.n_fft, self.compress, self.remove_mean = n_fft, compress, remove_mean
        self.first_bin = round(f_min_hz * n_fft / 16_000)
        bins = n_fft // 2 + 1 - self.first_bin
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.normalize = nn.BatchNorm1d(bins)
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        stages: list[nn.Module] = [_Residual(channels, channels), _Residual(channels, channels)]
        for stage in range(1, 4):
            wide = channels * 2**stage
            stages += [_Residual(wide // 2, wide, stride=2), _Residual(wide, wide)]
        self.stages = nn.Sequential(*stages)
        bands = bins
        for _ in range(5):
            bands = (bands + 1) // 2
        self.project = nn.Sequential(
            nn.BatchNorm1d(8 * channels * bands), nn.Linear(8 * channels * bands, dim, bias=False)
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Map Float[Tensor, "row sample"], full scale 1, to Float[Tensor, "row dim"]."""
        frames = waveform.unfold(1, self.n_fft, self.n_fft // 2)
        magnitudes = torch.fft.rfft(frames * self.window).abs()[:, :, self.first_bin :].transpose(1, 2)
        magnitudes = magnitudes.log1p() if self.compress else magnitudes
        if self.remove_mean:
            magnitudes = magnitudes - magnitudes.mean(dim=2, keepdim=True)
        features = self.stages(self.stem(self.normalize(magnitudes)[:, None]))
        embedding: Tensor = self.project(features.amax(dim=3).flatten(1))
        return embedding


class _Residual(nn.Module):
    """Two convolutions with batch norm ahead of each, and a shortcut."""

    def __init__(self, before: int, after: int, *, stride: int = 1) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            SqueezeExcitation(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            pool = nn.MaxPool2d(2, stride, ceil_mode=True)
            self.shortcut = nn.Sequential(pool, nn.Conv2d(before, after, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map Float[Tensor, "row channel frequency time"] to as many channels as the block has."""
        result: Tensor = self.convolutions(x) + self.shortcut(x)
        return result
