"""Code of plugins; plugins as an installer leaves them; their conformance suites in a fresh interpreter."""

import os
import subprocess
import sys
from pathlib import Path

from asdbench.registry import ENTRY_POINTS

CONFIG = """
from dataclasses import dataclass

import torch
from asdbench import BatchPlan, InputSpec, MelSpec, System, tunable


@dataclass(frozen=True)
class Config:
    n_mels: int = tunable(16)
"""
UNTRAINED = """\
    @classmethod
    def input_spec(cls, config):
        return InputSpec(MelSpec(n_mels=config.n_mels), window_frames=8, window_hop_frames=8)

    @classmethod
    def batch_plan(cls, config):
        return BatchPlan(size=32, draw="window-per-clip")

    def stages(self, steps_per_epoch):
        return []
"""


def install(packages: Path, name: str, value: str) -> None:
    """Register the entry point of a system whose module is on the path, as an installed package does."""
    metadata = packages / f"{name.replace('-', '_')}-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{name} = {value}\n")


def run_suite(folder: Path, test: str, *paths: Path) -> tuple[int, str]:
    """Run a test file of a folder with more import paths; return its exit code and its output."""
    path = os.pathsep.join(map(str, [*paths, *filter(None, sys.path)]))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", test],
        cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr
