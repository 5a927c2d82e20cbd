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
from asdbench.engine.stacks import run_stack
from asdbench.engine.training import train
from asdbench.io.storage import Storage
from asdbench.system import System


@dataclass
class Meter:
    """Receives the reports of a training: times its middle part and profiles what comes after.

    Attributes
    ----------
    machine : where it is measured
    warm : steps that do not count
    profile_from, profile_steps : step at which the profile begins, and its length; ``None``: no profile
    marks : steps done and the time, at reports after the warm-up and before the profile
    profiled : steps done at the first and at the last report of the profile
    points : reports during the profile; at each the host reads the losses
    trace : what the profile shows
    """

    machine: Machine
    warm: int
    profile_from: int | None = None
    profile_steps: int = 0
    marks: list[tuple[int, float]] = field(default_factory=list)
    profiled: list[int] = field(default_factory=list)
    points: int = 0
    trace: Trace | None = None
    _profiler: torch.profiler.profile | None = None

    def __call__(self, report: object) -> None:
        """Take note of a report of progress."""
        if not isinstance(report, TrainingProgress):
            return
        if report.step >= self.warm and self._profiler is None:
            self.machine.wait()
            self.marks.append((report.step, time.perf_counter()))
        if self.profile_from is not None and report.step >= self.profile_from:
            self._profile(report.step)

    def _profile(self, step: int) -> None:
        if self._profiler is None:
            self._profiler = new_profiler(is_gpu=self.machine.is_gpu)
            self._profiler.start()
            self.profiled = [step]
        elif self.trace is None:
            self.points += 1
            if step >= self.profiled[0] + self.profile_steps:
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
    meter = Meter(machine, sizes.warm, sizes.warm + sizes.measured, sizes.profiled)
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


def stack(data: DataSet, sizes: Sizes, machine: Machine) -> tuple[float, Meter]:
    """Train and score all machine types and seeds together; return the seconds, and the first job's meter."""
    tasks = [
        TrainingTask((resolved(data, sizes, steps=sizes.stack_steps, machine_type=f"type{kind}", seed=seed),))
        for kind in range(sizes.types)
        for seed in range(sizes.seeds)
    ]
    meter = Meter(machine, sizes.stack_warm)
    runtimes = [Runtime(device=machine.device, report=meter)]
    runtimes += [Runtime(device=machine.device) for _ in tasks[1:]]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        _check(run_stack(tasks, runtimes, JobStore(Storage.from_location(Path(folder)))))
        machine.wait()
    return time.perf_counter() - began, meter


def _check(outcomes: Sequence[object]) -> None:
    """Raise the first error of a stack's jobs."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
        for _, error in outcome:
            raise error
