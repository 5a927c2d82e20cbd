"""What the connected Ray cluster says about its autoscaler."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import ray
from ray.autoscaler.v2.schema import ClusterStatus
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental.internal_kv import _internal_kv_get

_V1_STATUS = "__autoscaling_status"  # where Ray's older autoscaler reports, every few seconds
_ANONYMOUS = "node_"  # prefix of the type of a node that no autoscaler knows
_FIRST_REPORT_S, _POLL_S = 15.0, 0.5


def may_grow() -> bool:
    """Return whether an autoscaler may add nodes to the connected cluster.

    That is so if the cluster launcher or KubeRay manages it: its nodes then have types. Nodes that somebody
    adds to a cluster without an autoscaler are not foreseen. A cluster that KubeRay manages without
    ``enableInTreeAutoscaling`` cannot be told from one with it.

    The first report of an autoscaler takes some seconds after the start of its cluster; it is waited for only
    if the cluster has no CPU yet.
    """
    if is_autoscaler_v2(fetch_from_server=True):
        status = _status()
        types = {node.ray_node_type_name for node in status.active_nodes + status.idle_nodes}
    else:
        has_cpus = ray.cluster_resources().get("CPU")  # type: ignore[no-untyped-call]
        types = _v1_node_types(0.0 if has_cpus else _FIRST_REPORT_S)
    return any(not name.startswith(_ANONYMOUS) for name in types)


def pending_demand() -> list[tuple[dict[str, float], int]]:
    """Return the resources that tasks, actors and placement groups wait for, each with its count.

    This is what an autoscaler acts on. Ray updates it about once per second.
    """
    counts: Counter[tuple[tuple[str, float], ...]] = Counter()
    for bundle, count in _bundles(_status()):
        counts[tuple(sorted(bundle.items()))] += count
    return [(dict(bundle), count) for bundle, count in sorted(counts.items())]


def _bundles(status: ClusterStatus) -> Iterator[tuple[dict[str, float], int]]:
    demands = status.resource_demands
    for demand in [*demands.ray_task_actor_demand, *demands.placement_group_demand]:
        for bundle in demand.bundles_by_count:
            yield dict(bundle.bundle), bundle.count


def _status() -> ClusterStatus:
    return get_cluster_status(ray.get_runtime_context().gcs_address)


def _v1_node_types(timeout_s: float) -> set[str]:
    """Return the types of the nodes that the older autoscaler has, starts or waits for."""
    deadline = time.monotonic() + timeout_s
    while True:
        report: dict[str, Any] = json.loads(_internal_kv_get(_V1_STATUS) or b"{}")
        nodes = report.get("autoscaler_report") or {}
        types = {*nodes.get("active_nodes", {}), *nodes.get("pending_launches", {})}
        if types or time.monotonic() >= deadline:  # its first report may name no node yet
            return types
        time.sleep(_POLL_S)
