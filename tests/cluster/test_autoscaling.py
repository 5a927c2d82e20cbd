"""A backlog is demand: an autoscaler adds nodes to a head without CPUs, and releases them when idle."""

import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asdbench.cluster import autoscaling
from asdbench.testing.tiny import write_tiny

PLATFORM = Path(autoscaling.__file__).parents[2]
HEAD_ID = (
    "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # the only one that Ray's fake provider takes
)
COMMANDS = (
    "setup", "initialization", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray",
)  # fmt: skip
DRIVER = """
import time
import ray
from asdbench.cluster.autoscaling import pending_demand
from asdbench.cluster.connection import Connection

def until(condition):
    deadline = time.monotonic() + 150
    while not condition():
        assert time.monotonic() < deadline, (pending_demand(), ray.nodes())
        time.sleep(0.2)

def n_nodes():
    return sum(node["Alive"] for node in ray.nodes())

@ray.remote(num_cpus=1)
def work():  # until the cluster has grown, however long a node takes to start
    until(lambda: n_nodes() == 3)

with Connection({address!r}) as connection:
    {body}
print("done")
"""
GROWS = """
    assert connection.may_grow
    assert pending_demand() == []
    assert n_nodes() == 1
    refs = [work.remote() for _ in range(3)]
    until(lambda: pending_demand() == [({"CPU": 1.0}, 3)])
    ray.get(refs, timeout=150)
    until(lambda: pending_demand() == [])
    until(lambda: n_nodes() == 1)
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def autoscaling_config(address: str) -> dict[str, Any]:
    """Return a configuration of up to two workers that are processes on this machine."""
    return {
        "cluster_name": "fake",
        "max_workers": 2,
        "idle_timeout_minutes": 0.05,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "fake_multinode",
            "use_node_id_as_ip": True,
            "launch_multiple": True,
            "head_node_id": HEAD_ID,
            "gcs_address": address,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 1, "object_store_memory": 80_000_000},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 2,
            },
        },
        "head_node_type": "ray.head.default",
        **{f"{when}_commands": [] for when in COMMANDS},
        **{"auth": {}, "file_mounts": {}},
        **{"cluster_synced_files": [], "rsync_exclude": [], "rsync_filter": []},
        "file_mounts_sync_continuously": False,
    }


StartHead = Callable[..., str]


@pytest.fixture
def start_head() -> Iterator[StartHead]:
    """Start the head of a cluster with ``ray start``; return its address."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # not in pytest's: sockets need a short path
    heads: list[subprocess.Popen[bytes]] = []

    def start(*, autoscales: bool = False, **environment: str) -> str:
        port = free_port()
        address = f"127.0.0.1:{port}"
        command = [
            f"{sysconfig.get_path('scripts')}/ray", "start", "--head", "--block", f"--port={port}",
            "--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--include-dashboard=false",
            "--disable-usage-stats", "--num-cpus=0", "--object-store-memory=80000000",
        ]  # fmt: skip
        if autoscales:
            (folder / "autoscaling.json").write_text(json.dumps(autoscaling_config(address)))
            command.append(f"--autoscaling-config={folder / 'autoscaling.json'}")
            environment["RAY_FAKE_CLUSTER"] = "1"
        settings = {"RAY_AUTH_MODE": "disabled", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, env={**os.environ, **settings, **environment}, stdout=log, stderr=log
            )
        heads.append(process)
        deadline = time.monotonic() + 150
        while "Ray runtime started" not in (folder / "log").read_text():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "the head did not start"
            time.sleep(0.2)
        return address

    yield start
    for head in heads:
        head.terminate()
        head.wait(30)


def drive(address: str, body: str) -> None:
    """Run statements in a driver that is connected to a cluster."""
    program = DRIVER.format(address=address, body=body.strip())
    environment = {**os.environ, "PYTHONPATH": str(PLATFORM), "RAY_AUTH_MODE": "disabled"}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=280
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


@pytest.mark.cluster
def test_pending_tasks_are_demand_on_which_the_cluster_grows_and_shrinks(start_head: StartHead) -> None:
    drive(start_head(autoscales=True, RAY_enable_autoscaler_v2="0"), GROWS)


@pytest.mark.cluster
def test_a_run_on_a_head_without_cpus_waits_for_workers_and_ends(
    start_head: StartHead, tmp_path: Path
) -> None:
    address = start_head(autoscales=True, RAY_enable_autoscaler_v2="0")
    recordings = write_tiny(tmp_path / "recordings", machine_types=("fan", "valve"))
    environment = {
        **os.environ,
        "PYTHONPATH": str(PLATFORM),
        "RAY_AUTH_MODE": "disabled",
        "ASDBENCH_HOME": str(tmp_path / "home"),
        "ASDBENCH_CACHE": str(tmp_path / "cache"),
    }

    def asdbench(*arguments: str) -> str:
        command = [sys.executable, "-m", "asdbench", *arguments]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    asdbench("data", "add", "tiny", str(recordings))
    output = asdbench("run", "baseline-mse", "--data", "tiny", "--address", address, "--set", "epochs=1")
    assert "done 2/2" in output
    drive(address, "assert len(ray.nodes()) > 1")  # those that were released are listed, too


@pytest.mark.cluster
@pytest.mark.parametrize("version", ["0", "1"])
def test_a_cluster_without_an_autoscaler_does_not_grow(start_head: StartHead, version: str) -> None:
    drive(start_head(RAY_enable_autoscaler_v2=version), "assert not connection.may_grow")


@pytest.mark.cluster
def test_the_newer_autoscaler_is_known_by_the_types_of_its_nodes(start_head: StartHead) -> None:
    named = {"RAY_NODE_TYPE_NAME": "headgroup", "RAY_CLOUD_INSTANCE_ID": "head"}  # as KubeRay starts it
    drive(start_head(RAY_enable_autoscaler_v2="1", **named), "assert connection.may_grow")


@pytest.mark.cluster
def test_a_cluster_that_was_started_for_the_run_does_not_grow() -> None:
    drive("local", "assert not connection.may_grow")
