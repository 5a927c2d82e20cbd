"""Log records of workers on their way to the driver."""

import asyncio
import io
import logging
import socket

import pytest
from rich.console import Console

from asdbench.cluster.board import Board
from asdbench.cluster.worker_logs import forwarded_logs
from asdbench.driver.progress import ProgressDisplay
from asdbench.engine.events import LogLine


def test_a_record_reaches_the_driver_with_the_name_of_its_host(caplog: pytest.LogCaptureFixture) -> None:
    board = Board()
    with forwarded_logs(lambda line: asyncio.run(board.tell(line))):
        logging.getLogger("asdbench.engine.run_task").info("training %s", "fan")
        logging.getLogger("asdbench.engine.run_task").debug("a detail")
    logging.getLogger("asdbench.engine.run_task").warning("after the end")
    events = asyncio.run(board.listen())
    host = socket.gethostname()
    assert events == [LogLine(host, "asdbench.engine.run_task", logging.INFO, "training fan")]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        ProgressDisplay({}, Console(file=io.StringIO())).on_event(events[0])
    assert caplog.record_tuples == [("asdbench.engine.run_task", logging.INFO, f"[{host}] training fan")]
