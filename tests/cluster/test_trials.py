"""What a trial asks for, and what it reports, with a scheduler that is played."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import tune

from asdbench.cluster import trials
from asdbench.cluster.messages import Outcome, TaskRequest
from asdbench.cluster.trials import Judgment, TrialConfig, run_trial
from asdbench.engine.events import Failure
from asdbench.errors import InfrastructureError, InputError

CONFIG: TrialConfig = {"study": "s", "number": 3, "parameters": {"epochs": 2}}
REFUSED = Outcome("user", failures=(Failure("valve x seed 0", "training diverged", bad_input=True),))
BROKEN = Outcome("infrastructure", failures=(Failure("valve x seed 0", "disk full", bad_input=False),))


class Work:
    """Three machine types with a task each."""

    def __init__(self, refusal: str | None = None) -> None:
        self.refusal = refusal
        self.judged: list[str] = []

    def requests(self, config: TrialConfig) -> list[list[TaskRequest]]:
        if self.refusal:
            raise InputError(self.refusal)
        return [[TaskRequest(name, name, name, ("x",), (0.0,), b"")] for name in ("fan", "pump", "valve")]

    def judge(self, config: TrialConfig) -> Iterator[Judgment]:
        for place, name in enumerate(("fan", "pump", "valve")):
            self.judged.append(name)
            yield Judgment(0.5 + place / 10, name, {"auc": 0.6})


class Scheduler:
    """Answers at once, and remembers who asked and who let go."""

    def __init__(self, outcomes: dict[str, Outcome]) -> None:
        self.outcomes = outcomes
        self.asked: list[tuple[str, str]] = []
        self.released: list[str] = []
        self.run = SimpleNamespace(remote=self._run)
        self.release = SimpleNamespace(remote=self.released.append)

    def _run(self, owner: str, requests: Sequence[TaskRequest]) -> list[Outcome]:
        self.asked += [(owner, request.key) for request in requests]
        return [self.outcomes.get(request.key, Outcome("ok")) for request in requests]


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    reported: list[dict[str, Any]] = []
    monkeypatch.setattr(tune, "report", reported.append)
    monkeypatch.setattr(tune, "get_context", lambda: SimpleNamespace(get_trial_id=lambda: "t7"))
    monkeypatch.setattr(ray, "get", lambda value, timeout=None: value)
    return reported


def test_a_trial_asks_for_all_at_once_and_reports_each_machine_type(reports: list[dict[str, Any]]) -> None:
    scheduler = Scheduler({})
    run_trial(CONFIG, work=Work(), scheduler=scheduler)
    assert scheduler.asked == [("t7", "fan"), ("t7", "pump"), ("t7", "valve")]
    assert [(report["types"], report["score"]) for report in reports] == [(1, 0.5), (2, 0.6), (3, 0.7)]
    assert reports[1]["judged"] == ("pump", {"auc": 0.6})
    assert scheduler.released == ["t7"]


def test_settings_that_are_refused_score_0(reports: list[dict[str, Any]]) -> None:
    scheduler = Scheduler({})
    run_trial(CONFIG, work=Work("hidden=0 is below the minimum"), scheduler=scheduler)
    (report,) = reports
    assert (report["score"], report["failed"]) == (0.0, "hidden=0 is below the minimum")
    assert scheduler.asked == []


def test_a_training_that_diverges_scores_0_after_what_was_good(reports: list[dict[str, Any]]) -> None:
    scheduler = Scheduler({"pump": REFUSED})
    work = Work()
    run_trial(CONFIG, work=work, scheduler=scheduler)
    assert [report["score"] for report in reports] == [0.5, 0.0]
    assert reports[-1]["failed"] == "training diverged"
    assert work.judged == ["fan"]
    assert scheduler.released == ["t7"]


def test_a_fault_of_the_cluster_is_never_a_score(reports: list[dict[str, Any]]) -> None:
    """Ray Tune runs the trial again; a score of 0 would poison the search."""
    scheduler = Scheduler({"pump": BROKEN})
    with pytest.raises(InfrastructureError, match="disk full"):
        run_trial(CONFIG, work=Work(), scheduler=scheduler)
    assert [report["score"] for report in reports] == [0.5]
    assert scheduler.released == ["t7"]


def test_a_task_that_killed_its_workers_is_no_score_either(reports: list[dict[str, Any]]) -> None:
    scheduler = Scheduler({"fan": Outcome("death", message="its worker process died 3 times")})
    with pytest.raises(InfrastructureError, match="died 3 times"):
        run_trial(CONFIG, work=Work(), scheduler=scheduler)
    assert reports == []


def test_the_time_for_letting_go_is_what_tune_grants() -> None:
    assert trials._RELEASE_S < 2.0


def test_settings_that_need_more_memory_than_any_node_has_score_0(reports: list[dict[str, Any]]) -> None:
    memory = Outcome(
        "infrastructure", failures=(Failure("x", "out of memory", bad_input=False),), is_memory=True
    )
    run_trial(CONFIG, work=Work(), scheduler=Scheduler({"pump": memory}))
    assert [report["score"] for report in reports] == [0.5, 0.0]
    assert reports[-1]["failed"] == "out of memory"
