"""What a trace of torch's profiler says about a GPU: its idle share, and how often the host waited for it."""

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

_ON_GPU = ("kernel", "gpu_memcpy", "gpu_memset")
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


@dataclass(frozen=True)
class Trace:
    """What a profile shows.

    Attributes
    ----------
    idle_share : of the time from the first GPU work to the end of the last; ``None`` without GPU work
    kernels : number of kernels
    waits : calls of CUDA by which the host waits, by name
    kernel_s : seconds of the longest-running kernels by name
    """

    idle_share: float | None
    kernels: int
    waits: dict[str, int]
    kernel_s: dict[str, float]


def read_trace(events: Iterable[dict[str, object]]) -> Trace:
    """Return what the events of a Chrome trace show; their times are microseconds."""
    work = [event for event in events if event.get("cat") in _ON_GPU]
    spans = sorted((float(event["ts"]), float(event["ts"]) + float(event["dur"])) for event in work)
    kernels = [event for event in work if event["cat"] == "kernel"]
    by_name: dict[str, float] = {}
    for event in kernels:
        by_name[event["name"][:60]] = by_name.get(event["name"][:60], 0.0) + float(event["dur"]) / 1e6
    longest = sorted(by_name, key=by_name.get, reverse=True)[:12]
    waits = {name: sum(event.get("name") == name for event in events) for name in _WAITS}
    return Trace(_idle_share(spans), len(kernels), waits, {name: by_name[name] for name in longest})


def _idle_share(spans: list[tuple[float, float]]) -> float | None:
    """Return the share of the time that no span covers; spans are sorted by their begin."""
    if not spans:
        return None
    busy, until = 0.0, spans[0][0]
    for begin, end in spans:
        busy += max(end - max(begin, until), 0.0)
        until = max(until, end)
    return 1 - busy / (until - spans[0][0])


def new_profiler(*, is_gpu: bool) -> torch.profiler.profile:
    """Return a profiler of the host and, if there is one, the GPU."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if is_gpu:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    return torch.profiler.profile(activities=activities)


def trace_of(profiler: torch.profiler.profile) -> Trace:
    """Return what a stopped profiler has recorded."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        return read_trace(json.loads(file.read_text())["traceEvents"])
