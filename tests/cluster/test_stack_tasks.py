"""How the tasks of a stack end: each by its own error, or all by one whose origin is not known."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asdbench.cluster import stack_tasks
from asdbench.cluster.messages import Outcome, TaskRequest
from asdbench.engine import stacks
from asdbench.engine.jobs import Job
from asdbench.errors import InputError


def members(*names: str) -> list[Any]:
    requests = [TaskRequest(name, name, f"task {name}", ("mse",), (0.0,), b"") for name in names]
    return [stack_tasks._Member(request, request.key, None) for request in requests]  # type: ignore[arg-type]


def outcomes(
    monkeypatch: pytest.MonkeyPatch, result: Any, *names: str, stored: tuple[str, ...] = ()
) -> list[Outcome]:
    """Return the outcomes of tasks if their stack returns or raises something."""

    def run_stack(*_: object, **__: object) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(stacks, "run_stack", run_stack)
    store = SimpleNamespace(is_done=lambda task: task in stored, root="/results")
    context = SimpleNamespace(checkpoint_epochs=1, workspace=None)
    return stack_tasks._outcomes(members(*names), store, context)  # type: ignore[arg-type]


def test_each_task_has_its_own_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    diverged, disk = InputError("training diverged"), OSError("the disk is full")
    job = SimpleNamespace(job=Job("mse", {}, "tiny", "fan", 0))
    result = [[], diverged, disk, [(job, diverged)], []]
    found = outcomes(monkeypatch, result, *"abcde", stored=("a",))
    assert [each.kind for each in found] == ["ok", "user", "infrastructure", "user", "infrastructure"]
    assert [each.label for each in found[1].failures + found[3].failures] == ["task b", "fan mse seed 0"]
    assert "the results are not in the storage" in found[4].message


def test_an_error_of_the_whole_stack_is_no_tasks_own_until_each_has_run_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = ArithmeticError("an exception in the system")
    assert [each.kind for each in outcomes(monkeypatch, error, *"ab")] == ["inseparable"] * 2
    assert [each.kind for each in outcomes(monkeypatch, error, "a")] == ["user"]


def test_a_stack_that_memory_does_not_hold_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = outcomes(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"), *"ab")
    assert [(each.kind, each.is_memory) for each in found] == [("infrastructure", True)] * 2
