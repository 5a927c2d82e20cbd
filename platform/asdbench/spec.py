"""Specifications of features: the parameters that their values depend on. Imports no other library."""

from dataclasses import dataclass

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
