"""What a user reads about MLflow at the end of a run."""

from types import SimpleNamespace
from typing import Any

from asdbench.driver.recording import show_recorded
from asdbench.tracking.address import Address


class Recorder:
    """A recorder that has delivered all, or left something with a reason."""

    def __init__(self, experiments: dict[str, str], *, left: int = 0, why: str = "", note: str = "") -> None:
        self.experiments = experiments
        self.address = Address("sqlite:///mine.db", given=True)
        self.waited_s: list[float] = []
        self._left = SimpleNamespace(entries=left, why=why, not_exported=note)

    def close(self, *, patience_s: float) -> SimpleNamespace:
        self.waited_s.append(patience_s)
        return self._left


def test_the_command_that_shows_the_results_is_named(output: Any) -> None:
    recorder = Recorder({"tiny": "1", "tiny/searches": "2"})
    show_recorded(recorder, console=output)  # type: ignore[arg-type]
    assert output.lines == ["to see the results in MLflow, run 'asdbench ui --mlflow-uri sqlite:///mine.db'"]
    assert recorder.waited_s == [30.0]


def test_what_is_not_recorded_yet_is_noted(output: Any) -> None:
    recorder = Recorder({}, left=2, why="2 entries wait for MLflow")
    show_recorded(recorder, console=output)  # type: ignore[arg-type]
    assert output.lines == ["note: 2 entries wait for MLflow"]


def test_a_model_that_is_not_exported_is_noted(output: Any) -> None:
    show_recorded(Recorder({}, note="the model is damaged"), console=output)  # type: ignore[arg-type]
    assert output.lines == ["note: the model is damaged"]
