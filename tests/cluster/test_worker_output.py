"""What workers print, on its way to the driver."""

import logging
import sys
import threading
import traceback
import warnings
from typing import Any

import pytest

from asdbench.cluster.worker_output import LineLimit, captured_output


class Lines(list[tuple[Any, ...]]):
    """What was sent."""

    def __call__(self, *line: Any) -> None:
        self.append(line)

    @property
    def texts(self) -> list[str]:
        return [line[2] for line in self]


def test_printed_lines_are_sent_and_still_written(capsys: pytest.CaptureFixture[str]) -> None:
    sent = Lines()
    before = sys.stdout, sys.stderr
    with captured_output(sent):
        print("one", "two")
        print("half", end="")
        print(" and half")
        print("odd", file=sys.stderr)
        sys.stdout.writelines(["three\n", "no end"])
        assert not sys.stdout.isatty()
    assert (sys.stdout, sys.stderr) == before
    print("after the end")
    info, warning = logging.INFO, logging.WARNING
    assert sent == [
        ("stdout", info, "one two"),
        ("stdout", info, "half and half"),
        ("stderr", warning, "odd"),
        ("stdout", info, "three"),
        ("stdout", info, "no end"),
    ]
    captured = capsys.readouterr()
    assert captured.out == "one two\nhalf and half\nthree\nno endafter the end\n"
    assert captured.err == "odd\n"


def test_a_warning_is_one_line_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    sent, shown, stderr = Lines(), Lines(), sys.stderr
    monkeypatch.setattr(warnings, "showwarning", shown)
    with captured_output(sent):
        warnings.warn("the clips are short", UserWarning, stacklevel=1)
    ((origin, level, text),) = sent
    assert (origin, level) == ("warnings", logging.WARNING)
    assert text.startswith("UserWarning: the clips are short (")
    assert "test_worker_output.py, line " in text
    assert warnings.showwarning is shown
    assert [line[4] for line in shown] == [stderr]  # not the stream whose lines are sent


def test_a_traceback_arrives_with_all_its_lines() -> None:
    sent = Lines()
    with captured_output(sent):
        try:
            raise RuntimeError("the system gave up")
        except RuntimeError:
            traceback.print_exc()
    assert sent.texts[0] == "Traceback (most recent call last):"
    assert sent.texts[-1] == "RuntimeError: the system gave up"


def test_a_handler_made_during_one_task_is_heard_in_the_next() -> None:
    first, second = Lines(), Lines()
    logger = logging.Logger("their_package")
    with captured_output(first):
        logger.addHandler(logging.StreamHandler())  # keeps the stream that it finds
        logger.warning("in the first task")
    logger.warning("between them")
    with captured_output(second):
        logger.warning("in the second task")
    assert (first.texts, second.texts) == (["in the first task"], ["in the second task"])


def test_a_progress_bar_is_its_last_state() -> None:
    sent = Lines()
    with captured_output(sent):
        for percent in range(0, 101, 10):
            sys.stderr.write(f"\r{percent}%")
        sys.stderr.write("\n")
        print("carried\r\nreturns\r\n")
    assert sent.texts == ["100%", "carried", "returns"]


def test_a_runaway_print_is_cut_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    sent = Lines()
    with captured_output(sent):
        for number in range(10_000):
            print(f"step {number}")
        sys.stdout.write("x" * 10_000_000)
    capsys.readouterr()
    assert len(sent) == 51
    assert sent.texts[-1] == "(9951 more printed; all lines are in the worker's log on its host)"


def test_lines_flow_again_in_the_next_window() -> None:
    sent, now = Lines(), [0.0]
    limit = LineLimit(sent, max_lines=2, window_s=10.0, clock=lambda: now[0])
    for number in range(3):
        limit.send("stdout", logging.INFO, str(number))
    now[0] = 10.0
    limit.send("stdout", logging.INFO, "later")
    limit.close()
    assert sent.texts == [
        "0",
        "1",
        "(1 more printed; all lines are in the worker's log on its host)",
        "later",
    ]


def test_a_long_line_is_shortened() -> None:
    sent = Lines()
    LineLimit(sent).send("stdout", logging.INFO, "x" * 5000)
    assert sent.texts == [f"{'x' * 2000} ..."]


def test_a_driver_that_is_gone_does_not_make_print_fail(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> None:
        print("sending")  # must not be sent again, without an end
        raise ConnectionError

    with captured_output(fail):
        print("hello")
    assert capsys.readouterr().out == "hello\nsending\n"


def test_lines_of_several_threads_stay_whole() -> None:
    sent = Lines()
    with captured_output(sent):
        threads = [threading.Thread(target=lambda: print("a whole line")) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "".join(sent.texts).count("a whole line") == 20
