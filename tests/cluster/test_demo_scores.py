"""The embedded data set is neither trivial nor hopeless: what ``make bench`` shows, with all systems."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]


def python(home: Path, *arguments: str) -> str:
    environment = {**os.environ, "ASDBENCH_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_system_is_better_than_guessing_and_the_baseline_is_not_certain(tmp_path: Path) -> None:
    python(tmp_path, "sweeps/all_types.py", "--preset", "demo")
    shown = python(tmp_path, "-m", "asdbench", "leaderboard", "--data", "demo", "--format", "json")
    scores = {row["system"]: row["official_score"] for row in json.loads(shown)}
    assert len(scores) == 6
    assert scores.pop("adversarial") > 0.45  # its two networks need more steps than a demo has
    assert min(scores.values()) > 0.55, scores
    by_type = python(
        tmp_path, "-m", "asdbench", "leaderboard", "--data", "demo", "--by", "type", "--format", "json"
    )
    found = {
        row["machine_type"]: row["auc_source"]
        for row in json.loads(by_type)
        if row["system"] == "baseline-mse"
    }
    assert len(found) == 7
    assert all(0.6 <= auc <= 0.95 for auc in found.values()), found
