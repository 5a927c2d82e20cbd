"""MLflow's server: it answers, on the loopback only, and ends with its processes."""

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from asdbench.errors import InfrastructureError, InputError
from asdbench.io.workspace import Workspace
from asdbench.tracking import server
from asdbench.tracking.address import Address
from asdbench.tracking.server import serving, wait_until_ready


def test_a_server_shows_the_store_and_ends(home: Path) -> None:
    log = home / "logs" / "mlflow.log"
    with serving(Address.from_workspace(Workspace.from_environment()), log) as base:
        wait_until_ready(base, log)
        with urllib.request.urlopen(base) as page:
            assert b"<title>MLflow</title>" in page.read()
        assert base.startswith("http://127.0.0.1:")
        port = int(base.rsplit(":", 1)[1])
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{port} .* leave out --port"):
            serving(Address("sqlite:///x"), log, port=port).__enter__()
    time.sleep(0.2)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=2)


def test_a_host_of_another_machine_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot listen on 192\.0\.2\.1 .* --host"):
        serving(Address("sqlite:///x"), tmp_path / "log", host="192.0.2.1").__enter__()


def test_a_server_that_does_not_answer_is_told_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_READY_S", 0.3)
    log = tmp_path / "log"
    log.write_text("starting\ncannot connect to postgresql://me:hush@db\n")
    with pytest.raises(InfrastructureError, match=r"postgresql://\*\*\*@db") as raised:
        wait_until_ready("http://127.0.0.1:9", log)
    assert "hush" not in str(raised.value)


def test_what_a_server_has_started_ends_with_it() -> None:
    script = "import subprocess; subprocess.run(['sleep', '100'])"
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    server._stop(process)
    assert process.returncode is not None
