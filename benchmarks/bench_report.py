"""Seconds and megabytes of a report on six systems with two seeds, on seven machine types of 200 test clips.

python benchmarks/bench_report.py

The results are made up (`asdbench.testing.scores`), the recordings are short tones; what the report does with
them is what it does with any.
"""

import tempfile
import time
from pathlib import Path

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.driver.report import ReportRequest, write_report
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny
from asdbench.testing.scores import write_scores

TYPES = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")
SEPARATIONS = {
    "multitask-combined": 1.5,
    "multitask-mel": 1.3,
    "adversarial": 1.1,
    "baseline-maha": 0.8,
    "baseline-mse": 0.7,
    "ensemble": 0.0,  # its scores follow from those of its members
}


def main():
    with tempfile.TemporaryDirectory(prefix="asdbench-benchmark-") as folder:
        workspace = Workspace.from_home(Path(folder) / "home")
        recordings = write_tiny(
            Path(folder) / "recordings",
            machine_types=TYPES,
            source_clips=30,
            test_clips_per_cell=50,
            durations_s=(4.0, 6.0),
        )
        data = catalog.add(workspace, "synthetic", recordings)
        store = JobStore.from_workspace(workspace)
        for name, separation in SEPARATIONS.items():
            configured = registry.configure(name)
            jobs = [
                ResolvedJob.from_configured(configured, data, machine_type, seed=seed)
                for machine_type in TYPES
                for seed in (0, 1)
            ]
            write_scores(jobs, store, separation=separation)
        output = Path(folder) / "report.html"
        wall, cpu = time.perf_counter(), time.process_time()
        write_report(ReportRequest("synthetic", output=output), workspace)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"report: {wall:.1f} s, {cpu:.1f} s of CPU, {output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
