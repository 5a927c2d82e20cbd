"""``sweeps/report_table2.py``, whole: a miniature in the layout of 2023, small settings, one process."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from asdbench.data.sets import catalog
from asdbench.driver import pipeline
from asdbench.io.workspace import Workspace
from tests.miniatures import MINIATURES, MachineType, write_miniature

SCRIPT = Path(__file__).parents[2] / "sweeps" / "report_table2.py"
SMALL = (
    *("--set", "epochs=2", "hidden=8", "steps=2", "cvae_steps=1", "adversarial_steps=1", "width=16"),
    *("ffn=16", "blocks=1", "batch_size=16"),
)

OTHER = (MachineType("pump"), MachineType("drill"))


@pytest.fixture
def miniature(home: Path, tmp_path: Path) -> None:
    written = write_miniature(tmp_path / "first shot", MINIATURES["first shot"])
    catalog.add(Workspace.from_environment(), "dcase2023", written.data)


def table2(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.usefixtures("miniature")
def test_one_statement_runs_the_systems_and_writes_and_records_the_table(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(pipeline, "record_judged", lambda *_: None)  # pages of rows, which take most time
    assert table2(monkeypatch, "--dry-run") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "50 jobs, 40 trainings (0 already stored)" in said
    assert "the time is not known, since the store has no training of baseline-mse, multitask-mel, " in said
    assert "--machines ToyCar --subset dev --seeds 0 --preset report' measures it" in said
    assert "nothing was run" in said

    output = tmp_path / "table2.md"
    assert table2(monkeypatch, "--local", "--seeds", "0", *SMALL, "--output", str(output)) == 0
    said = capsys.readouterr().out
    assert "Table 2 on dcase2023, under the official rule" in said
    assert "Table 2 on dcase2023, under the in-domain rule" in said
    text = output.read_text()
    assert "| Baseline AE with MSE | Baseline AE with MAHA | Multitask+GMM with MelSpec. |" in text
    assert text.count("(70.10)") == 2  # ToyCar's AUC (source) of the first baseline, under both rules

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("asdbench/dcase2023/reproductions")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "Table 2 on dcase2023"
    assert run.data.tags["mlflow.note.content"] == text
    assert {f"{rule}/ensemble/ours" for rule in ("official", "in-domain")} <= run.data.metrics.keys()
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"table.csv", "table.md"}

    assert table2(monkeypatch, "--dry-run", "--local", *SMALL) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "(8 already stored)" in said
    assert "on 1 worker with start-up and scoring, at the speed of earlier trainings" in said


@pytest.mark.usefixtures("miniature")
def test_data_with_other_machine_types_are_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = write_miniature(tmp_path / "other", replace(MINIATURES["first shot"], types={"dev": OTHER}))
    catalog.add(Workspace.from_environment(), "mine", written.data)
    assert table2(monkeypatch, "--data", "mine", "--local") == 2
    assert "data set 'mine' has none of the machine types of the published" in capsys.readouterr().err
    assert table2(monkeypatch, "--machines", "ToyTank", "--local") == 2
    assert "ToyTank" in capsys.readouterr().err
