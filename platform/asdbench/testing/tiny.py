"""A data set of a few short clips in the layout of DCASE 2023 Task 2, for tests.

Every clip is a tone with one overtone in white noise. The machine type and the attribute ``spd`` set its
pitch, the target domain has more noise, an anomaly has a detuned overtone. Equal arguments give equal
samples.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from asdbench.spec import SAMPLE_RATE_HZ

MACHINE_TYPES = ("fan", "valve")

_SPEEDS = ("1", "2", "3")
_TEST_CELLS = [(domain, label) for domain in ("source", "target") for label in ("normal", "anomaly")]


def write_tiny(
    folder: Path,
    *,
    seed: int = 0,
    machine_types: Sequence[str] = MACHINE_TYPES,
    source_clips: int = 21,
    target_clips: int = 3,
    test_clips_per_cell: int = 2,
    durations_s: tuple[float, float] = (0.6, 1.5),
    supplemental_clips: int = 0,
    channels: int = 1,
) -> Path:
    """Write the clips and ``attributes_00.csv`` of each machine type under ``folder`` and return it.

    Parameters
    ----------
    folder
        Folder to write to; created if it does not exist.
    seed
        Seed of durations, phases and noise.
    machine_types
        Names of the machine types.
    source_clips, target_clips
        Number of training clips of each domain per machine type.
    test_clips_per_cell
        Number of test clips in each of the four cells {source, target} x {normal, anomaly}.
    durations_s
        Shortest and longest duration of a clip.
    supplemental_clips
        Number of clips of noise alone per machine type, in a folder ``supplemental``.
    channels
        2 for a near and a far microphone; the far one has half of the tone and noise of its own.
    """
    for index, machine_type in enumerate(machine_types):
        generator = np.random.default_rng([seed, index])
        cells = [("train", "source", "normal", source_clips), ("train", "target", "normal", target_clips)]
        cells += [("test", domain, label, test_clips_per_cell) for domain, label in _TEST_CELLS]
        rows = []
        for split, domain, label, clips in cells:
            (folder / machine_type / split).mkdir(parents=True, exist_ok=True)
            for number in range(clips):
                speed = number % len(_SPEEDS)
                mic = "AB"[number % 2]
                stem = f"section_00_{domain}_{split}_{label}_{number:04d}_spd_{_SPEEDS[speed]}_mic_{mic}"
                path = f"{machine_type}/{split}/{stem}.wav"
                rows.append([path, "spd", _SPEEDS[speed], "mic", mic])
                wave = tone(
                    generator,
                    pitch_hz=300.0 * (1 + index) * (1 + 0.2 * speed),
                    overtone=2.7 if label == "anomaly" else 2.0,
                    noise=0.05 if domain == "target" else 0.02,
                    duration_s=generator.uniform(*durations_s),
                )
                soundfile.write(
                    folder / path, _pair(wave, generator, channels), SAMPLE_RATE_HZ, subtype="PCM_16"
                )
        for number in range(supplemental_clips):
            path = f"{machine_type}/supplemental/section_00_noise_{number:04d}.wav"
            (folder / machine_type / "supplemental").mkdir(exist_ok=True)
            noise = generator.normal(0.0, 0.02, round(generator.uniform(*durations_s) * SAMPLE_RATE_HZ))
            soundfile.write(
                folder / path, _pair(noise, generator, channels), SAMPLE_RATE_HZ, subtype="PCM_16"
            )
        with (folder / machine_type / "attributes_00.csv").open("w", encoding="utf-8", newline="") as table:
            csv.writer(table).writerows([["file_name", "d1p", "d1v", "d2p", "d2v"], *rows])
    return folder


def _pair(wave: NDArray[np.float64], generator: np.random.Generator, channels: int) -> NDArray[np.float64]:
    """Return the samples of one microphone, or of a near and a far one, shape (sample, 2)."""
    if channels == 1:
        return wave
    return np.stack([wave, 0.5 * wave + generator.normal(0.0, 0.02, len(wave))], axis=1)


def tone(
    generator: np.random.Generator, *, pitch_hz: float, overtone: float, noise: float, duration_s: float
) -> NDArray[np.float64]:
    """Return the samples of a clip, shape (sample,), between -1 and 1."""
    time_s = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    phases = generator.uniform(0, 2 * np.pi, 2)
    tone = np.sin(2 * np.pi * pitch_hz * time_s + phases[0])
    tone += 0.5 * np.sin(2 * np.pi * overtone * pitch_hz * time_s + phases[1])
    wave: NDArray[np.float64] = 0.3 * tone + generator.normal(0.0, noise, len(time_s))
    return np.clip(wave, -1.0, 1.0)
