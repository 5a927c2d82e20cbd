"""What a user reads about MLflow at the end of a run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from asdbench.driver.recording import show_recorded
from asdbench.io.workspace import Workspace


class Recorder:
    """A recorder that has delivered all, or left something with a reason."""

    def __init__(self, experiments: dict[str, str], *, left: int = 0, why: str = "") -> None:
        self.experiments = experiments
        self.waited_s: list[float] = []
        self._left = SimpleNamespace(entries=left, why=why)

    def close(self, *, patience_s: float) -> SimpleNamespace:
        self.waited_s.append(patience_s)
        return self._left


def test_the_pages_of_runs_and_searches_are_sorted_by_their_scores(tmp_path: Path, output: Any) -> None:
    recorder = Recorder({"asdbench/tiny": "1", "asdbench/tiny/searches": "2"})
    show_recorded(recorder, Workspace.from_home(tmp_path), console=output)  # type: ignore[arg-type]
    assert output.lines[0].startswith("MLflow UI: ")
    assert str(tmp_path / "mlflow.db") in output.lines[0]
    runs, searches = output.lines[1:]
    assert "/experiments/1" in runs
    assert "official_score" in runs
    assert "/experiments/2" in searches
    assert "best_score" in searches
    assert recorder.waited_s == [30.0]


def test_what_is_not_recorded_yet_is_noted(tmp_path: Path, output: Any) -> None:
    recorder = Recorder({}, left=2, why="2 entries wait for MLflow")
    show_recorded(recorder, Workspace.from_home(tmp_path), console=output)  # type: ignore[arg-type]
    assert output.lines == ["note: 2 entries wait for MLflow"]
