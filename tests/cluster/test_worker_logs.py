"""Log records of workers on their way to the driver."""

import io
import logging
import socket

import pytest
from rich.console import Console

from asdbench.cluster.worker_logs import forwarded_logs
from asdbench.driver.progress import ProgressDisplay
from asdbench.engine.events import LogLine


def test_a_record_reaches_the_driver_with_the_name_of_its_host(caplog: pytest.LogCaptureFixture) -> None:
    events: list[LogLine] = []
    with forwarded_logs(events.append):
        logging.getLogger("asdbench.engine.run_task").info("training %s", "fan")
        logging.getLogger("asdbench.engine.run_task").debug("a detail")
    logging.getLogger("asdbench.engine.run_task").warning("after the end")
    host = socket.gethostname()
    assert events == [LogLine(host, "asdbench.engine.run_task", logging.INFO, "training fan")]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        ProgressDisplay(Console(file=io.StringIO())).on_event(events[0])
    assert caplog.record_tuples == [("asdbench.engine.run_task", logging.INFO, f"[{host}] training fan")]


def test_a_print_in_a_task_is_shown_with_host_and_task_and_a_log_record_only_with_verbose(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shown = io.StringIO()
    events: list[LogLine] = []
    with forwarded_logs(events.append, label="fan my-system seed 0"):
        print("12 clips are silent [all]")
        logging.getLogger("asdbench.engine.run_task").info("a detail")
    host = socket.gethostname()
    with caplog.at_level(logging.INFO), ProgressDisplay(Console(file=shown)) as display:
        for event in events:
            display.on_event(event)
    assert shown.getvalue() == f"[{host} fan my-system seed 0] 12 clips are silent [all]\n"
    assert caplog.messages[1:] == [f"[{host} fan my-system seed 0] a detail"]
