"""Measures what a process takes of its GPU: memory, and how busy the GPU is."""

import contextlib
import subprocess
import threading
from dataclasses import replace
from types import TracebackType
from typing import Self

import torch

from asdbench.cluster.messages import GpuUse
from asdbench.engine.events import Report, TrainingProgress
from asdbench.engine.runtime import Runtime

_EVERY_S = 2.0


class GpuMeter:
    """Measures while its context is open; what torch has cached on the GPU is given back before and after.

    Scoring takes as much memory as there is. What counts is what trainings take, where there are any.

    Parameters
    ----------
    device : of the jobs
    jobs : how many of them run at a time

    Attributes
    ----------
    use : what was measured; ``None`` before the end, and without a GPU

    Examples
    --------
    >>> with GpuMeter(torch.device("cpu")) as meter:
    ...     pass
    >>> meter.use is None
    True
    """

    def __init__(self, device: torch.device, jobs: int = 1) -> None:
        self.use: GpuUse | None = None
        self._device = device
        self._jobs = jobs
        self._training_peak = 0
        self._over = threading.Event()
        self._seen: list[float] = []
        self._thread = threading.Thread(target=self._watch, name="GPU meter", daemon=True)

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._device.type != "cuda":
            return
        self._over.set()
        self._thread.join()
        with contextlib.suppress(RuntimeError):  # CUDA may be what has failed
            self.use = self._measured()
            torch.cuda.empty_cache()  # for other processes; this one may idle for long

    def watched(self, runtime: Runtime) -> Runtime:
        """Return a runtime whose reports of training steps tell what trainings take."""

        def report(event: Report) -> None:
            if self._device.type == "cuda" and isinstance(event, TrainingProgress):
                self._training_peak = max(self._training_peak, torch.cuda.max_memory_reserved(self._device))
            runtime.report(event)

        return replace(runtime, report=report)

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            busy = busy_share(self._device)
            if busy is None:
                return
            self._seen.append(busy)

    def _measured(self) -> GpuUse:
        total = torch.cuda.get_device_properties(self._device).total_memory
        # what it reserved, not what it allocated: other processes get none of it
        peak = self._training_peak or torch.cuda.max_memory_reserved(self._device)
        return GpuUse(total, peak, mean_of(self._seen), self._jobs)


def mean_of(shares: list[float]) -> float | None:
    """Return the mean, ``None`` of nothing.

    >>> mean_of([0.25, 0.75]), mean_of([])
    (0.5, None)
    """
    return sum(shares) / len(shares) if shares else None


def busy_share(device: torch.device) -> float | None:
    """Return in which share of the last moment a GPU computed, for whatever process.

    Returns
    -------
    float or None
        Between 0 and 1, from NVML or, without its Python package, from ``nvidia-smi``; ``None`` where neither
        tells.
    """
    with contextlib.suppress(ImportError, RuntimeError, OSError):
        return torch.cuda.utilization(device) / 100
    with contextlib.suppress(RuntimeError, AssertionError, AttributeError):
        return from_nvidia_smi(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    return None


def from_nvidia_smi(gpu: str) -> float | None:
    """Return the busy share of the GPU with this id as ``nvidia-smi`` tells it, ``None`` if it does not."""
    command = ["nvidia-smi", f"--id={gpu}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        return float(said) / 100
    return None
