"""What all frozen encoders have in common: a waveform at 16 kHz in, the tokens of chosen layers out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from asdbench.errors import InputError
from asdbench.spec import SAMPLE_RATE_HZ


@dataclass(frozen=True)
class TokenGrid:
    """The places of an encoder's tokens in time and frequency.

    Token ``t * frequency + f`` is at time step t and in frequency band f, the lowest band first.

    Attributes
    ----------
    time, frequency
        Number of time steps and of frequency bands; 1 band for an encoder of the waveform.
    token_s
        Time between two time steps, in seconds.

    Examples
    --------
    >>> TokenGrid(time=62, frequency=8, token_s=0.16).tokens
    496
    """

    time: int
    frequency: int
    token_s: float

    @property
    def tokens(self) -> int:
        """Number of tokens of a clip."""
        return self.time * self.frequency


class Encoder(nn.Module):
    """A pretrained transformer over the tokens of a recording.

    A subclass defines ``grid`` and ``layer_outputs``. No encoder has dropout or other randomness: in training
    mode (as for low-rank fine-tuning) it computes the same as in evaluation mode.

    Attributes
    ----------
    dim
        Length of a token.
    depth
        Number of layers.
    """

    dim: int
    depth: int

    def grid(self, samples: int) -> TokenGrid:
        """Return the token grid of a waveform of so many samples."""
        raise NotImplementedError(f"{type(self).__name__} must define grid(self, samples)")

    def layer_outputs(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield the outputs of layers 1, 2, ..., each Float[Tensor, "row token dim"], computed on demand."""
        raise NotImplementedError(f"{type(self).__name__} must define layer_outputs(self, waveform)")

    def forward(self, waveform: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the tokens of chosen layers; layers above the highest one are not computed.

        Parameters
        ----------
        waveform : Float[Tensor, "row sample"], full scale = 1, 16 kHz
        layers : layers from 1 to ``depth``. The last one includes the norm that ends the encoder, where it
            has one.

        Returns
        -------
        One Float[Tensor, "row token dim"] per layer, in the order of ``layers``; see :class:`TokenGrid`.

        Raises
        ------
        InputError
            If the encoder has no such layer, or the waveform is too short for one token.

        Examples
        --------
        >>> import torch
        >>> from asdbench.nn.encoders import build
        >>> encoder = build("ced-tiny", dim=12, depth=2, heads=3)
        >>> [tokens.shape for tokens in encoder(torch.zeros(1, 16_000), layers=[2])]
        [torch.Size([1, 24, 12])]
        """
        self._check(waveform.shape[-1], layers)
        outputs = {}
        for layer, tokens in zip(range(1, max(layers) + 1), self.layer_outputs(waveform), strict=False):
            if layer in layers:
                outputs[layer] = tokens
        return [outputs[layer] for layer in layers]

    def _check(self, samples: int, layers: Sequence[int]) -> None:
        for layer in layers:
            if not 1 <= layer <= self.depth:
                raise InputError(f"no layer {layer}: the encoder has layers 1 to {self.depth}")
        if not layers:
            raise InputError(f"no layer is asked for; choose from 1 to {self.depth}")
        if self.grid(samples).time < 1:
            seconds = samples / SAMPLE_RATE_HZ
            raise InputError(f"a clip of {seconds:.3f} s is too short for one token; use longer clips")


def band_of_tokens(tokens: Tensor, grid: TokenGrid) -> Tensor:
    """Return tokens by time and band: Float[Tensor, "row token dim"] to Float[Tensor, "row time band dim"].

    Examples
    --------
    >>> import torch
    >>> band_of_tokens(torch.zeros(2, 12, 5), TokenGrid(time=3, frequency=4, token_s=0.16)).shape
    torch.Size([2, 3, 4, 5])
    """
    return tokens.reshape(len(tokens), grid.time, grid.frequency, -1)
