"""Parts of a training step of multitask-mel, its scoring speed, and its memory use.

Two machine types of 1,000 training clips of 10 s (noise). A batch has 64 windows of 2.56 s, each
transformed by one of the eight augmentations. Reported for ``time_stride`` 1 (report) and 4 (fast):

- the share of a training step spent on loading, waveform augmentation and log-mel;
- clips scored per second, including back ends, with the share of the network;
- the largest resident memory of the training process, with and without mapped files.

    python benchmarks/bench_multitask.py [--threads 2] [--clips 1000]
"""

import argparse
import resource
import statistics
import time
from pathlib import Path

import torch
from synthetic import noise_data

from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.runtime import Runtime
from asdbench.engine.training_step import TrainingStep, take_step

STEPS = 8
SCORED_CLIPS = 24


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clips", type=int, default=1000)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with noise_data(types=2, training_clips=chosen.clips, test_clips=SCORED_CLIPS) as data:
        for stride in (1, 4):
            settings = {"batch_size": 64, "time_stride": stride}
            resolved = ResolvedJob.from_job(Job("multitask-mel", settings, data.name, "type0", 0), data)
            measure(resolved, stride)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak resident memory, including mapped files    {peak:8.2f} GB")
    print(f"private memory of the process at the end        {own_memory_gb():8.2f} GB")


def measure(resolved, stride):
    clips = resolved.clips
    clips.batch(0)  # builds or maps the features
    system = resolved.build_trained(clips.facts).train()
    (stage,) = system.stages(clips.steps_per_epoch)
    batch_s, step_s = [], []
    for step in range(STEPS):
        begun = time.perf_counter()
        batch = clips.batch(step)
        made = time.perf_counter()
        take_step(system, [system], TrainingStep(stage, batch, step, STEPS, step), Runtime())
        batch_s.append(made - begun)
        step_s.append(time.perf_counter() - made)
    made, done = min(batch_s[1:]), min(step_s[1:])
    print(f"time_stride {stride}")
    print(f"  loading, augmentation, log-mel of 64 windows  {1e3 * made:8.0f} ms")
    rate = 64 / (made + done)
    print(f"  forward, backward, optimizer                  {1e3 * done:8.0f} ms  {rate:.1f} windows/s")
    print(f"  share of the step                             {100 * made / (made + done):8.1f} %")
    score(system.eval(), clips)


def score(system, clips):
    with torch.no_grad():
        system.fit_backend(batch for batch, _ in zip(clips.backend_batches(), range(40), strict=False))
        rates, shares = [], []
        for _ in range(3):
            begun = time.perf_counter()
            network_s = 0.0
            for batch in clips.scoring_batches(clips.test_ids):
                start = time.perf_counter()
                system.embed(batch)
                network_s += time.perf_counter() - start
                system.components(batch)
            spent = time.perf_counter() - begun - network_s  # the network runs twice
            rates.append(len(clips.test_ids) / spent)
            shares.append(network_s / spent)
    print(f"  scoring                                       {max(rates):8.1f} clips/s  ", end="")
    print(f"({100 * statistics.median(shares):.0f} % of it in the network)")


def own_memory_gb():
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["RssAnon"].split()[0]) / 1e6


if __name__ == "__main__":
    main()
