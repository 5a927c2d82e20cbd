"""Hosts that a test plays on this machine: nodes of one Ray cluster, each with a name and faults of its own.

Each node is a raylet with other environment variables. ``sitecustomize`` makes their worker processes what
they play: another host name, older code, a torch that ends the process. A fault is a file, so that it comes
and goes while the node is up.
"""

import os
import shutil
from pathlib import Path
from typing import Any, Literal

from ray.cluster_utils import Cluster

import asdbench

Fault = Literal["cache", "torch", "code"]

PLATFORM = Path(asdbench.__file__).parents[1]
ROOT = Path(__file__).parents[2]
MEMORY_BYTES = 80_000_000
# Each worker imports everything. Ray starts some in advance, which are then not used, and ends those that are
# idle for a second, unless a node has as many CPUs.
FOR_TESTS = {
    "enable_worker_prestart": False,
    "prestart_worker_first_driver": False,
    "idle_worker_killing_time_threshold_ms": 600_000,
}

SITECUSTOMIZE = """
import os
import socket
import sys
from pathlib import Path

HOST = os.environ.get("PLAYED_HOST")
if HOST and any("worker" in word for word in sys.orig_argv):
    faults = Path(os.environ["PLAYED_FAULTS"])
    socket.gethostname = lambda: HOST
    if (faults / f"code {HOST}").exists():
        sys.path.insert(0, str(faults / "older"))

    class Dying:
        def find_spec(self, name, path=None, target=None):
            if name == "torch" and (faults / f"torch {HOST}").exists():
                os._exit(1)

    sys.meta_path.insert(0, Dying())
"""

PROBE = '''
"""The baseline with a size to search that takes other features, and notes of each training that begins."""

import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import asdbench.spec  # an older host differs in it
from asdbench.config import Range, tunable
from systems.baseline_mse import BaselineMse, Config as Base


@dataclass(frozen=True)
class Config(Base):
    epochs: int = tunable(1, minimum=1)
    hidden: int = tunable(8, minimum=1)
    n_mels: int = tunable(32, Range(16, 64, log=True), minimum=8)
    fails: bool = tunable(False, searched=False)
    pause_s: float = tunable(0.0, minimum=0.0, searched=False)


class Probe(BaselineMse):
    """The baseline; notes that a training begins."""

    Config = Config
    presets = {}

    def stages(self, steps_per_epoch):
        if os.environ.get("PLAYED_TRAININGS"):
            (Path(os.environ["PLAYED_TRAININGS"]) / uuid.uuid4().hex).touch()
        time.sleep(self.config.pause_s)
        return super().stages(steps_per_epoch)

    def forward(self, batch, update, progress):
        if self.config.fails:
            raise ArithmeticError("an exception in the system")
        return super().forward(batch, update, progress)
'''


def write_plugin(folder: Path) -> Path:
    """Write the system ``probe`` as an installed package, and what nodes import first; return the folder."""
    metadata = folder / "probe-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    (folder / "probe_system.py").write_text(PROBE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[asdbench.systems]\nprobe = probe_system:Probe\n")
    return folder


class Hosts:
    """A Ray cluster: a head without CPUs, which has the driver, and hosts of one CPU each that come and go.

    Attributes
    ----------
    folder : of faults, caches, and the notes of trainings
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trainings = folder / "trainings"
        self._faults = folder / "faults"
        self._plugin = write_plugin(folder / "plugin")
        for made in (self.trainings, self._faults, folder / "caches"):
            made.mkdir()
        shutil.copytree(PLATFORM, self._faults / "older", ignore=shutil.ignore_patterns("__pycache__"))
        with (self._faults / "older" / "asdbench" / "spec.py").open("a") as spec:
            spec.write("\nOLDER = True\n")
        self._cluster: Any = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "object_store_memory": MEMORY_BYTES,
                "env_vars": self._environment("head"),
                "_system_config": FOR_TESTS,
            },
        )
        self._nodes: dict[str, Any] = {}

    @property
    def address(self) -> str:
        """Address of the cluster."""
        return str(self._cluster.address)

    @property
    def driver_environment(self) -> dict[str, str]:
        """Environment of a driver in a process of its own."""
        paths = os.pathsep.join(map(str, (self._plugin, PLATFORM, ROOT)))
        return {**os.environ, "PYTHONPATH": paths}

    @property
    def plugin(self) -> Path:
        """Folder of the plugin, for ``sys.path``."""
        return self._plugin

    def only(self, *names: str) -> None:
        """Let hosts join and leave until there are exactly these, all of them sound."""
        for file in (*self._faults.glob("* *"), *(self.folder / "caches").iterdir()):
            file.unlink() if file.is_file() else shutil.rmtree(file)
        for name in set(self._nodes) - set(names):
            self._cluster.remove_node(self._nodes.pop(name))
        for name in names:
            if name not in self._nodes:
                self._nodes[name] = self._cluster.add_node(
                    num_cpus=1, object_store_memory=MEMORY_BYTES, env_vars=self._environment(name)
                )

    def spoil(self, name: str, fault: Fault) -> None:
        """Spoil a host: its cache cannot be written, its torch ends the process, or its code is older."""
        if fault == "cache":
            (self.folder / "caches" / name).touch()  # a file where a folder has to be
        else:
            (self._faults / f"{fault} {name}").touch()

    def heal(self, name: str) -> None:
        """Make the cache of a host a folder again."""
        (self.folder / "caches" / name).unlink()

    def count_trainings(self) -> int:
        """Return how many trainings have begun since the last call."""
        begun = list(self.trainings.iterdir())
        for note in begun:
            note.unlink()
        return len(begun)

    def shutdown(self) -> None:
        """End the cluster."""
        self._cluster.shutdown()

    def _environment(self, name: str) -> dict[str, str]:
        return {
            "PLAYED_HOST": name,
            "PLAYED_FAULTS": str(self._faults),
            "PLAYED_TRAININGS": str(self.trainings),
            "PYTHONPATH": self.driver_environment["PYTHONPATH"],
            "ASDBENCH_CACHE": str(self.folder / "caches" / name / "cache"),
            "RAY_AUTH_MODE": "disabled",
        }
