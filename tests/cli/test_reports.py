"""The commands that show what is stored."""

import json
from pathlib import Path

import pytest

from tests.commands import asdbench

QUICK = ("--local", "--set", "epochs=2", "hidden=8")


def test_relabeled_clips_are_judged_anew_without_training(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ("run", "baseline-mse", "--data", tiny, *QUICK)
    asdbench(*run)
    for file in (tmp_path / "recordings" / "fan").rglob("*_test_*"):
        swapped = {"normal": "anomaly", "anomaly": "normal"}
        name = "_".join(swapped.get(part, part) for part in file.name.split("_"))
        file.rename(file.with_name("held-" + name))
    for file in (tmp_path / "recordings" / "fan").rglob("held-*"):
        file.rename(file.with_name(file.name.removeprefix("held-")))
    table = tmp_path / "recordings" / "fan" / "attributes_00.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *(line for line in lines[1:] if "/train/" in line)]) + "\n")
    asdbench("data", "add", tiny, str(tmp_path / "recordings"))
    capsys.readouterr()
    asdbench("leaderboard", "--data", tiny)
    assert "1 stored result is out of date" in " ".join(capsys.readouterr().out.split())
    asdbench(*run)
    assert "(2 already stored)" in " ".join(capsys.readouterr().out.split())
    asdbench("leaderboard", "--data", tiny, "--format", "json")
    (row,) = json.loads(capsys.readouterr().out)
    assert row["complete"] is True


def test_systems_and_their_settings_are_listed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asdbench("systems") == 0
    assert "systems/baseline_mse.py" in capsys.readouterr().out
    assert asdbench("systems", "baseline-maha") == 0
    said = capsys.readouterr().out
    assert "maha_mode" in said
    assert "refusion" in said
    assert "bottleneck" in said


@pytest.mark.usefixtures("broken_plugin")
def test_a_broken_plugin_is_listed_as_broken(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asdbench("systems") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "systems/baseline_mse.py" in said
    assert "theirs broken: system 'theirs' (their_plugin.py) cannot be imported" in said
    assert "[/red] no license" in said
