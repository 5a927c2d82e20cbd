"""Figures of single clips: log-mel spectrograms."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from asdbench.report.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RANGE_DB = 60.0


def spectrogram(mels: npt.NDArray[np.float32], *, duration_s: float, f_max_hz: float) -> "Figure":
    """Draw a log-mel spectrogram, shape (frame, mel), in dB; 60 dB below its maximum and less is black.

    Frequencies are on the mel scale from 0 to ``f_max_hz``; these two are marked.
    """
    with style.parameters():
        figure, (axis,) = style.panels(1, width_in=3.2, height_in=1.45, has_title=False)
        top = float(mels.max())
        axis.imshow(
            mels.T,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=top - _RANGE_DB,
            vmax=top,
            extent=(0, duration_s, 0, mels.shape[1]),
            interpolation="nearest",
        )
        axis.set_yticks([0, mels.shape[1]], ["0", f"{f_max_hz / 1000:g}"])
        axis.set(xlabel="time (s)", ylabel="kHz, mel scale")
        axis.locator_params(axis="x", nbins=5)
    return figure
