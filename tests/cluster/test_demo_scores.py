"""The embedded data set is neither trivial nor hopeless for the baseline."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.mark.parametrize("generator_seed", [0, 1, 2])
def test_the_baseline_neither_guesses_nor_is_certain_on_any_type(tmp_path: Path, generator_seed: int) -> None:
    environment = {**os.environ, "ASDBENCH_HOME": str(tmp_path)}

    def asdbench(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "asdbench", *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    asdbench("data", "demo", "--seed", str(generator_seed))
    asdbench("run", "baseline-mse", "--data", "demo", "--preset", "demo")
    rows = json.loads(asdbench("leaderboard", "--data", "demo", "--by", "type", "--format", "json"))
    found = {row["machine_type"]: row["auc_source"] for row in rows}
    assert len(found) == 7
    assert all(0.6 <= auc <= 0.95 for auc in found.values()), found
