import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asdbench.data.sets import catalog
from asdbench.io.workspace import Workspace
from asdbench.metrics import chance
from tests.commands import asdbench, leaderboard

pytestmark = pytest.mark.usefixtures("at_home")


def test_the_leaderboard_shows_intervals_around_scores(capsys: pytest.CaptureFixture[str]) -> None:
    rows = leaderboard(capsys, "--intervals")
    low, score, high = ([row[f"official_score{end}"] for row in rows] for end in ("_low", "", "_high"))
    assert len(rows) == 2
    assert np.all(np.array(low) <= np.array(score) + 1e-6)  # perfect and useless AUCs have no spread
    assert np.all(np.array(score) <= np.array(high) + 1e-6)
    assert max(np.array(high) - np.array(low)) > 0.01
    by_type = leaderboard(capsys, "--intervals", "--by", "type")
    assert len(by_type) == 4
    assert all(row["official_score_low"] <= row["official_score_high"] for row in by_type)
    assert {row["half_width_over"] for row in by_type} == {"clips"}
    assert rows[0]["resampled"] == {"fan": "clips", "valve": "clips"}
    assert asdbench("leaderboard", "--data", "tiny", "--intervals") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Interval: bootstrap on these machines, and what seeds vary. Resampled: clips. No" in said
    assert f"{100 * rows[0]['official_score_low']:.2f} to {100 * rows[0]['official_score_high']:.2f}" in said


def test_aucs_far_below_chance_are_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    by_type = ("leaderboard", "--data", "tiny", "--by", "type")
    assert asdbench(*by_type) == 0
    assert "far below chance" not in capsys.readouterr().out
    monkeypatch.setattr(chance, "is_far_below_chance", lambda *_, **__: True)
    assert asdbench(*by_type) == 0
    said = capsys.readouterr().out
    assert "and 5 more are far below chance; are the labels swapped?" in said


def test_published_results_are_shown_for_their_own_data_only(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asdbench("leaderboard", "--data", "tiny", "--reference") == 0
    captured = capsys.readouterr()
    assert "no published results on tiny; there are for dcase2020 (dev)" in captured.out
    assert "official baseline" not in captured.out
    catalog.add(Workspace.from_environment(), "dcase2023", home / "recordings")
    assert asdbench("leaderboard", "--data", "dcase2023", "--reference", "--by", "type") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Zhang_DKU_task2_2" in said
    assert said.count(" MSE recomputed ") == said.count(" MAHA recomputed ") == 2
    assert said.count(" other rule ") >= 8
    assert "Sources: Zhang and Li, technical report" in said
    assert "6 published results on dcase2023 (dev) cannot be compared" in said


def test_the_leaderboard_imports_neither_the_driver_nor_ray_nor_mlflow_nor_statistics(home: Path) -> None:
    code = (
        "import sys\n"
        "from asdbench.cli.main import main\n"
        "try:\n"
        "    main(['leaderboard', '--data', 'tiny', '--intervals', '--reference', '--format', 'json'])\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0, stop.code\n"
        "rooms = ('asdbench.driver', 'asdbench.cluster', 'asdbench.tracking', 'ray', 'mlflow', 'optuna',\n"
        "         'scipy.stats')\n"
        "print([name for name in sys.modules if name.startswith(rooms)], file=sys.stderr)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr.splitlines()[-1] == "[]"
    assert len(json.loads(ran.stdout)) == 2


def test_a_data_set_without_results_says_what_to_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path))
    catalog.add(Workspace.from_environment(), "tiny", home / "recordings")
    assert asdbench("leaderboard", "--data", "tiny") == 0
    assert "'asdbench run SYSTEM --data tiny'" in capsys.readouterr().out


def test_trainings_without_results_are_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_results = shutil.ignore_patterns("recordings", "results*")
    shutil.copytree(home, tmp_path / "home", ignore=without_results)
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    assert asdbench("leaderboard", "--data", "tiny") == 0
    assert capsys.readouterr().out == (
        "no results on data set 'tiny' yet, but 4 finished trainings; repeat their command, such as "
        "'asdbench run SYSTEM --data tiny', to evaluate what is stored\n"
    )
