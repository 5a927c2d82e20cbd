"""A system that was trained on the tiny data set and exported."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import soundfile
from numpy.typing import NDArray

from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.driver.export import export_model
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny
from asdbench.testing.conformance import FinishedJob, run_job
from asdbench.testing.tiny import MACHINE_TYPES

AUTOENCODER = {"epochs": 2, "hidden": 16, "n_mels": 32}
DISCRIMINATOR = {"cvae_steps": 2, "adversarial_steps": 2, "batch_size": 8}


@dataclass(frozen=True)
class Exported:
    """An export, and the jobs that it is of."""

    folder: Path
    finished: dict[str, FinishedJob]

    @property
    def data(self) -> DataSet:
        return next(iter(self.finished.values())).resolved.data

    def test_clips(self, machine_type: str) -> pl.DataFrame:
        """Return the stored ``score`` of the test clips of a machine type, with the columns of clips."""
        fused = self.finished[machine_type].fused.filter(pl.col("use") == "test")
        return fused.join(self.data.clips, on="clip_id").sort("clip_id")

    def test_file(self, machine_type: str, *, place: int = 0) -> Path:
        return self.data.root / str(self.test_clips(machine_type)["path"][place])

    def recording(self, machine_type: str, *, place: int = 0) -> NDArray[np.float32]:
        samples: NDArray[np.float32] = soundfile.read(
            self.test_file(machine_type, place=place), dtype="float32"
        )[0]
        return samples


def tiny_workspace(folder: Path) -> Workspace:
    """Return a workspace with the tiny data set."""
    workspace = Workspace.from_home(folder / "home")
    catalog.add(workspace, "tiny", write_tiny(folder / "clips"))
    return workspace


def export_tiny(
    workspace: Workspace, folder: Path, system: str, settings: dict[str, object], *machine_types: str
) -> Exported:
    """Train a system on machine types of the tiny data set and export it."""
    store = JobStore.from_workspace(workspace)
    finished = {
        name: run_job(Job(system, settings, "tiny", name, seed=0), workspace, store)  # type: ignore[arg-type]
        for name in machine_types or MACHINE_TYPES
    }
    export_model([job.resolved for job in finished.values()], store, folder)
    return Exported(folder, finished)
