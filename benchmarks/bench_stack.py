"""Training steps of five seeds as one stacked model, relative to the same steps one after another.

One machine type of 100 training clips of 10 s (noise). Steps of both kinds alternate within one run; batches
are made before and are not counted. Reported is the ratio of the medians: above 1 the stack is faster.

    python benchmarks/bench_stack.py [--threads 1] [--seeds 5] [--steps 8] [--device cuda]
"""

import argparse
import statistics
import time
from functools import partial

import torch
from synthetic import noise_data

from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.runtime import Runtime
from asdbench.engine.stacked_model import StackedModel
from asdbench.engine.stacks import take_steps
from asdbench.engine.training import seed_initial_weights
from asdbench.engine.training_step import TrainingStep, take_step
from asdbench.nn.dropout import DropoutSeed

SYSTEMS = {
    "baseline-mse": {},
    "multitask-mel": {"steps": 30, "batch_size": 32, "target_rows": 4, "time_stride": 8},
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with noise_data(types=2, training_clips=100, test_clips=4) as data:
        for system, settings in SYSTEMS.items():
            jobs = [Job(system, settings, data.name, "type0", seed) for seed in range(chosen.seeds)]
            resolved = [ResolvedJob.from_job(job, data) for job in jobs]
            measure(system, resolved, chosen.steps, Runtime(torch.device(chosen.device)))


def measure(name, resolved, steps, runtime):
    one, other = built(resolved, runtime), built(resolved, runtime)
    model = StackedModel([system for system, _ in other])
    alone_s, stacked_s = [], []
    for place in range(steps):
        batches = [each.clips.batch(place).to(runtime.device) for each in resolved]
        steps_alone, together = (
            [
                TrainingStep(stage, batch, place, steps, place)
                for (_, stage), batch in zip(systems, batches, strict=True)
            ]
            for systems in (one, other)
        )
        alone_s.append(timed(partial(take_alone, one, steps_alone, runtime)))
        stacked_s.append(timed(partial(take_steps, model, together)))
    alone, stacked = statistics.median(alone_s[1:]), statistics.median(stacked_s[1:])
    print(
        f"{name:14} {len(resolved)} seeds: one after another {1e3 * alone:8.1f} ms a step of each, "
        f"stacked {1e3 * stacked:8.1f} ms, ratio {alone / stacked:.2f}"
    )


def built(resolved, runtime):
    """Return the systems in training mode, each with its first stage."""
    found = []
    for each in resolved:
        seed_initial_weights(each.seed)
        system = each.build_trained(each.clips.facts).to(runtime.device).train()
        DropoutSeed(system).set(each.seed)
        found.append((system, system.stages(each.clips.steps_per_epoch)[0]))
    return found


def take_alone(systems, steps, runtime):
    for (system, _), step in zip(systems, steps, strict=True):
        take_step(system, [system], step, runtime)


def timed(work):
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
