"""Notes on clips that look wrong: one for each kind, with counts and three examples."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from asdbench.data.sets import catalog
from asdbench.data.sets.recording_notes import duration_notes, signal_notes
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny


def test_a_fault_of_many_clips_is_one_note() -> None:
    rows = [
        (f"{kind}/{n:03d}.wav", kind, "clipped")
        for kind, count in (("fan", 9), ("pump", 90))
        for n in range(count)
    ]
    rows += [("fan/a.wav", "fan", "offset"), ("fan/b.wav", "fan", None)]
    assert signal_notes(pl.DataFrame(rows, schema=["path", "machine_type", "fault"], orient="row")) == [
        "99 of 101 clips are clipped (one in a thousand samples or more is at full scale) [pump 90, fan 9]: "
        "fan/000.wav, fan/001.wav, fan/002.wav, and 96 more",
        "1 of 101 clips is offset (their mean is more than a tenth of full scale): fan/a.wav",
    ]


def test_durations_are_compared_with_those_of_the_machine_type() -> None:
    durations = {"fan": [10.0] * 8 + [2.4, 41.0, 3.0], "valve": [1.0] * 8 + [0.3]}
    rows = [
        (f"{kind}/{n}.wav", kind, of) for kind, values in durations.items() for n, of in enumerate(values)
    ]
    assert duration_notes(
        pl.DataFrame(rows, schema=["path", "machine_type", "duration_s"], orient="row")
    ) == [
        "1 of 20 clips is less than 1/4 as long as the median clip of their machine type: fan/8.wav (2.4 s)",
        "1 of 20 clips is more than 4 times as long as the median clip of their machine type: "
        "fan/9.wav (41.0 s)",
    ]


@pytest.mark.parametrize("is_repeated", [False, True])
def test_a_registration_notes_what_looks_wrong(tmp_path: Path, is_repeated: bool) -> None:
    folder = write_tiny(tmp_path / "recordings", machine_types=("fan",))
    workspace = Workspace.from_home(tmp_path / "home")
    assert catalog.add(workspace, "mine", folder).notes == ()
    silent, short = sorted((folder / "fan" / "train").glob("*.wav"))[:2]
    soundfile.write(silent, np.zeros(16_000, np.int16), 16_000)
    wave = np.random.default_rng(0).integers(-999, 999, 900, dtype=np.int16)
    soundfile.write(short, wave, 16_000)
    data = catalog.add(workspace, "mine", folder)
    if is_repeated:  # nothing is decoded
        data = catalog.add(workspace, "mine", folder)
    assert data.notes == (
        f"1 of 32 clips is silent (all samples are zero): fan/train/{silent.name}",
        "1 of 32 clips is less than 1/4 as long as the median clip of their machine type: "
        f"fan/train/{short.name} (0.06 s)",
    )
