"""ECHO: frequency-aware hierarchical encoding for variable-length signals.

Zhang et al., 2025, arXiv:2508.14689; layout of the parameters as in the authors' code. A magnitude
spectrogram (25 ms, hop 10 ms, natural logarithm) is split into bands of 32 bins. Each band is a sequence of
its own: patches of 16 frames by 32 bins, fixed positions in time, plus sines and cosines of the band's
center frequency relative to the Nyquist frequency, a class token, post-norm transformer layers and a final
norm. The sampling rate only changes the number of bands and their relative frequencies, thus any rate can
be encoded.

Known departures: a clip of more than 2000 frames (20 s) is encoded in chunks without overlap (the authors'
last chunk overlaps); the class token of a band takes part, but is not returned, so that all encoders have
the same output; the last, narrower band is padded with zeros below, as published.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from asdbench.nn.encoders.blocks import PatchEmbedding
from asdbench.nn.encoders.encoder import Encoder, TokenGrid
from asdbench.spec import SAMPLE_RATE_HZ

_BINS, _PATCH, _MAX_FRAMES = 32, 16, 2000
_LOG_MEAN, _LOG_DEVIATION = -5.874158, 5.223174


class Echo(Encoder):
    """The encoder of ECHO.

    Parameters
    ----------
    dim, depth, heads : length of a token, layers, attention heads
    sample_rate_hz : sampling rate of the waveforms
    """

    def __init__(
        self, *, dim: int = 384, depth: int = 12, heads: int = 6, sample_rate_hz: int = SAMPLE_RATE_HZ
    ) -> None:
        super().__init__()
        self.dim, self.depth, self.sample_rate_hz = dim, depth, sample_rate_hz
        self.n_fft, self.hop = int(0.025 * sample_rate_hz), int(0.01 * sample_rate_hz)
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)
        self.patch_embed = PatchEmbedding(dim, (_BINS, _PATCH))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(_time_positions(dim), requires_grad=False)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(_layer(dim, heads) for _ in range(depth))})
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def grid(self, samples: int) -> TokenGrid:
        """Return the token grid: 7 bands at 16 kHz, a time step every 0.16 s."""
        chunks, rest = divmod(max(0, (samples - self.n_fft) // self.hop + 1), _MAX_FRAMES)
        time = chunks * (_MAX_FRAMES // _PATCH) - (-rest // _PATCH)
        return TokenGrid(time, self._bands, token_s=_PATCH * self.hop / self.sample_rate_hz)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers."""
        layers = self.encoder["layers"]
        assert isinstance(layers, nn.ModuleList)
        return layers

    @property
    def _bands(self) -> int:
        return -(-(self.n_fft // 2 + 1) // _BINS)

    def layer_outputs(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield the outputs of the layers, each Float[Tensor, "row token dim"]."""
        spectra = self._spectra(waveform)
        spectra = nn.functional.pad(spectra, (0, -spectra.shape[-1] % _PATCH))
        chunks = [self._embed(piece) for piece in torch.split(spectra, _MAX_FRAMES, dim=-1)]
        for number, layer in enumerate(self.layers, start=1):
            chunks = [layer(chunk) for chunk in chunks]
            tokens = torch.cat([chunk[:, 1:] for chunk in chunks], dim=1)
            tokens = self.norm(tokens) if number == self.depth else tokens
            yield tokens.unflatten(0, (-1, self._bands)).transpose(1, 2).flatten(1, 2)

    def _spectra(self, waveform: Tensor) -> Tensor:
        """Return Float[Tensor, "row*band bin frame"], standardized."""
        with torch.autocast(waveform.device.type, enabled=False):
            centered = waveform.float() - waveform.float().mean(-1, keepdim=True)
            frames = centered.unfold(-1, self.n_fft, self.hop) * self.window
            logs = (torch.fft.rfft(frames).abs() + 1e-9).log().transpose(1, 2)
        *full, last = ((logs - _LOG_MEAN) / (2 * _LOG_DEVIATION)).split(_BINS, dim=1)
        last = nn.functional.pad(last, (0, 0, _BINS - last.shape[1], 0))
        return torch.stack([*full, last], dim=1).flatten(0, 1)

    def _embed(self, bands: Tensor) -> Tensor:
        patches = self.patch_embed(bands).squeeze(2).transpose(1, 2)
        patches = patches + self.pos_embed[:, 1 : patches.shape[1] + 1]
        first = self.cls_token.expand(len(bands), -1, -1)
        frequencies = self._frequency_positions().repeat(len(bands) // self._bands, 1)
        return torch.cat([first, patches], dim=1) + frequencies[:, None]

    def _frequency_positions(self) -> Tensor:
        """Return the positions of the bands in frequency, Float[Tensor, "band dim"]."""
        starts = torch.arange(self._bands, device=self.pos_embed.device) * _BINS
        ends = (starts + _BINS).clamp_max(self.n_fft // 2 + 1)
        centers = (starts + ends - 1) / 2 * (2 / self.n_fft)  # relative to the Nyquist frequency
        rates = 10_000.0 ** -(torch.arange(0, self.dim, 2, device=centers.device) / self.dim)
        phases = 25 * centers[:, None] * rates
        return torch.stack([phases.sin(), phases.cos()], dim=-1).flatten(1)


def _layer(dim: int, heads: int) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        dim, heads, 4 * dim, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True
    )


def _time_positions(dim: int) -> Tensor:
    """Return fixed positions in time, Float[Tensor, "1 1+time dim"], 0 for the class token."""
    rates = 10_000.0 ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))
    waves = torch.arange(_MAX_FRAMES // _PATCH, dtype=torch.float64)[:, None] * rates
    table = torch.cat([waves.sin(), waves.cos()], dim=1)
    return torch.cat([torch.zeros(1, dim), table.float()])[None]
