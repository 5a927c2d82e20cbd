"""Each distinct error is shown once."""

from asdbench.driver.failures import failure_messages
from asdbench.engine.events import Failure


def shown(*failures: tuple[str, str]) -> list[str]:
    return failure_messages(Failure(label, message, bad_input=False) for label, message in failures)


def test_a_traceback_of_many_machine_types_is_shown_once() -> None:
    traceback = 'Traceback (most recent call last):\n  File "systems/a.py", line 3, in forward\nKeyError: [1]'
    text = shown(
        *((f"{machine} a seed 0", traceback) for machine in ("fan", "pump", "slider", "valve", "saw"))
    )
    assert text == [f"failed: fan a seed 0, pump a seed 0, slider a seed 0 and 2 more:\n{traceback}"]


def test_other_errors_are_shown_too() -> None:
    text = shown(("fan a seed 0", "no 'x'"), ("fan b seed 0", "no 'y'"), ("pump a seed 0", "no 'x'"))
    assert text == ["failed: fan a seed 0, pump a seed 0: no 'x'", "failed: fan b seed 0: no 'y'"]
