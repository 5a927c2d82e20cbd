"""The test clips that a system gets most wrong, with their sound."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from asdbench.data.sets.catalog import DataSet
from asdbench.report.row_scores import TypeScores
from asdbench.spec import SAMPLE_RATE_HZ, MelSpec

_MELS = MelSpec(hop_samples=512, n_mels=64)
_MOST_S = 12.0  # of a clip that are shown and heard


@dataclass(frozen=True)
class ClipError:
    """A test clip with a wrong decision.

    Attributes
    ----------
    machine_type, path, domain : of the clip; ``domain`` is None where the data set has none
    attributes : of the clip, as people read them
    is_anomaly : whether it is a missed anomaly; else it is a false alarm
    score, threshold : its score, and the score above which a clip is called anomalous
    distance : of the score from the threshold, in standard deviations of the scores of normal clips
    """

    machine_type: str
    path: str
    domain: str | None
    attributes: str
    is_anomaly: bool
    score: float
    threshold: float
    distance: float


@dataclass(frozen=True, eq=False)
class ClipSound:
    """What a page shows of a clip: a spectrogram, and its sound as MP3.

    Attributes
    ----------
    mels : shape (frame, mel), in dB
    shown_s, duration_s : length of what is shown, and of the clip
    mp3 : the sound, compressed
    """

    mels: npt.NDArray[np.float32]
    shown_s: float
    duration_s: float
    mp3: bytes


def worst_errors(types: Sequence[TypeScores], *, per_type: int = 1) -> list[ClipError]:
    """Return the false alarms and missed anomalies of the first seed that are farthest from the threshold.

    Parameters
    ----------
    types
        The scores of a row of the leaderboard.
    per_type
        Number of false alarms, and of missed anomalies, of each machine type that has a threshold.

    Returns
    -------
    list of ClipError
        False alarms first, each kind with the farthest from the threshold first.
    """
    errors = []
    for of_type in types:
        if not of_type.has_thresholds:
            continue
        normal = of_type.scores[0][~of_type.anomalous]
        scale = float(normal.std()) or 1.0
        distance = (of_type.scores[0] - of_type.thresholds[0]) / scale
        for is_anomaly in (False, True):
            wrong = np.flatnonzero((of_type.anomalous == is_anomaly) & (of_type.decided[0] != is_anomaly))
            farthest = wrong[np.argsort(-np.abs(distance[wrong]), kind="stable")][:per_type]
            errors += [_error(of_type, int(place), float(abs(distance[place]))) for place in farthest]
    return sorted(errors, key=lambda error: (error.is_anomaly, -error.distance))


def _error(of_type: TypeScores, place: int, distance: float) -> ClipError:
    clip = of_type.clips.row(place, named=True)
    attributes = clip.get("attributes")
    return ClipError(
        of_type.machine_type,
        clip["path"],
        clip["domain"],
        _described(attributes),
        bool(clip["anomaly"]),
        float(of_type.scores[0][place]),
        float(of_type.thresholds[0]),
        distance,
    )


def _described(attributes: object) -> str:
    if not isinstance(attributes, list):
        return ""
    return ", ".join(f"{pair['name']} {pair['value']}" for pair in attributes)


def clip_sound(error: ClipError, data: DataSet) -> ClipSound:
    """Return the spectrogram and the sound of a clip, at most its first 12 s.

    Raises :class:`asdbench.errors.InputError` if the recording can no longer be read.
    """
    import torch

    from asdbench.data.audio import read_clip
    from asdbench.features.mel import log_mel

    samples = read_clip(
        Path(data.root) / error.path, channels="near" if data.channels == "both" else data.channels
    )
    shown = samples[: int(_MOST_S * SAMPLE_RATE_HZ)]
    wave = torch.from_numpy(shown.astype(np.float32) / 2**15)
    mels = log_mel(wave, _MELS).numpy()
    return ClipSound(mels, len(shown) / SAMPLE_RATE_HZ, len(samples) / SAMPLE_RATE_HZ, _mp3(wave.numpy()))


def _mp3(wave: npt.NDArray[np.float32]) -> bytes:
    import soundfile

    peak = float(np.abs(wave).max())
    content = io.BytesIO()
    loud = wave * (0.9 / peak) if peak > 0 else wave
    soundfile.write(content, loud, SAMPLE_RATE_HZ, format="MP3", subtype="MPEG_LAYER_III")
    return content.getvalue()
