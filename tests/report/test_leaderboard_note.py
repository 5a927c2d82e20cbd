"""What stands above a leaderboard in MLflow."""

from pathlib import Path
from typing import Any

from asdbench.data.sets import catalog
from asdbench.io.workspace import Workspace
from asdbench.report.leaderboard_note import leaderboard_note
from asdbench.testing import write_tiny


def row(number: int) -> dict[str, Any]:
    return {
        "system": f"system-{number}",
        "settings": {},
        "tuned": None,
        "subset": "dev",
        "official_score": 0.6,
        "official_score_std": None,
        "auc_source": 0.6,
        "auc_target": 0.6,
        "pauc": 0.6,
        "seeds": [0],
        "parameters": 1000,
        "macs_per_clip": 1000,
        "training_seconds": 1.0,
        "scoring_seconds": 1.0,
        "clips_per_second": 1.0,
        "machine_types": 2,
        "machine_types_missing": [],
    }


def test_the_note_has_rule_data_table_and_what_dev_tuned_means(tmp_path: Path) -> None:
    workspace = Workspace.from_home(tmp_path / "home")
    data = catalog.add(workspace, "tiny", write_tiny(tmp_path / "recordings"))
    note = leaderboard_note([row(1)], data, subset="dev")
    assert "Leaderboard of tiny" in note
    assert "harmonic mean of AUC (source), AUC (target), pAUC" in note
    assert "| system-1 |" in note
    assert "`asdbench leaderboard --data tiny`" in note
    assert "chose the settings with the labels" in note
    n_train = data.clips.filter(split="train").height
    assert f"{n_train} normal training clips" in note
    assert "fan, valve" in note
    assert "rows. " not in note
    many = leaderboard_note([row(number) for number in range(400)], data, subset="dev")
    assert "The best 25 of 400 rows." in many
    assert "system-25 " not in many
    assert len(many) < 5_000  # of MLflow's 8,000 for a tag in older servers


def test_a_leaderboard_without_rows_has_a_note(tmp_path: Path) -> None:
    workspace = Workspace.from_home(tmp_path / "home")
    data = catalog.add(workspace, "tiny", write_tiny(tmp_path / "recordings"))
    assert "There are no results yet." in leaderboard_note([], data, subset="dev")
