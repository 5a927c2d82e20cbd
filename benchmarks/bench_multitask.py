"""Parts of a training step of multitask-mel, its scoring speed, and its memory use.

Two machine types of 1,000 training clips of 10 s (noise). A batch has 64 windows of 2.56 s, each
transformed by one of the eight augmentations. Reported for ``time_stride`` 1 (report) and 4 (fast):

- the share of a training step spent on raw batches, and on their preparation (augmentation, log-mel);
- the bytes of a raw batch of 128 rows, and how long one thread takes to make it;
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
        job = Job("multitask-mel", {"batch_size": 128}, data.name, "type0", 0)
        hand_over(ResolvedJob.from_job(job, data).clips)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak resident memory, including mapped files    {peak:8.2f} GB")
    print(f"private memory of the process at the end        {own_memory_gb():8.2f} GB")


def measure(resolved, stride):
    clips = resolved.clips
    clips.batch(0)  # builds or maps the features
    system = resolved.build_trained(clips.facts).train()
    (stage,) = system.stages(clips.steps_per_epoch)
    raw_s, prepared_s, step_s = [], [], []
    for step in range(STEPS):
        times = [time.perf_counter()]
        raw = clips.raw_batch(step)
        times.append(time.perf_counter())
        batch = clips.preparation(raw)
        times.append(time.perf_counter())
        take_step(system, [system], TrainingStep(stage, batch, step, STEPS, step), Runtime())
        times.append(time.perf_counter())
        for spent, begun, done in zip((raw_s, prepared_s, step_s), times, times[1:], strict=False):
            spent.append(done - begun)
    read, prepared, done = (min(spent[1:]) for spent in (raw_s, prepared_s, step_s))
    whole = read + prepared + done
    print(f"time_stride {stride}")
    print(f"  raw batch of 64 windows                       {1e3 * read:8.1f} ms")
    print(f"  preparation: augmentation, log-mel            {1e3 * prepared:8.0f} ms")
    print(f"  forward, backward, optimizer                  {1e3 * done:8.0f} ms  {64 / whole:.1f} windows/s")
    print(f"  share of the step that is not the model       {100 * (1 - done / whole):8.1f} %")
    score(system.eval(), clips)


def hand_over(clips):
    threads, spent = torch.get_num_threads(), []
    torch.set_num_threads(1)
    for step in range(40):
        begun = time.thread_time()
        raw = clips.raw_batch(step)
        spent.append(time.thread_time() - begun)
    torch.set_num_threads(threads)
    size = raw.nbytes / 1e6
    print(f"raw batch of 128 rows, one thread, CPU          {1e3 * min(spent):8.1f} ms  {size:.1f} MB")


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
