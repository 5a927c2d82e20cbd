"""All rows of the speed table that need a GPU, on synthetic audio, with a plain PyTorch loop beside them.

    benchmarks/gpu.sh [WHEEL] [--device cuda] [--out gpu.json] [--quick]

The file is written after every row. A row that fails or for which no time is left says so, and the others go
on. ``--quick`` does everything in miniature, with a small model: it proves that the benchmark runs, and its
figures mean nothing.
"""

import argparse
import importlib.metadata
import json
import logging
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from gpu_rows import ROWS, Bench
from gpu_sizes import QUICK, Machine, Sizes
from synthetic import noise_data

TIME_S = 440.0  # after which no row is begun


class Report:
    """The rows measured so far, in a file that is always whole."""

    def __init__(self, file: Path, machine: Machine, *, quick: bool) -> None:
        self.file, self.began = file, time.perf_counter()
        self.content: dict[str, object] = {
            "device": machine.name,
            "quick": quick,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "asdbench": importlib.metadata.version("asdbench"),
            "cpus": os.cpu_count(),
            "rows": {},
        }

    @property
    def spent_s(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    def add(self, name: str, row: dict[str, object]) -> None:
        """Add a row, print it and write the file."""
        self.content["rows"][name] = row
        self.content["seconds"] = round(self.spent_s, 1)
        print(f"[{self.spent_s:5.0f} s] {name}: {json.dumps(row)}", flush=True)
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(self.content, indent=2) + "\n")
        partial.replace(self.file)


def measured(row: Callable[[Bench], dict[str, object]], bench: Bench, spent_s: float) -> dict[str, object]:
    """Return a row, or why it is not measured."""
    if spent_s > TIME_S:
        return {"not measured": "no time was left"}
    try:
        return row(bench)
    except Exception as error:
        traceback.print_exc()
        return {"not measured": f"{type(error).__name__}: {error}"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="where to measure")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="file of the figures")
    parser.add_argument("--quick", action="store_true", help="in miniature, on any device")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU; with --device cpu --quick all rows run in miniature")
    logging.basicConfig(level=logging.WARNING)
    sizes, machine = QUICK if chosen.quick else Sizes(), Machine(torch.device(chosen.device))
    report = Report(chosen.out, machine, quick=chosen.quick)
    with noise_data(
        types=sizes.types,
        training_clips=sizes.clips,
        test_clips=sizes.test_clips,
        duration_s=sizes.duration_s,
    ) as data:
        bench = Bench(data, sizes, machine)
        for name, row in ROWS.items():
            report.add(name, measured(row, bench, report.spent_s))


if __name__ == "__main__":
    main()
