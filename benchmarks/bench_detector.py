"""An exported baseline-mse: speed and memory of a ten-minute stream, and latency of its ONNX network.

The stream consists of noise at 16 kHz in blocks of 0.25 s, cut into clips of 10 s that overlap by half.
Memory is that of the process after the tenth and after the last clip. The ONNX network takes the windows of a
clip of 10 s on one core; the median of 100 runs counts.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from asdbench.data.clip_windows import scoring_batches
from asdbench.data.sets import catalog
from asdbench.driver.export import export_model
from asdbench.engine.detector import Detector
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job
from asdbench.engine.machine_detector import MachineDetector, probe_clip
from asdbench.engine.onnx_network import OnnxNetwork
from asdbench.io.workspace import Workspace
from asdbench.system import UNKNOWN
from asdbench.testing import write_tiny
from asdbench.testing.conformance import run_job

RATE_HZ = 16_000
MINUTES = 10
RUNS = 100


def resident_mb() -> float:
    """Return the memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def exported(folder: Path) -> MachineDetector:
    """Return a detector of clips of 10 s."""
    workspace = Workspace.from_home(folder / "home")
    catalog.add(workspace, "noise", write_tiny(folder / "clips", durations_s=(10.0, 10.0)))
    store = JobStore.from_workspace(workspace)
    done = run_job(Job("baseline-mse", {"epochs": 1}, "noise", "fan", seed=0), workspace, store)
    export_model([done.resolved], store, folder / "detector", onnx=True)
    return Detector.load(folder / "detector").machine()


def stream(detector: MachineDetector) -> None:
    """Print how fast a stream is scored, and its memory."""
    block = np.random.default_rng(0).normal(0, 0.1, (RATE_HZ // 4, 1)).astype(np.float32)
    began, used_mb = time.perf_counter(), []
    for number, _ in enumerate(detector.stream((block for _ in range(MINUTES * 240)), RATE_HZ)):
        if number in (10, 118):
            used_mb.append(resident_mb())
    elapsed_s = time.perf_counter() - began
    print(f"stream: {MINUTES * 60 / elapsed_s:.0f} times real time")
    print(f"memory: {used_mb[0]:.0f} MB after a minute, {used_mb[1] - used_mb[0]:+.1f} MB after nine more")


def network(detector: MachineDetector, folder: Path) -> None:
    """Print the latency of the ONNX network."""
    assert detector.record.network is not None
    run = OnnxNetwork(folder / "detector" / "data" / "detector" / detector.record.network.file)
    (model,) = detector.models
    clip = probe_clip(10 * RATE_HZ)
    (batch,) = scoring_batches([clip], model.input_spec, model.standardization, section=UNKNOWN)
    times_ms = []
    for _ in range(RUNS):
        began = time.perf_counter()
        run(batch.windows.numpy())
        times_ms.append(1000 * (time.perf_counter() - began))
    print(f"ONNX network, clip of 10 s, one core: {statistics.median(times_ms):.1f} ms")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        detector = exported(Path(temporary))
        stream(detector)
        network(detector, Path(temporary))
