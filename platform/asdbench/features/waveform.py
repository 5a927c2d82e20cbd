"""Waveforms of whole clips before an encoder reads them: their level, and what a far microphone shares.

The level is normalized because encoders trained on AudioSet saw levels of music and speech, while machines
are recorded at any gain: without it, faint recordings fall where the encoder distinguishes little.

Subtraction of the far microphone: near and far recordings of a machine share the sound of its surroundings.
In the short-time spectrum, the near channel N(t, f) is predicted from the far one F(t, f) by one complex
factor per frequency, the least-squares solution over the whole clip

    h(f) = Σ_t N(t, f) F*(t, f) / Σ_t |F(t, f)|²,

and what remains, N − h F, is turned back into samples. It follows the winning idea of DCASE 2026 Task 2
(complex least-squares subtraction of the far microphone). One factor per frequency cannot follow a delay that
is long against the window of 1024 samples; a machine that the far microphone hears, too, is attenuated.
"""

import torch
from torch import Tensor

LEVEL = 0.1  # root mean square of a clip at the normal level, full scale = 1
_N_FFT, _HOP = 1024, 256


def normalize_level(waveform: Tensor) -> Tensor:
    """Return clips with a root mean square of a tenth of full scale; silence stays silent.

    Parameters
    ----------
    waveform : Float[Tensor, "clip sample"], full scale = 1

    Examples
    --------
    >>> normalize_level(torch.tensor([[0.4, -0.4], [0.0, 0.0]]))
    tensor([[ 0.1000, -0.1000],
            [ 0.0000,  0.0000]])
    """
    level = waveform.square().mean(dim=1, keepdim=True).sqrt()
    return waveform * torch.where(level > 0, LEVEL / level, 0.0)


def subtract_far_microphone(near: Tensor, far: Tensor) -> Tensor:
    """Return the near channel without what a linear, time-invariant filter predicts from the far one.

    Parameters
    ----------
    near, far : Float[Tensor, "clip sample"], full scale = 1, of equal shapes

    Returns
    -------
    Float[Tensor, "clip sample"]

    Examples
    --------
    >>> hum = torch.sin(torch.arange(16_000) * 0.05)[None]
    >>> bool(subtract_far_microphone(0.5 * hum, hum).abs().max() < 1e-3)
    True
    """
    window = torch.hann_window(_N_FFT, device=near.device)

    def spectrum(waveform: Tensor) -> Tensor:
        return torch.stft(waveform, _N_FFT, _HOP, window=window, pad_mode="constant", return_complex=True)

    near_spectrum, far_spectrum = spectrum(near), spectrum(far)
    power = far_spectrum.abs().square().sum(dim=-1, keepdim=True)
    shared = (near_spectrum * far_spectrum.conj()).sum(dim=-1, keepdim=True)
    factor = torch.where(power > 0, shared / power, 0.0)
    rest = near_spectrum - factor * far_spectrum
    return torch.istft(rest, _N_FFT, _HOP, window=window, length=near.shape[1])
