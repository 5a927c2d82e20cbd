"""The notebook of the documentation runs from start to end."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs" / "quickstart.ipynb"


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert len(cells) > 8
    assert [cell.source for cell in cells if cell.outputs or cell.execution_count] == []


@pytest.mark.cluster
@pytest.mark.timeout(800)
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ASDBENCH_STORAGE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = {
        cell.source.splitlines()[0]: "".join(str(output) for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    assert "(True, True)" in outputs['systems = ["baseline-mse", "baseline-maha"]']
    assert "<table>" in outputs['board = asdbench.leaderboard("demo", by_type=True)']
    assert "image/png" in outputs["import matplotlib.pyplot as plt"]
    whole = outputs['result = asdbench.run(systems, data="demo", preset="demo", local=True)']
    assert "Leaderboard of demo" in whole
    assert "of 7 types" not in whole
    assert "baseline-maha against baseline-mse on demo" in "".join(outputs.values())
    assert "normal" in outputs["import soundfile"]
