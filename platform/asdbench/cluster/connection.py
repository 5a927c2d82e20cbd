"""The connection to a Ray cluster, or to one that is started on this machine for the duration of a run."""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import nullcontext

# Ray Train checks its workers every 2 s by default: a worker's end or death would go unnoticed for that long.
# The other two settings would start processes whose output nobody reads.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
# The behavior of Ray's next version on machines without GPUs, chosen so that Ray does not warn of it.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# A thread of Ray that is late at shutdown would connect to any other cluster on this machine.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
# What `ray.init` sets in its thread, where new variables could crash code in C that reads the environment.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import AuthenticationError, RuntimeEnvSetupError

from asdbench.cluster import autoscaling
from asdbench.cluster.plugins import plugins_for_workers
from asdbench.errors import InfrastructureError, InputError

_PROBE_S = 2.0


class Connection:
    """A connection that is made in the background; ``with`` waits for it and ends a cluster started here.

    Starting takes seconds, mostly in other processes, so the driver does other things meanwhile. If it never
    enters the ``with`` block, the cluster ends with this process, which does not wait for it. Workers of a
    cluster that runs already receive the systems as this process sees them.

    Parameters
    ----------
    address : of a Ray cluster; ``"local"`` starts one on this machine
    dashboard : start Ray's dashboard, on the loopback interface, if the cluster is started here
    """

    def __init__(self, address: str, *, dashboard: bool = False) -> None:
        self._address = address
        self._dashboard = dashboard
        self.dashboard: str | None = None  # its address, once connected
        self._started = not ray.is_initialized()
        self._error: BaseException | None = None
        self._ready, self._over = threading.Event(), threading.Event()
        threading.Thread(target=self._connect, daemon=True).start()

    @property
    def is_local(self) -> bool:
        """Whether the cluster was started here, for this run."""
        return self._address == "local" and self._started

    @property
    def may_grow(self) -> bool:
        """Whether an autoscaler may add nodes to the cluster, once connected."""
        return not self.is_local and autoscaling.may_grow()

    @property
    def may_have_gpus(self) -> bool:
        """Whether the cluster has a GPU, or nodes with one may join it, once connected."""
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return not self.is_local or resources.get("GPU", 0) > 0

    @property
    def node_id(self) -> str:
        """Id of this process's node, once connected."""
        return str(ray.get_runtime_context().get_node_id())

    def __enter__(self) -> "Connection":
        self._ready.wait()
        if self._error is None:
            return self
        self._over.set()
        if not isinstance(self._error, Exception):
            raise self._error
        why = " ".join(str(self._error).split()) or repr(self._error)
        if self._address == "local":
            raise InfrastructureError(
                f"Ray cannot start on this machine ({why}); try again when the machine is less busy; "
                f"'asdbench run', which does not search, needs no Ray with --local"
            ) from self._error
        if isinstance(self._error, RuntimeEnvSetupError):
            message = (
                f"the systems cannot be sent to the Ray cluster at {self._address!r} ({why}); "
                f"keep data and models out of systems/ and of plugin packages"
            )
        elif any(isinstance(cause, AuthenticationError) for cause in _causes(self._error)):
            message = (
                f"the Ray cluster at {self._address!r} requires its token; set RAY_AUTH_MODE=token, and "
                f"copy ~/.ray/auth_token from its head node to this machine"
            )
        else:
            message = (
                f"no Ray cluster answers at {self._address!r} ({why}); start one, correct --address (or "
                f"RAY_ADDRESS), or use --address local to start one on this machine"
            )
            if not isinstance(self._error, OSError):  # something listens there
                message += "; if it requires a token, as Ray 2.60 does, set RAY_AUTH_MODE=token"
        raise InputError(message) from self._error

    def __exit__(self, *_: object) -> None:
        if self._started:
            ray.shutdown()
        self._over.set()

    def _connect(self) -> None:
        if self._started:
            self._init()
        self._ready.set()
        # The kernel ends Ray's processes with the thread that started them, so it stays until the end.
        self._over.wait()

    def _init(self) -> None:
        local = self._address == "local"
        try:
            _probe(self._address)
            # workers of a cluster that is started here see the files that this process sees
            with nullcontext() if local else plugins_for_workers() as runtime_env:
                context = ray.init(
                    address=self._address,
                    include_dashboard=self._dashboard if local else None,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    namespace="asdbench",
                    runtime_env=runtime_env,
                    # every worker that Ray starts in advance would import everything and then not be used
                    _system_config={"enable_worker_prestart": False, "prestart_worker_first_driver": False}
                    if local
                    else None,
                )
            self.dashboard = f"http://{context.dashboard_url}" if context.dashboard_url else None
        except BaseException as error:
            self._error = error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that caused it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _probe(address: str) -> None:
    """Raise ``OSError`` if nothing listens at an address with a port; Ray would take minutes to notice."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_S).close()
