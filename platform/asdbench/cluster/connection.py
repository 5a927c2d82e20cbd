"""The connection to a Ray cluster, or a cluster of this machine for as long as a run takes."""

import logging
import os
import socket
import threading

# Ray Train asks its workers how they are every 2 s by default, which is how long an end or a death would go
# unnoticed. The other two would start processes whose work nobody looks at.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
# The behavior of Ray's next version on machines without GPUs, chosen so that Ray does not warn of it.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# A thread of Ray's that is late at the end would connect to whatever other cluster this machine has.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

import ray

from asdbench.errors import InputError

_PROBE_S = 2.0


class Connection:
    """A cluster that is being connected to; ``with`` waits for it, and ends it if it was started for this.

    Starting takes seconds, mostly of other processes; the driver has other work meanwhile. If it never
    comes to the ``with``, the cluster ends with this process, which does not wait for it.

    Parameters
    ----------
    address : of a Ray cluster; ``"local"`` starts one on this machine
    dashboard : start Ray's dashboard with a cluster that is started here, on the loopback interface
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

    def __enter__(self) -> "Connection":
        self._ready.wait()
        if self._error is None:
            return self
        self._over.set()
        if not isinstance(self._error, Exception):
            raise self._error
        why = " ".join(str(self._error).split()) or repr(self._error)
        if self._address == "local":
            message = f"Ray cannot start on this machine ({why}); mend that, or run without it by --local"
        else:
            message = (
                f"no Ray cluster answers at {self._address!r} ({why}); start one, correct --address (or "
                f"RAY_ADDRESS), or give --address local for one on this machine"
            )
        raise InputError(message) from self._error

    def __exit__(self, *_: object) -> None:
        if self._started:
            ray.shutdown()
        self._over.set()

    def _connect(self) -> None:
        if self._started:
            self._init()
        self._ready.set()
        # The kernel ends Ray's processes with the thread that started them: it stays until all is over.
        self._over.wait()

    def _init(self) -> None:
        local = self._address == "local"
        try:
            _probe(self._address)
            context = ray.init(
                address=self._address,
                include_dashboard=self._dashboard if local else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                namespace="asdbench",
                # every worker that Ray starts ahead would import what it needs and then not be used
                _system_config={"enable_worker_prestart": False, "prestart_worker_first_driver": False}
                if local
                else None,
            )
            self.dashboard = f"http://{context.dashboard_url}" if context.dashboard_url else None
        except BaseException as error:
            self._error = error


def _probe(address: str) -> None:
    """Raise ``OSError`` if nothing listens at an address with a port, which Ray takes minutes to find."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_S).close()
