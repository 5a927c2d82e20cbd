"""Recordings for the benchmarks: noise, registered in a temporary data home."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.io.workspace import Workspace


@contextlib.contextmanager
def noise_data(
    *, types: int, training_clips: int, test_clips: int = 0, duration_s: float = 10.0
) -> Iterator[DataSet]:
    """Register white noise in the layout of DCASE 2023 and remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="asdbench-benchmark-") as folder:
        before = os.environ.get("ASDBENCH_HOME")
        os.environ["ASDBENCH_HOME"] = str(Path(folder) / "home")
        generator = np.random.default_rng(0)
        for kind in range(types):
            for split, count in (("train", training_clips), ("test", test_clips)):
                place = Path(folder) / "recordings" / f"type{kind}" / split
                place.mkdir(parents=True)
                for index in range(count):
                    domain = "target" if split == "train" and index < 10 else "source"
                    label = "anomaly" if split == "test" and index % 2 else "normal"
                    noise = generator.integers(-3000, 3000, int(16_000 * duration_s), dtype=np.int16)
                    soundfile.write(
                        place / f"section_00_{domain}_{split}_{label}_{index:04d}_spd_1.wav", noise, 16_000
                    )
        try:
            yield catalog.add(Workspace.from_environment(), "noise", Path(folder) / "recordings")
        finally:
            if before is None:
                del os.environ["ASDBENCH_HOME"]
            else:
                os.environ["ASDBENCH_HOME"] = before
