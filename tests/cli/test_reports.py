"""The commands that show what is stored."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asdbench.engine.run_record import RunStatus, save_run
from asdbench.io.workspace import Workspace
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


def test_a_terminal_shows_no_markup_and_a_narrow_one_no_sources(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert asdbench("systems", "adacos") == 0
    said = capsys.readouterr().out
    assert "(asdbench.nn.adacos)" in said
    assert "`" not in said
    assert asdbench("systems") == 0
    said = capsys.readouterr().out
    assert "baseline-maha-per-frame" in said
    assert "systems/" not in said


def test_systems_and_their_settings_are_listed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asdbench("systems") == 0
    assert "baseline-mse" in capsys.readouterr().out
    assert asdbench("systems", "baseline-maha") == 0
    said = capsys.readouterr().out
    assert "maha_mode" in said
    assert "refusion" in said
    assert "bottleneck" in said


@pytest.mark.usefixtures("broken_plugin")
def test_a_broken_plugin_is_listed_as_broken(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asdbench("systems") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "baseline-mse" in said
    assert "theirs broken: system 'theirs' (their_plugin.py) cannot be imported" in said
    assert "[/red] no license" in said


RUN_FOR_A_WHILE = """
import sys
import time

from asdbench.driver.run_status import RunMonitor, StatusWriter
from asdbench.io.workspace import Workspace

running = {"label": "fan mine seed 0", "host": "gpu1", "node": "n1", "since_unix_s": time.time()}
running |= {"step": 5, "steps": 50}
bad = {"node": "n2", "host": "gpu2", "running": 0, "done": 0}
bad |= {"quarantined_unix_s": time.time(), "reason": "disk full"}
scheduler = {"waiting": 3, "done": 2, "failed": 0, "features": 0, "done_s": 100.0}
scheduler |= {"running": [running], "nodes": [bad], "retries": []}
monitor = RunMonitor()
root = Workspace.from_environment().job_storage
with StatusWriter(root, monitor.run, lambda: monitor.status(scheduler)):
    print("started", flush=True)
    sys.stdin.read()
"""


def test_another_process_sees_a_run_while_it_is_under_way(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "my_sweep.py"
    script.write_text(RUN_FOR_A_WHILE)
    command = [sys.executable, str(script), "--data", "tiny"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdin is not None
        assert run.stdout.readline() == "started\n"
        shown = ""
        while "gpu2" not in shown:  # the first record says nothing of nodes yet
            assert run.poll() is None
            time.sleep(0.2)
            assert asdbench("status") == 0
            shown = " ".join(capsys.readouterr().out.split())
        assert f"process {run.pid}: began" in shown
        assert "my_sweep.py --data tiny" in shown
        assert "tasks: 3 waiting, 1 running, 2 done, 0 failed" in shown
        assert "gpu2 0 0 out since" in shown
        assert "disk full" in shown
        assert " left" in shown
        run.stdin.close()
        assert run.wait() == 0
    assert asdbench("status") == 0
    assert "no run is under way" in capsys.readouterr().out


def test_the_status_of_another_storage(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = Workspace.from_environment(storage=str(tmp_path / "elsewhere")).job_storage
    save_run(elsewhere, RunStatus.from_command("asdbench run mine --data tiny"))
    assert asdbench("status", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert asdbench("status", "--storage", str(tmp_path / "elsewhere"), "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)[0]["command"] == "asdbench run mine --data tiny"


@pytest.mark.parametrize("more", [(), ("--format", "json")])
def test_watching_takes_a_terminal(
    home: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    assert asdbench("status", "--watch", *more) == 2
    assert "--watch shows tables on a terminal; drop --watch" in capsys.readouterr().err


def test_the_status_needs_no_heavy_module(home: Path) -> None:
    heavy = "{'torch', 'ray', 'mlflow', 'polars', 'numpy', 'pyarrow'} & set(sys.modules)"
    command = "from asdbench.cli.main import app; app(['status'], result_action='return_value')"
    program = f"import sys; {command}; assert not {heavy}, {heavy}"
    subprocess.run([sys.executable, "-c", program], check=True)
