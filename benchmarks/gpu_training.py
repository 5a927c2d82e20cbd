"""Rows of the GPU benchmark that train ``multitask-mel``: alone, in a stack, and as a plain loop."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from gpu_profile import Trace, new_profiler, trace_of
from gpu_sizes import Machine, Sizes
from torch.utils.flop_counter import FlopCounterMode

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.events import TrainingProgress
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, TrainingTask
from asdbench.engine.runtime import Runtime
from asdbench.engine.training import train
from asdbench.io.storage import Storage
from asdbench.system import System


@dataclass
class Meter:
    """Receives the reports of a training: times its middle part and profiles what comes after.

    Attributes
    ----------
    sizes, machine : what is measured, and where
    marks : steps done and the time, at reports after the warm-up and before the profile
    profiled : steps done at the first and at the last report of the profile
    points : reports during the profile; at each the host reads the losses
    trace : what the profile shows
    """

    sizes: Sizes
    machine: Machine
    marks: list[tuple[int, float]] = field(default_factory=list)
    profiled: list[int] = field(default_factory=list)
    points: int = 0
    trace: Trace | None = None
    _profiler: torch.profiler.profile | None = None

    def __call__(self, report: object) -> None:
        """Take note of a report of progress."""
        if not isinstance(report, TrainingProgress):
            return
        if report.step >= self.sizes.warm and self._profiler is None:
            self.machine.wait()
            self.marks.append((report.step, time.perf_counter()))
        if report.step >= self.sizes.warm + self.sizes.measured:
            self._profile(report.step)

    def _profile(self, step: int) -> None:
        if self._profiler is None:
            self._profiler = new_profiler(is_gpu=self.machine.is_gpu)
            self._profiler.start()
            self.profiled = [step]
        elif self.trace is None:
            self.points += 1
            if step >= self.profiled[0] + self.sizes.profiled:
                self.machine.wait()
                self._profiler.stop()
                self.trace = trace_of(self._profiler)
                self.profiled.append(step)

    @property
    def steps_per_s(self) -> float:
        """Steps per second between the first and the last mark."""
        (first, began), (last, ended) = self.marks[0], self.marks[-1]
        return (last - first) / (ended - began)


def resolved(
    data: DataSet, sizes: Sizes, *, steps: int, machine_type: str = "type0", seed: int = 0
) -> ResolvedJob:
    """Return a job of ``multitask-mel`` of so many steps."""
    settings = {**sizes.settings, "steps": steps}
    return ResolvedJob.from_job(Job("multitask-mel", settings, data.name, machine_type, seed), data)


def new_system(job: ResolvedJob, machine: Machine) -> System:
    """Return the job's untrained system on the device."""
    torch.manual_seed(0)
    return job.build_trained(job.clips.facts).to(machine.device)


def training(data: DataSet, sizes: Sizes, machine: Machine) -> Meter:
    """Train by the platform's loop; return what was measured."""
    job = resolved(data, sizes, steps=sizes.warm + sizes.measured + 4 * sizes.profiled)
    meter = Meter(sizes, machine)
    train(new_system(job, machine), job.clips, Runtime(device=machine.device, report=meter), seed=0)
    return meter


def flops_of_window(data: DataSet, sizes: Sizes, machine: Machine) -> float:
    """Return the floating-point operations of a training step, forward and backward, for each window."""
    job = resolved(data, sizes, steps=2)
    system, batch = new_system(job, machine).train(), job.clips.batch(0).to(machine.device)
    with FlopCounterMode(display=False) as counter:
        losses = system(batch, "all", torch.zeros((), device=machine.device))
        sum(part.sum for part in losses.parts.values()).backward()
    return counter.get_total_flops() / len(batch.windows)


def stack_seconds(data: DataSet, sizes: Sizes, machine: Machine, *, steps: int) -> float:
    """Train and score all machine types and seeds together; return the seconds."""
    from asdbench.engine.stacks import run_stack

    tasks = [
        TrainingTask((resolved(data, sizes, steps=steps, machine_type=f"type{kind}", seed=seed),))
        for kind in range(sizes.types)
        for seed in range(sizes.seeds)
    ]
    runtimes = [Runtime(device=machine.device) for _ in tasks]
    with tempfile.TemporaryDirectory() as folder:
        store = JobStore(Storage.from_location(Path(folder)))
        began = time.perf_counter()
        outcomes = run_stack(tasks, runtimes, store, checkpoint_epochs=5, workspaces=[])
        machine.wait()
        seconds = time.perf_counter() - began
    _check(outcomes)
    return seconds


def _check(outcomes: Sequence[object]) -> None:
    """Raise the first error of a stack's jobs."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
        for _, error in outcome:
            raise error
