"""What the driver makes of the outcomes of tasks on a cluster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from asdbench.cluster.messages import Outcome
from asdbench.cluster.placement import Placement
from asdbench.cluster.session import Session
from asdbench.driver import cluster_run
from asdbench.driver.cluster_run import ClusterRun
from asdbench.driver.progress import ProgressDisplay
from asdbench.driver.run_status import RunMonitor
from asdbench.engine.events import Event, Failure, Note, TasksQueued
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, by_training
from asdbench.errors import InfrastructureError

Jobs = Callable[..., list[ResolvedJob]]
CLAIM = SimpleNamespace(is_lost=False)
STUDY = SimpleNamespace(
    key="k",
    system="mine",
    held_out=None,
    finished=[],
    load=lambda _: None,
    best_trial=lambda: None,
    untuned_trial=lambda: None,
)


class Pending:
    """Tasks that are over after two looks."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        self._outcomes, self._looks = outcomes, 0

    def wait(self, seconds: float) -> bool:
        self._looks += 1
        return self._looks > 2

    def outcomes(self) -> list[Outcome]:
        return self._outcomes


@pytest.fixture
def run(small_jobs: Jobs, store: JobStore, output: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What runs two tasks whose outcomes are given; it returns what failed."""
    state: dict[str, Any] = {"events": [], "submitted": []}
    monkeypatch.setattr(Session, "__enter__", lambda self: self)
    monkeypatch.setattr(Session, "__exit__", lambda self, *_: None)
    monkeypatch.setattr(Session, "events", lambda self: [state["events"].pop(0)] if state["events"] else [])
    monkeypatch.setattr(Session, "status", lambda self: {"waiting": 0})

    def started(
        *outcomes: Outcome,
        events: tuple[Event, ...] = (),
        studies: tuple[Any, ...] = (),
        gpus: bool = False,
        placement: Placement | None = None,
    ) -> list[Failure]:
        jobs = small_jobs()
        state["events"] = list(events)

        def submit(self: Session, owner: str, requests: list[Any]) -> Pending:
            state["submitted"] += [(owner, request.label, request.priority) for request in requests]
            state["stacks"] = {request.stack for request in requests}
            return Pending(list(outcomes))

        monkeypatch.setattr(Session, "submit", submit)
        connection = SimpleNamespace(is_local=True, node_id="n1", may_grow=False, may_have_gpus=gpus)
        with ProgressDisplay(output) as display:
            cluster = ClusterRun(
                connection,  # type: ignore[arg-type]
                store,
                jobs[0].data.workspace,
                placement=placement or Placement(),
                checkpoint_epochs=1,
                expected=2,
                display=display,
                monitor=RunMonitor(),
                on_trial=lambda *_: None,
            )
            with cluster:
                return cluster.run(by_training(jobs), studies=studies)

    started.state = state  # type: ignore[attr-defined]
    return started


def test_tasks_may_train_as_one_stacked_model_on_gpus_unless_the_user_wants_one_on_each(run: Any) -> None:
    run(Outcome("ok"), Outcome("ok"), gpus=True)
    assert len(run.state["stacks"] - {None}) == 1
    run(Outcome("ok"), Outcome("ok"), gpus=True, placement=Placement(jobs_per_gpu=1))
    assert run.state["stacks"] == {None}
    run(Outcome("ok"), Outcome("ok"))
    assert run.state["stacks"] == {None}


def test_tasks_are_asked_for_in_order_and_what_failed_is_returned(run: Any, output: Any) -> None:
    why = Failure("fan baseline-mse seed 0", "training diverged", bad_input=True)
    events = (TasksQueued(2), Note("host3 gets no more tasks"))
    failures = run(Outcome("user", failures=(why,)), Outcome("death", message="killed"), events=events)
    assert run.state["submitted"] == [
        ("run", "fan baseline-mse seed 0", (0, 0)),
        ("run", "valve baseline-mse seed 0", (0, 1)),
    ]
    assert failures == [why, Failure("valve baseline-mse seed 0", "killed", bad_input=False)]
    assert output.lines == ["note: host3 gets no more tasks"]


def test_what_is_said_to_be_done_and_is_not_stored_is_a_failure(run: Any) -> None:
    failures = run(Outcome("ok"), Outcome("ok"))
    assert [failure.label for failure in failures] == ["fan baseline-mse seed 0", "valve baseline-mse seed 0"]
    assert all("not in the storage" in failure.message and not failure.bad_input for failure in failures)


def test_a_storage_that_is_replaced_ends_the_run(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from asdbench.driver.run_status import StatusWriter

    def lost(self: StatusWriter) -> None:
        raise InfrastructureError("the storage was removed or replaced during the run")

    monkeypatch.setattr(StatusWriter, "check", lost)
    with pytest.raises(InfrastructureError, match="removed or replaced"):
        run(Outcome("ok"), Outcome("ok"))


def test_events_are_shown_while_a_search_waits_for_another_run(
    run: Any, output: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    @contextmanager
    def waiting(*_: Any, on_wait: Any, on_retry: Any, **__: Any) -> Iterator[Any]:
        on_wait("run abc works on this")
        on_retry()
        shown.extend(output.lines)
        yield CLAIM

    monkeypatch.setattr(cluster_run, "wait_for_claim", waiting)
    run(Outcome("ok"), Outcome("ok"), events=(Note("host3 gets no more tasks"),), studies=(STUDY,))
    assert shown == [
        "note: the search of mine waits: run abc works on this",
        "note: host3 gets no more tasks",
    ]


def test_the_scheduler_is_not_asked_without_a_pause_while_only_a_search_is_under_way(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses_s: list[float] = []

    class Search:
        error = None

        def wait(self, seconds: float) -> bool:
            pauses_s.append(seconds)
            return len(pauses_s) > 3

    looks = []
    monkeypatch.setattr(Session, "events", lambda self: looks.append("look") or [])
    monkeypatch.setattr(cluster_run, "wait_for_claim", lambda *_, **__: nullcontext(CLAIM))
    monkeypatch.setattr(ClusterRun, "_experiment", lambda *_: Search())
    run(Outcome("ok"), Outcome("ok"), studies=(STUDY,))
    assert pauses_s == [0.2, 0.2, 0.2, 0.2, 0.0]
    assert len(looks) == 2 + 3 + 1
