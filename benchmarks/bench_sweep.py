"""Overhead of a search in addition to training and scoring, and speedup from a second worker.

Tasks are trainings of `baseline-mse` on tiny data, with one thread each, so that two workers do not share a
core's threads. Both figures come from times in the job store and from when tasks end.

    python benchmarks/bench_sweep.py
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from asdbench.testing import write_tiny

EPOCHS, TRIALS = 20, 6
SMALL = ("batch_size=64", "hidden=64", "n_mels=64", "frames=5")


def asdbench(home: Path, *arguments: str) -> tuple[float, list[float]]:
    """Run a command and return its duration, and when each task was done, in seconds."""
    environment = {**os.environ, "ASDBENCH_HOME": str(home), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "asdbench", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    done = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("done "):
            done.append(time.monotonic() - began)
    if process.wait():
        raise RuntimeError("".join(lines))
    return time.monotonic() - began, done


def trial_overhead(home: Path) -> None:
    """Print the overhead of a trial on one worker, from the second trial on."""
    asdbench(
        home,
        *("tune", "baseline-mse", "--data", "tiny", "--workers", "1", "--trials", str(TRIALS)),
        *("--only-settings", "learning_rate", "--set", f"epochs={EPOCHS}", *SMALL),
    )
    (file,) = (home / "jobs" / "searches").glob("*.json")
    trials = json.loads(file.read_text())["trials"]
    task_s = {}
    for path in (home / "jobs" / "trainings").glob("*/training.json"):
        record = json.loads(path.read_text())
        rate = record["description"]["settings"]["learning_rate"]
        task_s[rate] = task_s.get(rate, 0.0) + record["seconds"]
    for path in (home / "jobs" / "scores").glob("*/scoring.json"):
        record = json.loads(path.read_text())
        training = home / "jobs" / "trainings" / record["description"]["training"] / "training.json"
        rate = json.loads(training.read_text())["description"]["settings"]["learning_rate"]
        task_s[rate] += record["scoring_seconds"] + record["backend_seconds"]
    costs = []
    for before, trial in itertools.pairwise(trials):
        whole = trial["ended_unix_s"] - before["ended_unix_s"]  # one worker: trials follow one another
        costs.append(whole - task_s[trial["parameters"]["learning_rate"]])
    costs.sort()
    print(
        f"overhead of a trial: {costs[len(costs) // 2]:.2f} s in the median "
        f"({costs[0]:.2f} to {costs[-1]:.2f}) of {len(trials[1:])} trials of {len(task_s)} (target 2 s)"
    )


def second_worker(home: Path) -> None:
    """Print the jobs per minute of two workers relative to one, from the first finished job to the last."""
    rates = {}
    for workers in (1, 2, 1, 2):
        seeds = [str(100 * len(rates) + 10 * workers + seed + 1000 * (workers in rates)) for seed in range(6)]
        _, done = asdbench(
            home,
            *("run", "baseline-mse", "--data", "tiny", "--workers", str(workers), "--seeds", *seeds),
            *("--set", f"epochs={EPOCHS}", *SMALL),
        )
        # at both ends all workers are busy, so only complete rounds are counted
        rate = 60 * (len(done) - workers) / (done[-1] - done[workers - 1])
        rates[workers] = max(rates.get(workers, 0.0), rate)
        print(f"{workers} workers: {rate:.1f} jobs per minute")
    print(f"two workers relative to one: {rates[2] / rates[1]:.2f} (target 1.8)")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        recordings = write_tiny(Path(folder) / "recordings", source_clips=60, durations_s=(2.0, 2.0))
        asdbench(home, "data", "add", "tiny", str(recordings))
        second_worker(home)
        trial_overhead(home)


if __name__ == "__main__":
    main()
