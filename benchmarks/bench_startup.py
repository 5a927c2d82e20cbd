"""Time from the command to the first training step, and overhead of each further job.

The command runs with features already built: 7 machine types of the embedded data set, a few epochs each.
The reference for startup is the time that this machine takes to import torch and Ray Train, as every worker
must.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def asdbench(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "asdbench", *arguments], check=True, stdout=subprocess.DEVNULL)


def timed(*command: str) -> float:
    began = time.time()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.time() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["ASDBENCH_HOME"] = home
        asdbench("data", "demo", "--clips-per-type", "40")
        asdbench("features", "demo", "--systems", "baseline-mse")
        print(f"asdbench --help: {min(timed('-m', 'asdbench', '--help') for _ in range(5)):.2f} s")
        importing = statistics.median(timed("-c", "import ray.train.torch") for _ in range(3))
        print(f"import of torch and Ray Train: {importing:.1f} s")
        for epochs, mode in enumerate((("--local",), ("--workers", "2"), ("--workers", "1")), start=3):
            began = time.time()
            asdbench("run", "baseline-mse", "--data", "demo", "--set", f"epochs={epochs}", *mode)
            records = [record for record in trainings(Path(home)) if epochs_of(record) == epochs]
            records.sort(key=lambda record: record["began_unix_s"])
            first, last = records[0]["began_unix_s"], records[-1]["began_unix_s"]
            message = f"{' '.join(mode)}: first training step after {first - began:.1f} s, "
            message += f"{(first - began) / importing:.1f} times the import"
            if mode != ("--workers", "2"):  # jobs run one after another
                overhead = last - first - sum(record["seconds"] for record in records[:-1])
                message += f"; overhead of each further job {overhead / (len(records) - 1):.2f} s"
            print(message)


def trainings(home: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in (home / "jobs" / "trainings").glob("*/training.json")]


def epochs_of(record: dict) -> int:
    return record["description"]["settings"]["epochs"]


if __name__ == "__main__":
    main()
