"""The embedded data set is neither trivial nor hopeless for the baseline."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]


def asdbench(home: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "ASDBENCH_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "asdbench", *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_the_baseline_neither_guesses_nor_is_certain_on_any_type(tmp_path: Path) -> None:
    homes = [tmp_path / str(generator_seed) for generator_seed in range(3)]
    for generator_seed, home in enumerate(homes):
        assert asdbench(home, "data", "demo", "--seed", str(generator_seed)).wait() == 0
    runs = [
        asdbench(home, "run", "baseline-mse", "--data", "demo", "--preset", "demo", "--local")
        for home in homes
    ]
    for run in runs:
        output, _ = run.communicate()
        assert run.returncode == 0, output
    for home in homes:
        shown, _ = asdbench(
            home, "leaderboard", "--data", "demo", "--by", "type", "--format", "json"
        ).communicate()
        found = {row["machine_type"]: row["auc_source"] for row in json.loads(shown)}
        assert len(found) == 7
        assert all(0.6 <= auc <= 0.95 for auc in found.values()), (home.name, found)
