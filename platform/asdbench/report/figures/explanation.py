"""The picture of an explanation: a spectrogram with what carries the score, and the score over time."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from asdbench.engine.detection import Detection
from asdbench.engine.explanation import Explanation
from asdbench.features.mel import hz_to_mel, log_mel
from asdbench.report.figures.style import color, new_figure, parameters
from asdbench.spec import SAMPLE_RATE_HZ, MelSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MEL = MelSpec(n_fft=1024, hop_samples=256, n_mels=96)
_RANGE_DB = 70.0  # of the spectrogram below its maximum
_TICKS_HZ = (125, 250, 500, 1000, 2000, 4000, 8000)
_LEAST_SHOWN = 0.15  # of the largest drop


def explanation_figure(
    clip: NDArray[np.int16], detection: Detection, explanation: Explanation, *, title: str
) -> "Figure":
    """Return the picture of a clip's explanation.

    Parameters
    ----------
    clip : the clip's samples, 16 bits, 16 kHz
    detection, explanation : of this clip
    title : name of the recording
    """
    with parameters():
        figure = new_figure(9.0, 5.4)
        grid = figure.add_gridspec(2, 2, height_ratios=[3, 1.3], width_ratios=[40, 1], hspace=0.0)
        top, bar = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
        bottom = figure.add_subplot(grid[1, 0], sharex=top)
        _draw_spectrogram(top, clip, detection)
        drawn = _draw_drop(top, explanation, detection.start_s)
        figure.colorbar(drawn, cax=bar, label="drop of the score when masked")
        _draw_score(bottom, detection, explanation)
        top.set_title(
            f"{title}: {detection.decision}, score {detection.score:.3g} "
            f"({_threshold_text(detection.threshold)})",
            parse_math=False,  # a file name may have two $
        )
    return figure


def _threshold_text(threshold: float | None) -> str:
    return "no threshold" if threshold is None else f"threshold {threshold:.3g}"


def _draw_spectrogram(axes: "Axes", clip: NDArray[np.int16], detection: Detection) -> None:
    wave = torch.from_numpy(clip.astype(np.float32)).div_(32768)
    mel = log_mel(wave, _MEL).T.numpy()
    end_s = detection.start_s + len(clip) / SAMPLE_RATE_HZ
    times = np.linspace(detection.start_s, end_s, mel.shape[1] + 1)
    top = float(hz_to_mel(np.array(SAMPLE_RATE_HZ / 2)))
    edges = np.linspace(0.5, _MEL.n_mels + 0.5, _MEL.n_mels + 1) / (_MEL.n_mels + 1) * top
    loudest = mel.max()
    axes.pcolormesh(times, edges, mel, cmap="Greys", vmin=loudest - _RANGE_DB, vmax=loudest, rasterized=True)
    axes.set_ylim(0, top)
    axes.set_yticks(hz_to_mel(np.array(_TICKS_HZ, np.float64)), [f"{hz / 1000:g}" for hz in _TICKS_HZ])
    axes.set_ylabel("frequency in kHz")
    axes.tick_params(labelbottom=False)
    axes.set_xlim(detection.start_s, end_s)


def _draw_drop(axes: "Axes", explanation: Explanation, start_s: float) -> Any:
    """Draw the patches that lower the score when masked; the others stay clear."""
    from matplotlib.colors import LinearSegmentedColormap

    largest = max(float(explanation.drop.max()), 1e-12)
    shown = color("anomaly")
    colors = LinearSegmentedColormap.from_list("drop", [(0.0, f"{shown}00"), (1.0, f"{shown}d0")])
    drop = np.where(explanation.drop >= _LEAST_SHOWN * largest, explanation.drop, 0.0)
    return axes.pcolormesh(
        explanation.time_edges_s + start_s,
        hz_to_mel(explanation.band_edges_hz),
        drop,
        cmap=colors,
        vmin=0.0,
        vmax=largest,
        rasterized=True,
    )


def _draw_score(axes: "Axes", detection: Detection, explanation: Explanation) -> None:
    if detection.windows is not None:
        middle = (detection.windows.start_s + detection.windows.end_s) / 2
        axes.plot(middle, detection.windows.score, color=color("series-1"), linewidth=1.0)
        axes.axhline(detection.score, color=color("series-1"), linestyle=":", linewidth=1.0)
        if detection.threshold is not None:
            axes.axhline(detection.threshold, color=color("threshold"), linestyle="--", linewidth=1.0)
            axes.annotate(
                "threshold", (1, detection.threshold), xycoords=("axes fraction", "data"), fontsize=7,
                ha="right", va="bottom", color=color("muted"),
            )  # fmt: skip
        axes.set_ylabel("score of windows")
    else:
        edges = explanation.time_edges_s + detection.start_s
        axes.stairs(explanation.drop_of_times, edges, color=color("series-1"))
        axes.axhline(0.0, color=color("muted"), linewidth=0.8)
        axes.set_ylabel("drop when masked")
    axes.grid(True)
    axes.set_xlabel("time in s")
