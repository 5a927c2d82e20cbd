"""A backlog is demand: an autoscaler adds nodes to a head without CPUs, and releases them when idle."""

import json
import os
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

import asdbench
from asdbench.cluster.autoscaling import pending_demand
from asdbench.cluster.connection import Connection
from asdbench.testing.tiny import write_tiny
from tests.cluster.played_hosts import MEMORY_BYTES

pytestmark = pytest.mark.cluster

HEAD_ID = (
    "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # the only one that Ray's fake provider takes
)
COMMANDS = (
    "setup", "initialization", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray",
)  # fmt: skip


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def autoscaling_config(address: str) -> dict[str, Any]:
    """Return a configuration of up to one worker, whose processes run on this machine."""
    return {
        "cluster_name": "fake",
        "max_workers": 1,
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
                "resources": {"CPU": 1, "object_store_memory": MEMORY_BYTES},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 1,
            },
        },
        "head_node_type": "ray.head.default",
        **{f"{when}_commands": [] for when in COMMANDS},
        **{"auth": {}, "file_mounts": {}},
        **{"cluster_synced_files": [], "rsync_exclude": [], "rsync_filter": []},
        "file_mounts_sync_continuously": False,
    }


@pytest.fixture(autouse=True, scope="module")
def _no_token() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield
        ray.shutdown()  # a test that was interrupted may have left a connection


@pytest.fixture(scope="module")
def growing() -> Iterator[str]:
    """Address of a cluster that an autoscaler grows, of a head without CPUs started with ``ray start``."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # not in pytest's: sockets need a short path
    port = free_port()
    address = f"127.0.0.1:{port}"
    (folder / "autoscaling.json").write_text(json.dumps(autoscaling_config(address)))
    command = [
        f"{sysconfig.get_path('scripts')}/ray", "start", "--head", "--block", f"--port={port}",
        "--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--include-dashboard=false",
        "--disable-usage-stats", "--num-cpus=0", f"--object-store-memory={MEMORY_BYTES}",
        f"--autoscaling-config={folder / 'autoscaling.json'}",
    ]  # fmt: skip
    settings = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "0",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    with (folder / "log").open("wb") as log:
        head = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)
    try:
        until(lambda: "Ray runtime started" in (folder / "log").read_text() or head.poll() is not None)
        assert head.poll() is None, (folder / "log").read_text()
        yield address
    finally:
        head.terminate()
        head.wait(30)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 150
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 150 s"
        time.sleep(0.2)


def nodes() -> set[str]:
    """Return the ids of the nodes that are alive."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]


def test_pending_tasks_are_demand_on_which_the_cluster_grows_and_shrinks(growing: str) -> None:
    def work() -> None:  # until the cluster has grown, however long a node takes to start
        while sum(node["Alive"] for node in ray.nodes()) < 2:  # type: ignore[no-untyped-call]
            time.sleep(0.2)

    with Connection(growing) as connection:
        assert connection.may_grow
        assert pending_demand() == []
        assert nodes() == {HEAD_ID}
        task = ray.remote(num_cpus=1)(work)
        refs = [task.remote() for _ in range(3)]
        until(lambda: pending_demand() == [({"CPU": 1.0}, 3)])
        ray.get(refs, timeout=150)
        until(lambda: pending_demand() == [])
        until(lambda: nodes() == {HEAD_ID})


def test_a_run_on_a_head_without_cpus_waits_for_workers_and_ends(
    growing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asdbench.add_data("tiny", write_tiny(tmp_path / "recordings", machine_types=("fan",)), home=tmp_path)
    before = all_nodes(growing)
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    result = asdbench.run(
        "baseline-mse",
        data="tiny",
        settings={"epochs": 1},
        cluster=asdbench.Cluster(address=growing),
        home=tmp_path,
    )
    assert result.ok
    assert all_nodes(growing) > before


def all_nodes(address: str) -> set[str]:
    """Return the ids of all nodes of a cluster, those that were released, too."""
    with Connection(address):
        return {node["NodeID"] for node in ray.nodes()}  # type: ignore[no-untyped-call]


@pytest.fixture
def start_head(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Start the head of a cluster without an autoscaler and without CPUs."""
    started: list[Any] = []

    def start(version: str) -> Any:
        monkeypatch.setenv("RAY_enable_autoscaler_v2", version)
        monkeypatch.setenv("AUTOSCALER_UPDATE_INTERVAL_S", "1")
        head = {"num_cpus": 0, "object_store_memory": MEMORY_BYTES, "include_dashboard": False}
        started.append(Cluster(initialize_head=True, head_node_args=head))
        return started[-1]

    yield start
    for cluster in started:
        cluster.shutdown()


def test_a_cluster_without_an_autoscaler_does_not_grow(start_head: Callable[[str], Any]) -> None:
    with Connection(start_head("0").address) as connection:
        assert not connection.may_grow


def test_the_newer_autoscaler_is_known_by_the_types_of_its_nodes(start_head: Callable[[str], Any]) -> None:
    cluster = start_head("1")
    with Connection(cluster.address) as connection:
        assert not connection.may_grow
        named = {"RAY_NODE_TYPE_NAME": "group", "RAY_CLOUD_INSTANCE_ID": "worker"}  # as KubeRay starts it
        cluster.add_node(num_cpus=0, object_store_memory=MEMORY_BYTES, env_vars=named)
        assert connection.may_grow
