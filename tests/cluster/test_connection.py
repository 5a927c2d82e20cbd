"""What an address that leads nowhere says, and how soon."""

import socket
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import AuthenticationError, RuntimeEnvSetupError

from asdbench.cluster import autoscaling
from asdbench.cluster.connection import Connection
from asdbench.errors import InfrastructureError, InputError


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("address", ["foo", "foo:bar", "nowhere.invalid:6379", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_named_with_the_cure(address: str) -> None:
    with (
        pytest.raises(InputError, match=rf"no Ray cluster answers at '{address}' \(.*\); .* --address local"),
        Connection(address),
    ):
        pass


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_dead_address_is_told_at_once(scheme: str, capfd: pytest.CaptureFixture[str]) -> None:
    address = f"{scheme}127.0.0.1:{free_port()}"
    began = time.monotonic()
    with pytest.raises(InputError, match=f"answers at '{address}' .*refused"), Connection(address):
        pass
    assert time.monotonic() - began < 20  # Ray would take minutes
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        ("local", InfrastructureError, "cannot start on this machine"),
        ("auto", InputError, "answers"),
    ],
)
def test_whatever_ray_raises_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, address: str, kind: type[Exception], message: str
) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("it\n  broke")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(kind, match=rf"{message}.* \(it broke\)"), Connection(address):
        pass


def test_a_port_that_answers_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def connect(address: str, **_: Any) -> Any:
        asked.append(address)
        return SimpleNamespace(dashboard_url="127.0.0.1:8265")

    monkeypatch.setattr(ray, "init", connect)
    monkeypatch.setattr(ray, "shutdown", lambda: asked.append("ended"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with Connection(address) as connection:
            assert connection.dashboard == "http://127.0.0.1:8265"
    assert asked == [address, "ended"]


@pytest.mark.parametrize("address", ["auto", "local"])
def test_plugins_travel_only_to_a_cluster_that_was_not_started_here(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    sent: list[Any] = []

    def connect(runtime_env: Any, **_: Any) -> Any:
        sent.append(runtime_env)
        return SimpleNamespace(dashboard_url="")

    monkeypatch.setattr(ray, "init", connect)
    with Connection(address):
        (runtime_env,) = sent
    assert (runtime_env is None) is (address == "local")
    assert address == "local" or runtime_env["py_modules"][0].endswith("/systems")


def test_plugins_that_cannot_be_sent_are_the_stated_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeEnvSetupError("Package size (600.00MiB) exceeds the maximum")

    monkeypatch.setattr(ray, "init", fail)
    with (
        pytest.raises(InputError, match=r"cannot be sent .* at 'auto' \(.*600.*\); keep data"),
        Connection("auto"),
    ):
        pass


def test_a_cluster_that_requires_its_token_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        try:
            raise AuthenticationError("InvalidAuthToken")
        except AuthenticationError as error:
            raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379") from error

    monkeypatch.setattr(ray, "init", fail)
    with (
        pytest.raises(InputError, match="'auto' requires its token; set RAY_AUTH_MODE=token"),
        Connection("auto"),
    ):
        pass


@pytest.mark.cluster
@pytest.mark.parametrize("delay_s", [0.0, 1.0, 5.0])
def test_a_connection_that_is_never_used_lets_the_process_end(delay_s: float) -> None:
    program = (
        "import time; from asdbench.cluster.connection import Connection; "
        f"Connection('local'); time.sleep({delay_s})"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("address", "resources", "expected"),
    [("local", {"CPU": 2.0}, False), ("local", {"CPU": 2.0, "GPU": 1.0}, True), ("10.0.0.1:6379", {}, True)],
)
def test_nodes_with_gpus_may_join_any_cluster_but_one_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, address: str, resources: dict[str, float], expected: bool
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: resources)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(Connection, "_connect", lambda self: None)
    assert Connection(address).may_have_gpus is expected


@pytest.mark.parametrize(("address", "expected"), [("local", False), ("10.0.0.1:6379", True)])
def test_a_cluster_that_was_started_for_the_run_does_not_grow(
    monkeypatch: pytest.MonkeyPatch, address: str, expected: bool
) -> None:
    monkeypatch.setattr(autoscaling, "may_grow", lambda: True)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(Connection, "_connect", lambda self: None)
    assert Connection(address).may_grow is expected
