import pickle

import pytest

from asdbench.engine.events import Failure, TaskFinished, TaskReport, TrainingProgress
from asdbench.errors import InfrastructureError, InputError


@pytest.mark.parametrize(("kind", "bad_input"), [(InputError, True), (InfrastructureError, False)])
def test_an_error_for_users_gives_its_message(kind: type[Exception], bad_input: bool) -> None:
    failure = Failure.from_error("fan mse seed 0", kind("no data set 'x'"))
    assert failure == Failure("fan mse seed 0", "no data set 'x'", bad_input=bad_input)


def test_a_bug_gives_its_traceback() -> None:
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError as error:
        broken = Failure.from_error("fan mse seed 0", error)
    assert not broken.bad_input
    assert broken.message.startswith("Traceback")
    assert broken.message.endswith("ZeroDivisionError: by zero")


def test_events_travel() -> None:
    for event in (
        TaskReport("a", "fan mse seed 0", TrainingProgress(2, 4, 1, {"loss": 0.5})),
        TaskFinished("a", "fan mse seed 0", (Failure("fan mse seed 0", "no", bad_input=False),)),
    ):
        assert pickle.loads(pickle.dumps(event)) == event
