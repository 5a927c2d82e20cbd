import pickle

from asdbench.engine.events import Failure, TaskFinished, TaskReport, TrainingProgress
from asdbench.errors import InfrastructureError, InputError


def test_bad_input_gives_its_message_and_a_bug_its_traceback() -> None:
    refused = Failure.from_error(3, ("a", "b"), InputError("no data set 'x'"))
    assert refused == Failure(3, ("a", "b"), "no data set 'x'", bad_input=True)
    broken_disk = Failure.from_error(3, ("a",), InfrastructureError("the disk is away"))
    assert broken_disk == Failure(3, ("a",), "the disk is away", bad_input=False)
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError as error:
        broken = Failure.from_error(3, ("a",), error)
    assert not broken.bad_input
    assert broken.message.startswith("Traceback")
    assert broken.message.endswith("ZeroDivisionError: by zero")


def test_events_travel() -> None:
    for event in (
        TaskReport(1, TrainingProgress(2, 4, 1, {"loss": 0.5})),
        TaskFinished(1, (Failure(1, (), "no", bad_input=False),)),
    ):
        assert pickle.loads(pickle.dumps(event)) == event
