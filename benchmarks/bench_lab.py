"""Training speed on two hosts relative to one: windows/s of multitask-mel, one thread per host.

The hosts are emulated by ``tests/cluster/lab``: processes on this machine with their own network between
them, which carries the gradients. The same 64 windows per step are processed by one process on one host,
and by two processes that take half of them each. Needs root and the tools that the lab needs.

    python benchmarks/bench_lab.py [--steps 6] [--repeats 3]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from synthetic import noise_data

from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.runtime import Runtime
from asdbench.engine.training import train
from asdbench.io.workspace import Workspace

HOSTS = Path(__file__).parents[1] / "tests" / "cluster" / "lab" / "hosts"
WINDOWS, WARM_UP = 64, 2


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--member", type=int, nargs=2, metavar=("RANK", "SIZE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.member:
        take_part(*chosen.member, steps=chosen.steps)
        return
    with noise_data(types=2, training_clips=100) as data:
        resolved(data.name, steps=chosen.steps).clips.batch(0)  # builds the features
        lab = {**os.environ, "LAB": tempfile.mkdtemp(prefix="lab")}
        subprocess.run([HOSTS, "up", "2"], env=lab, check=True)
        try:
            rates = {1: 0.0, 2: 0.0}
            for _ in range(chosen.repeats):
                for size in rates:
                    rates[size] = max(rates[size], rate(size, lab, steps=chosen.steps))
        finally:
            subprocess.run([HOSTS, "down"], env=lab, check=True)
    print(f"one host    {rates[1]:6.1f} windows/s")
    print(f"two hosts   {rates[2]:6.1f} windows/s   {rates[2] / rates[1]:.2f} times as fast")


def rate(size, lab, *, steps):
    """Train on ``size`` hosts and return the windows/s of the whole group."""
    told = {**lab, "GLOO_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1"}
    passed = [f"{name}={told[name]}" for name in ("ASDBENCH_HOME", "GLOO_SOCKET_IFNAME", "OMP_NUM_THREADS")]
    members = [
        subprocess.Popen(
            [
                *(HOSTS, "run", f"host{1 + rank}", "env", *passed, sys.executable, __file__),
                *("--steps", str(steps), "--member", str(rank), str(size)),
            ],
            env=lab,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    outputs = [member.communicate()[0] for member in members]
    if any(member.returncode for member in members):
        raise RuntimeError("\n".join(outputs))
    return float(outputs[0])


def take_part(rank, size, *, steps):
    """Train as one of ``size`` processes; the first prints the rate."""
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method="tcp://10.77.0.1:29500", rank=rank, world_size=size)
    runtime = Runtime(rank=rank, size=size)
    for length in (WARM_UP, steps):
        job = resolved("noise", steps=length)
        outcome = train(job.build_trained(job.clips.facts), job.clips, runtime, seed=0)
    if runtime.is_rank_zero:
        print(WINDOWS * outcome.steps / outcome.seconds)
    if size > 1:
        dist.destroy_process_group()


def resolved(data, *, steps):
    settings = {"batch_size": WINDOWS, "steps": steps, "precision": "float32"}
    return ResolvedJob.from_workspace(
        Job("multitask-mel", settings, data, "type0", 0), Workspace.from_environment()
    )


if __name__ == "__main__":
    main()
