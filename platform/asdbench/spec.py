"""Specifications of features: the parameters that their values depend on. Imports no other library."""

from dataclasses import dataclass
from typing import Literal

from asdbench.errors import InputError

FarMicrophone = Literal["ignore", "subtract"]

SAMPLE_RATE_HZ = 16_000  # of every stored waveform and every DCASE Task 2 data set


@dataclass(frozen=True)
class MelSpec:
    """A log-mel spectrogram: Hann window of ``n_fft`` samples, power, Slaney mel scale and norm, 10·log10.

    Attributes
    ----------
    n_fft
        Window and transform length, in samples.
    hop_samples
        Distance between frames; frame t covers samples [hop·t − n_fft/2, hop·t + n_fft/2).
    n_mels
        Number of mel bands.
    f_min_hz, f_max_hz
        Edges of the filter bank.
    floor
        Lower bound of the mel power before the logarithm.

    Examples
    --------
    >>> MelSpec(hop_samples=512).frames(16_000)
    32
    """

    n_fft: int = 1024
    hop_samples: int = 160
    n_mels: int = 128
    f_min_hz: float = 0.0
    f_max_hz: float = 8000.0
    floor: float = 1e-10

    def frames(self, samples: int) -> int:
        """Return the number of frames of a clip of ``samples`` samples."""
        return 1 + samples // self.hop_samples


@dataclass(frozen=True)
class EncoderSpec:
    """Embeddings of a frozen pretrained encoder, which the platform computes once per clip and stores.

    The encoder reads whole clips; one shorter than a second is repeated end to end until it lasts one.

    Attributes
    ----------
    id
        Id of the encoder's weights, as ``asdbench weights list`` shows it.
    layer
        The layer whose tokens are stored, counted from 1; negative numbers count from the last one, -1.
    normalize_level
        Bring each clip to the same level, a root mean square of a tenth of full scale; silence stays silent.
    far_microphone
        ``"ignore"``: the encoder reads the channel that the data set's policy keeps; ``"subtract"``: first
        what the near microphone shares with the far one is subtracted from it (two-channel recordings only).

    Examples
    --------
    >>> EncoderSpec("beats-iter3").layer
    -1
    """

    id: str
    layer: int = -1
    normalize_level: bool = True
    far_microphone: FarMicrophone = "ignore"

    def counted_layer(self, layers: int) -> int:
        """Return the layer counted from 1, for an encoder of so many layers.

        Raises
        ------
        InputError
            The encoder has no such layer.

        Examples
        --------
        >>> EncoderSpec("beats-iter3").counted_layer(12)
        12
        """
        if not 1 <= abs(self.layer) <= layers:
            raise InputError(
                f"{self.id!r} has no layer {self.layer}; choose from 1 to {layers}, or from -1, the last "
                f"one, to -{layers}"
            )
        return self.layer if self.layer > 0 else layers + 1 + self.layer
