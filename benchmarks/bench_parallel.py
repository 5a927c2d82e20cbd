"""What a data-parallel training step sends, and how much of it while the backward pass computes.

Two processes on this machine, one thread each, share the batches of a system over gloo. ``plain`` is the
straightforward way, in the same run and in turn: torch's DDP with its defaults, which looks for unused
parameters in each step and reduces all gradients in each update, and a batch norm of two sums forward and two
backward. ``asdbench`` is what the training loop does. torch.profiler records every collective of rank 0; its
time is overlapped while this process computes something. Bytes are those of float32 values. Times are the
fastest of three rounds'.

    python benchmarks/bench_parallel.py [--system adversarial] [--steps 6] [--json FILE]
"""

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from synthetic import noise_data
from torch import nn
from torch.profiler import ProfilerActivity, profile

from asdbench.engine.distributed import Distributed
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.runtime import Runtime
from asdbench.engine.training_step import TrainingStep, take_step
from asdbench.io.workspace import Workspace

WINDOWS, WARM_UP, SIZE, ROUNDS = 16, 2, 2, 3
SETTINGS = {
    "multitask-mel": {"batch_size": WINDOWS, "precision": "float32", "time_stride": 8},
    "adversarial": {"batch_size": WINDOWS, "precision": "float32"},
}


class PlainSum(torch.autograd.Function):
    """Sum over the processes; so is the gradient."""

    @staticmethod
    def forward(ctx, values):
        """Sum values."""
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx, gradient):
        """Sum gradients."""
        summed = gradient.clone()
        dist.all_reduce(summed)
        return summed


class PlainBatchNorm(nn.Module):
    """Batch norm over processes by a sum for the mean, then one for the variance."""

    def __init__(self, like):
        super().__init__()
        self.weight, self.bias, self.eps = like.weight, like.bias, like.eps

    def forward(self, rows):
        """Normalize rows."""
        axes = [axis for axis in range(rows.dim()) if axis != 1]
        shape = [1, -1] + [1] * (rows.dim() - 2)
        count = rows.new_tensor([float(rows.numel() // rows.shape[1])])
        summed = PlainSum.apply(torch.cat([rows.sum(axes), count]))
        centered = rows - (summed[:-1] / summed[-1]).view(shape)
        variance = PlainSum.apply(centered.square().sum(axes)) / summed[-1]
        normal = centered * torch.rsqrt(variance + self.eps).view(shape)
        return normal * self.weight.view(shape) + self.bias.view(shape)


def plain(system):
    """Return the system in DDP as one would write it."""
    for name, module in list(system.named_modules()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            parent, _, child = name.rpartition(".")
            setattr(system.get_submodule(parent), child, PlainBatchNorm(module))
    return nn.parallel.DistributedDataParallel(system, find_unused_parameters=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", choices=SETTINGS, default="multitask-mel")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with noise_data(types=2, training_clips=40) as data, tempfile.TemporaryDirectory() as folder:
        resolved(data.name, chosen.system).clips.batch(0)  # builds the features
        context = multiprocessing.get_context("spawn")
        members = [
            context.Process(target=take_part, args=(rank, data.name, chosen.system, chosen.steps, folder))
            for rank in range(SIZE)
        ]
        for member in members:
            member.start()
        for member in members:
            member.join()
        rows = json.loads((Path(folder) / "rows.json").read_text())
    print(f"{chosen.system}, {WINDOWS} rows over {SIZE} processes; for each step:")
    for name, row in rows.items():
        print(
            f"{name:9} {row['collectives']:6.1f} collectives {row['megabytes']:7.2f} MB "
            f"{row['collective_ms']:7.1f} ms in them, {row['overlapped']:4.0%} overlapped; "
            f"step {row['step_ms']:7.1f} ms"
        )
    ratio = rows["plain"]["step_ms"] / rows["asdbench"]["step_ms"]
    print(f"asdbench takes steps {ratio:.2f} times as fast as plain")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows | {"ratio": ratio}, indent=1))


def take_part(rank, data, system, steps, folder):
    """Profile both ways as one of the processes; rank 0 writes the rows."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=SIZE)
    runtime = Runtime(rank=rank, size=SIZE)
    rows = {}
    for _ in range(ROUNDS):  # in turn, since the machine may have other work
        for name in ("plain", "asdbench"):
            row = measured(name, data, system, steps, runtime)
            rows[name] = min(row, rows.get(name, row), key=lambda each: each["step_ms"])
    if rank == 0:
        (Path(folder) / "rows.json").write_text(json.dumps(rows))
    dist.destroy_process_group()


def measured(name, data, system, steps, runtime):
    """Return what a step of the system's last stage takes and sends, by the profile of this process."""
    job = resolved(data, system)
    trained = job.build_trained(job.clips.facts).train()
    stage = trained.stages(job.clips.steps_per_epoch)[-1]
    clips = job.clips.with_plan(stage.plan)
    if name == "plain":
        models = [plain(trained)] * len(stage.updates)
    else:
        models = Distributed(trained, runtime, rows=clips.plan.size).of(stage)
    batches = [clips.batch(step, rank=runtime.rank, size=runtime.size) for step in range(WARM_UP + steps)]
    length = len(batches)

    def take(step):
        take_step(trained, models, TrainingStep(stage, batches[step], step, length, step), runtime)

    for step in range(WARM_UP):
        take(step)
    dist.barrier()
    began = time.perf_counter()
    for step in range(WARM_UP, length):
        take(step)
    step_s = (time.perf_counter() - began) / steps
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        for step in range(WARM_UP, length):
            take(step)
    return {"step_ms": 1e3 * step_s} | sent(profiled.events(), steps)


def sent(events, steps):
    """Return the collectives of a step, their bytes and time, and the share in which this one computes."""
    collectives = [event for event in events if event.name.startswith("gloo:")]
    computing = merged(span(event) for event in events if event.name.startswith("aten::"))
    total = sum(end - start for start, end in map(span, collectives))
    hidden = sum(
        max(0.0, min(end, stop) - max(start, since))
        for start, end in map(span, collectives)
        for since, stop in computing
    )
    values = sum(math.prod(shape) for event in collectives for shape in event.input_shapes)
    return {
        "collectives": len(collectives) / steps,
        "megabytes": 4 * values / steps / 1e6,
        "collective_ms": total / steps / 1e3,
        "overlapped": hidden / total,
    }


def span(event):
    return event.time_range.start, event.time_range.end


def merged(spans):
    """Return the union of spans as spans that do not overlap."""
    union = []
    for start, end in sorted(spans):
        if union and start <= union[-1][1]:
            union[-1] = union[-1][0], max(union[-1][1], end)
        else:
            union.append((start, end))
    return union


def resolved(data, system):
    return ResolvedJob.from_workspace(
        Job(system, SETTINGS[system], data, "type0", 0), Workspace.from_environment()
    )


if __name__ == "__main__":
    main()
