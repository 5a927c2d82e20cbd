import torch

from asdbench.engine.events import Report, Waiting
from asdbench.engine.runtime import Runtime


def test_a_single_process_has_rank_zero_and_its_own_values() -> None:
    runtime = Runtime()
    assert (runtime.is_rank_zero, runtime.size, runtime.device) == (True, 1, torch.device("cpu"))
    assert runtime.broadcast("value") == "value"
    assert not Runtime(rank=1, size=2).is_rank_zero


def test_a_wait_is_reported_with_its_reason() -> None:
    reports: list[Report] = []
    Runtime(report=reports.append).report_waiting("no space left")
    assert reports == [Waiting("no space left")]
