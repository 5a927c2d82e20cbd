"""Training speed and memory of baseline-mse on 1,000 clips of 10 s, relative to a plain loop.

The reference is a tutorial's loop: the same network, a DataLoader whose items are single 640-vectors of one
in-memory float32 array, and Adam. Both are timed alternately in one process with two threads; then two
processes with one thread each train at the same time. Memory is the peak of a training process's anonymous
pages.
"""

import multiprocessing
import statistics
import threading
import time
from pathlib import Path

import numpy as np
import torch
from synthetic import noise_data
from torch.utils.data import DataLoader, Dataset

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.runtime import Runtime
from asdbench.engine.training import train
from asdbench.io.workspace import Workspace
from asdbench.system import Stage

STEPS = 300
ROUNDS = 5


class Vectors(Dataset):
    """One item, one vector."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.vectors[index])


def short(resolved: ResolvedJob, steps: int):
    """Return the job's system with a training of ``steps`` steps."""
    system = resolved.build_trained(resolved.clips.facts)
    stage = system.stages(resolved.clips.steps_per_epoch)[0]
    system.stages = lambda steps_per_epoch: [Stage(stage.name, stage.updates, steps=steps)]
    return system


def ours(resolved: ResolvedJob, steps: int = STEPS) -> float:
    system = short(resolved, steps)
    began = time.perf_counter()
    train(system, resolved.clips, Runtime(), seed=0)
    return steps / (time.perf_counter() - began)


def reference(vectors: np.ndarray, resolved: ResolvedJob) -> float:
    network = resolved.build_trained(resolved.clips.facts).network
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    loader = iter(DataLoader(Vectors(vectors), batch_size=256, shuffle=True))
    next(loader)  # not counting the permutation
    network.train()
    began = time.perf_counter()
    for _ in range(STEPS // 2):
        batch = next(loader)
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(network(batch), batch).backward()
        optimizer.step()
    return STEPS // 2 / (time.perf_counter() - began)


def job(machine: str) -> ResolvedJob:
    return ResolvedJob.from_job(
        Job("baseline-mse", {}, "noise", machine, 0), catalog.load(Workspace.from_environment(), "noise")
    )


def anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no RssAnon")


def side_by_side(machine: str, barrier, answers) -> None:
    torch.set_num_threads(1)
    resolved = job(machine)
    ours(resolved, 20)
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            peak[0] = max(peak[0], anonymous_bytes())

    threading.Thread(target=watch, daemon=True).start()
    barrier.wait()
    rate = ours(resolved, 2 * STEPS)
    stop.set()
    answers.put((rate, peak[0]))


def main() -> None:
    torch.set_num_threads(2)
    registry.get("baseline-mse")
    with noise_data(types=2, training_clips=1000):
        resolved = job("type0")
        ours(resolved, 20)
        job("type1").clips.batch(0)
        frames = resolved.clips._stored.mels.frames[0].float().numpy()
        starts = resolved.clips._rows.windows[0]
        vectors = np.stack([frames[s : s + 5].reshape(-1) for s in starts])
        pairs = [(ours(resolved), reference(vectors, resolved)) for _ in range(ROUNDS)]
        rate, plain = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(
            f"one process, two threads: {rate:.0f} steps/s, reference {plain:.0f} steps/s, ratio {ratio:.2f}"
        )
        del vectors
        context = multiprocessing.get_context("spawn")
        answers, barrier = context.Queue(), context.Barrier(2)
        processes = [
            context.Process(target=side_by_side, args=(f"type{k}", barrier, answers)) for k in range(2)
        ]
        for process in processes:
            process.start()
        results = [answers.get() for _ in processes]
        for process in processes:
            process.join()
        both = sum(rate for rate, _ in results)
        print(
            f"two processes, one thread each: {both:.0f} steps/s, ratio to the reference {both / plain:.2f}"
        )
        print(f"peak memory of a training process: {max(peak for _, peak in results) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
