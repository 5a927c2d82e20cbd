"""The rows of the GPU benchmark. Each is a function that returns figures by their name and unit."""

import copy
import time
from collections.abc import Callable
from functools import cached_property

import torch
from gpu_reference import model_rate, plain_rate
from gpu_sizes import Machine, Sizes
from gpu_training import Meter, flops_of_window, new_system, resolved, stack, training
from torch import Tensor

from asdbench import random_by_row
from asdbench.data.sets.catalog import DataSet
from asdbench.features.mel import log_mel_of_padded
from asdbench.spec import SAMPLE_RATE_HZ, MelSpec

Row = dict[str, object]


class Bench:
    """The data, the machine, and what several rows need."""

    def __init__(self, data: DataSet, sizes: Sizes, machine: Machine) -> None:
        self.data, self.sizes, self.machine = data, sizes, machine

    def seconds(self, work: Callable[[], object]) -> float:
        """Return the seconds of a call, the mean over calls one after another, without the first two."""
        for _ in range(2):
            work()
        self.machine.wait()
        began, calls = time.perf_counter(), 0
        while time.perf_counter() - began < self.sizes.least_s:
            work()
            calls += 1
            if calls % 8 == 0 or not self.machine.is_gpu:
                self.machine.wait()
        self.machine.wait()
        return (time.perf_counter() - began) / calls

    @cached_property
    def meter(self) -> Meter:
        """A training, measured."""
        return training(self.data, self.sizes, self.machine)

    @cached_property
    def attainable_flops(self) -> float:
        """Floating-point operations per second of a product of large matrices in bfloat16."""
        size = self.sizes.matrix
        matrix = torch.randn(size, size, device=self.machine.device, dtype=torch.bfloat16)
        return 2 * size**3 / self.seconds(lambda: matrix @ matrix)

    @cached_property
    def clips(self) -> Tensor:
        """Noise as recorded, Short[Tensor, "clip sample"]."""
        samples = int(SAMPLE_RATE_HZ * self.sizes.duration_s)
        generator = torch.Generator().manual_seed(0)
        return torch.randint(-3000, 3000, (64, samples), generator=generator, dtype=torch.int16)


def equal_numbers(bench: Bench) -> Row:
    """Whether random numbers by row are equal to the bit on the CPU and on the device."""
    keys = random_by_row.row_keys(0, 0, 64)
    there = keys.to(bench.machine.device)
    return {
        "uniform": torch.equal(*(random_by_row.uniform(k, 999, draw="a").cpu() for k in (keys, there))),
        "normal": torch.equal(*(random_by_row.normal(k, 999, draw="b").cpu() for k in (keys, there))),
        "integers": torch.equal(
            *(random_by_row.integers(k, 999, high=1000, draw="c").cpu() for k in (keys, there))
        ),
    }


def log_mel(bench: Bench) -> Row:
    """Log-mel of clips of 10 s that are on the device."""
    samples = torch.randn(bench.sizes.mel_clips, 10 * SAMPLE_RATE_HZ, device=bench.machine.device) * 0.1
    spec = MelSpec()
    return {"clips/s": len(samples) / bench.seconds(lambda: log_mel_of_padded(samples, spec)), "bar": 20_000}


def transforms(bench: Bench) -> Row:
    """All eight transforms, log-mel and standardization of batches whose raw form is on the device."""
    data = resolved(bench.data, bench.sizes, steps=2).clips
    preparation = copy.deepcopy(data.preparation).to(bench.machine.device)
    raws = [data.raw_batch(step).to(bench.machine.device) for step in range(4)]
    if preparation(raws[0]).augmentation is None:
        raise RuntimeError("the preparation of batches applies no transforms")
    turn = iter(range(1 << 62))
    seconds = bench.seconds(lambda: preparation(raws[next(turn) % len(raws)]))
    return {"windows/s": bench.sizes.batch / seconds, "bar": 100_000}


def raw_batches(bench: Bench) -> Row:
    """The host's part of a batch, on one thread: what loading threads have to do."""
    data = resolved(bench.data, bench.sizes, steps=2).clips
    turn = iter(range(1 << 62))
    return {"windows/s": bench.sizes.batch / bench.seconds(lambda: data.raw_batch(next(turn)))}


def training_rate(bench: Bench) -> Row:
    """Training of one job in bfloat16, with loading, transforms and log-mel; floating-point operations."""
    rate = bench.sizes.batch * bench.meter.steps_per_s
    flops = flops_of_window(bench.data, bench.sizes, bench.machine)
    return {
        "windows/s": rate,
        "bar": 25_000,
        "GFLOP of a window": flops / 1e9,
        "achieved TFLOP/s": rate * flops / 1e12,
        "attainable TFLOP/s, product of large bfloat16 matrices": bench.attainable_flops / 1e12,
        "model FLOP utilization": rate * flops / bench.attainable_flops,
    }


def plain_loop(bench: Bench) -> Row:
    """The plain PyTorch loop, and its model alone on one batch again and again."""
    job = resolved(bench.data, bench.sizes, steps=2)
    rate, workers = plain_rate(new_system(job, bench.machine), bench.clips, bench.sizes, bench.machine)
    ours = bench.sizes.batch * bench.meter.steps_per_s
    alone = model_rate(new_system(job, bench.machine), bench.clips, bench.sizes, bench.machine)
    return {
        "windows/s": rate,
        "workers": workers,
        "ours over it": ours / rate,
        "windows/s without loading": alone,
        "ours over it without loading": ours / alone,
    }


def profile(bench: Bench) -> Row:
    """Idle share of the GPU during training, and how often the host waited for it."""
    meter = bench.meter
    if meter.trace is None or meter.trace.idle_share is None:
        return {"not measured": "the profile shows no work of a GPU"}
    return {
        "idle share": meter.trace.idle_share,
        "bar": 0.1,
        "steps": meter.profiled[1] - meter.profiled[0],
        "reads of the losses": meter.points,
        "waits": meter.trace.waits,
        "kernels": meter.trace.kernels,
        "longest kernels, s": meter.trace.kernel_s,
    }


def stacked_jobs(bench: Bench) -> Row:
    """All machine types and seeds as one stack; the preset's time is extrapolated from a shorter run."""
    sizes = bench.sizes
    seconds, meter = stack(bench.data, sizes, bench.machine)
    jobs, left = sizes.types * sizes.seeds, sizes.report_steps - sizes.stack_steps
    rate, alone = jobs * sizes.batch * meter.steps_per_s, sizes.batch * bench.meter.steps_per_s
    return {
        "jobs": jobs,
        "steps": sizes.stack_steps,
        "seconds, with scoring": seconds,
        "windows/s": rate,
        "over one job alone": rate / alone,
        f"extrapolated minutes of {sizes.report_steps} steps": (seconds + left / meter.steps_per_s) / 60,
        "bar": 10,
    }


ROWS: dict[str, Callable[[Bench], Row]] = {
    "random numbers by row, equal on CPU and device": equal_numbers,
    "log-mel of clips of 10 s": log_mel,
    "raw batches, on the host": raw_batches,
    "all transforms, batch 128": transforms,
    "multitask-mel training, batch 128, bfloat16": training_rate,
    "profile of the training": profile,
    "plain PyTorch loop of the same model": plain_loop,
    "report preset, 7 types x 5 seeds": stacked_jobs,
}
