"""The function that a trial runs: it reports each rung's score as soon as the driver has judged it."""

from types import SimpleNamespace
from typing import Any

import pytest

from asdbench.cluster import trial


class Scores:
    """A board that knows the scores of some rungs; ``None`` is what it gives once no trial may continue."""

    def __init__(self, *scores: float | None) -> None:
        self.asked: list[tuple[str, int]] = []
        self.rung = SimpleNamespace(remote=lambda name, rung: self._score(name, rung, scores))

    def _score(self, name: str, rung: int, scores: tuple[float | None, ...]) -> float | None:
        self.asked.append((name, rung))
        return scores[rung]


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the trial ``t7`` reports."""
    reported: list[dict[str, Any]] = []
    monkeypatch.setattr(trial.tune, "get_context", lambda: SimpleNamespace(get_trial_id=lambda: "t7"))
    monkeypatch.setattr(trial.tune, "report", reported.append)
    monkeypatch.setattr(trial.ray, "get", lambda value: value)
    return reported


def test_every_rung_is_reported_with_the_number_of_types(reports: list[dict[str, Any]]) -> None:
    board = Scores(0.5, 0.6, 0.7)
    trial.follow({"rungs": 3}, board=board)
    assert reports == [{"score": 0.5, "types": 1}, {"score": 0.6, "types": 2}, {"score": 0.7, "types": 3}]
    assert board.asked == [("t7", 0), ("t7", 1), ("t7", 2)]


def test_a_trial_ends_without_a_report_where_the_search_is_stopped(reports: list[dict[str, Any]]) -> None:
    board = Scores(0.5, None, 0.7)
    trial.follow({"rungs": 3}, board=board)
    assert reports == [{"score": 0.5, "types": 1}]
    assert board.asked[-1] == ("t7", 1)
