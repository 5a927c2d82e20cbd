"""The command ui: what it takes, and what it passes on."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asdbench.driver import board_server
from tests.commands import asdbench


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """How the board was shown."""
    options: dict[str, Any] = {}

    def show(workspace: Any, address: Any, **given: Any) -> None:
        options.update(given, address=address)

    monkeypatch.setattr(board_server, "show_board", show)
    return options


def test_it_serves_the_data_home_on_the_loopback_unless_told_otherwise(
    home: Path, shown: dict[str, Any]
) -> None:
    assert asdbench("ui") == 0
    assert (shown["host"], shown["port"]) == ("127.0.0.1", None)
    assert shown["address"].uri == f"sqlite:///{home}/mlflow.db"
    uri = "http://tracking.example"
    assert asdbench("ui", "--host", "0.0.0.0", "--port", "5005", "--mlflow-uri", uri) == 0
    assert (shown["host"], shown["port"], shown["address"].uri) == ("0.0.0.0", 5005, uri)


def test_a_port_that_is_no_number_is_bad_input(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asdbench("ui", "--port", "web") == 2
    assert "'web' is not a whole number" in capsys.readouterr().err


@contextmanager
def ended_at_last(command: list[str], environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Start a command that heeds Ctrl-C, also where these tests run in the background and do not."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.cluster
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_and_its_server(home: Path, number: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "SSH_CONNECTION": "no desktop"}
    command = [sys.executable, "-m", "asdbench", "ui"]
    with ended_at_last(command, environment) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        [page] = [line for line in lines if line.startswith("MLflow: ")]
        port = int(page.rsplit(":", 1)[1])
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        process.send_signal(number)
        assert "MLflow's server has ended" in process.stdout.read()
        assert process.wait(30) == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)
