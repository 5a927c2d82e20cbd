"""What a process takes of its GPU: read from NVML or nvidia-smi, or not at all."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from asdbench.cluster import gpu_meter
from asdbench.cluster.gpu_meter import GpuMeter, busy_share, from_nvidia_smi
from asdbench.cluster.messages import GpuUse
from asdbench.engine.events import Report, TrainingProgress
from asdbench.engine.runtime import Runtime

CUDA = torch.device("cuda", 0)


def write_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_nvidia_smi_is_asked_for_that_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nvidia_smi(tmp_path, monkeypatch, '[ "$1" = "--id=GPU-7" ] && echo 37')
    assert from_nvidia_smi("GPU-7") == 0.37
    assert from_nvidia_smi("GPU-8") is None


def test_what_nvidia_smi_cannot_tell_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nvidia_smi(tmp_path, monkeypatch, "echo '[N/A]'")
    assert from_nvidia_smi("GPU-7") is None
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert from_nvidia_smi("GPU-7") is None


def test_nvml_is_asked_first_and_nvidia_smi_where_its_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(device: torch.device) -> int:
        raise ModuleNotFoundError("pynvml")

    write_nvidia_smi(tmp_path, monkeypatch, "echo 20")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="7"))
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 50)
    assert busy_share(CUDA) == 0.5
    monkeypatch.setattr(torch.cuda, "utilization", missing)
    assert busy_share(CUDA) == 0.2


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_nothing_is_known() -> None:
    assert busy_share(CUDA) is None


@pytest.fixture
def emptied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A GPU that is played; lists when its cache was emptied and its peak forgotten."""
    calls: list[str] = []
    monkeypatch.setattr(gpu_meter, "_EVERY_S", 0.001)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("empty"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=100))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 60)
    return calls


def test_the_peak_and_the_mean_busy_share_are_measured(
    emptied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = iter([0.2, 0.4])
    monkeypatch.setattr(gpu_meter, "busy_share", lambda device: next(shares, None))
    with GpuMeter(CUDA, 3) as meter:
        meter._thread.join(10)
    assert meter.use == GpuUse(100, 60, pytest.approx(0.3), 3)
    assert emptied == ["empty", "reset", "empty"]


def test_the_memory_that_counts_is_that_of_training(
    emptied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scoring takes half of what is free: after it, no other job would seem to fit on the GPU."""
    reserved, reports = iter([8, 10, 90]), list[Report]()
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: next(reserved))
    monkeypatch.setattr(gpu_meter, "busy_share", lambda device: None)
    with GpuMeter(CUDA, 3) as meter:
        runtime = meter.watched(Runtime(report=reports.append))
        for step in (1, 2):
            runtime.report(TrainingProgress(step, 2, step, {}))
    assert meter.use == GpuUse(100, 10, None, 3)
    assert [type(each) for each in reports] == [TrainingProgress, TrainingProgress]


def test_a_fault_of_cuda_is_not_hidden_by_the_meter(
    emptied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(device: torch.device) -> int:
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setattr(torch.cuda, "max_memory_reserved", broken)
    monkeypatch.setattr(gpu_meter, "busy_share", lambda device: None)
    meter = GpuMeter(CUDA)
    with pytest.raises(ValueError, match="of the training"), meter:
        raise ValueError("of the training")
    assert meter.use is None
