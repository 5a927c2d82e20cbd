"""MLflow's web server on a database, for as long as somebody looks at it."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asdbench.errors import InfrastructureError, InputError
from asdbench.tracking.address import Address, without_password

LOOPBACK = "127.0.0.1"
_READY_S = 120.0
_STOPPED_S = 5.0
_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its workers would take 1 s of start-up and 300 MB
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_AI_GATEWAY": "false",
}


@contextmanager
def serving(address: Address, log: Path, *, host: str = LOOPBACK, port: int | None = None) -> Iterator[str]:
    """Run MLflow's server on a database; yield the address of its pages at once, while it starts.

    Parameters
    ----------
    address : of the database
    log : file for what the server prints
    host : address to listen on
    port : port to listen on; by default a free one

    Raises
    ------
    InputError
        The host or the port cannot be listened on.
    """
    chosen = _free_port(host, port)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        host,
        "--port",
        str(chosen),
        "--workers",
        "1",
    ]
    if address.artifacts is not None:
        command += ["--artifacts-destination", str(address.artifacts)]
    variables = {
        **os.environ,
        **_ENVIRONMENT,
        "MLFLOW_BACKEND_STORE_URI": address.uri,
    }  # may hold a password
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process, which ends the server
        )
    try:
        yield f"http://{_shown_host(host)}:{chosen}"
    finally:
        _stop(server)


def wait_until_ready(base: str, log: Path) -> None:
    """Wait until a server answers.

    Raises
    ------
    InfrastructureError
        It does not within two minutes; the message has the end of its log.
    """
    gives_up_s = time.monotonic() + _READY_S
    while time.monotonic() < gives_up_s:
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    lines = log.read_text(errors="replace").strip().splitlines()
    last = without_password(lines[-1]) if lines else "it printed nothing"
    raise InfrastructureError(f"MLflow's server does not answer at {base} ({last}); its log is {str(log)!r}")


def _free_port(host: str, port: int | None) -> int:
    """Return the port, or a free one."""
    try:
        with socket.create_server((host, port or 0)) as listener:
            return int(listener.getsockname()[1])
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        where = f"{host}:{port}" if port else host
        cure = "leave out --port for a free one" if port else "use --host with an address of this machine"
        raise InputError(f"cannot listen on {where} ({reason}); {cure}") from error


def _shown_host(host: str) -> str:
    """Return the host for addresses on this machine: one that means all is reached by the loopback."""
    return LOOPBACK if host in ("0.0.0.0", "::", "") else host


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """End a server and the processes that it has started."""
    for signal in (15, 9):
        try:
            os.killpg(server.pid, signal)
        except ProcessLookupError:
            break
        try:
            server.wait(_STOPPED_S)
            break
        except subprocess.TimeoutExpired:
            continue
    server.wait()
