"""Systems that the driver has reach the workers of a cluster that was started before they were written."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from asdbench import registry
from asdbench.cluster.plugins import plugins_for_workers, prefer_driver_plugins

PLATFORM = Path(registry.__file__).parents[1]
DRIVER = """
import os, sys
os.chdir({node_folder!r})
import ray
from asdbench.cluster.connection import Connection

def seen():
    import importlib
    from asdbench import registry
    modules = [registry.source(name).module for name in ("late", "theirs", "single")]
    return [importlib.import_module(module).VALUE for module in modules], registry.names()

with Connection({address!r}):
    assert seen() == ray.get(ray.remote(num_cpus=0)(seen).remote()), ray.get(ray.remote(seen).remote())
    print(seen())
"""


def write_plugins(folder: Path, value: int) -> None:
    """Write a system and two installed packages with a system each, a folder and a single file."""
    for file in ("systems/__init__.py", "their_package/__init__.py"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    for file in ("systems/late.py", "their_package/inner.py", "their_module.py"):
        (folder / file).write_text(f"VALUE = {value}\n")
    for name, entry in (
        ("their-package", "theirs = their_package.inner"),
        ("single", "single = their_module"),
    ):
        metadata = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        metadata.mkdir(exist_ok=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[asdbench.systems]\n{entry}\n")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.mark.cluster
def test_workers_of_a_running_cluster_see_the_driver_s_plugins_of_now(
    cluster: Cluster, tmp_path: Path
) -> None:
    node_folder = tmp_path / "node"  # the nodes have older files at the path of the driver's current folder
    write_plugins(node_folder, 0)
    (node_folder / "systems" / "gone.py").touch()
    for metadata in node_folder.glob("*.dist-info"):
        shutil.rmtree(metadata)

    def run(folder: Path) -> str:
        program = DRIVER.format(address=cluster.address, node_folder=str(node_folder))
        paths = os.pathsep.join(map(str, (folder, PLATFORM)))
        ended = subprocess.run(
            [sys.executable, "-P", "-c", program],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    written = tmp_path / "written"
    write_plugins(written, 1)
    assert run(written) == "([1, 1, 1], ['late', 'single', 'theirs'])"
    write_plugins(written, 2)
    assert run(written) == "([2, 2, 2], ['late', 'single', 'theirs'])"


def test_the_runtime_environment_names_code_and_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugins(tmp_path, 1)
    monkeypatch.syspath_prepend(str(tmp_path))
    with plugins_for_workers() as runtime_env:
        paths = {path.name: path for path in map(Path, runtime_env["py_modules"])}
        assert {"systems", "their_package", "their_module.py"} < paths.keys()
        metadata = paths["their_package-1.0.dist-info"]
        assert (metadata / "entry_points.txt").read_text().endswith("theirs = their_package.inner\n")
        assert "Name: their_package\n" in (metadata / "METADATA").read_text()
    assert not metadata.exists()


def test_a_folder_beside_the_plugins_hides_no_other_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "platform").mkdir()  # as in the project's folder, which `ray job submit` sends
    (tmp_path / "their_module.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    prefer_driver_plugins()
    finder = sys.meta_path[0]
    assert finder.find_spec("platform", None) is None
    spec = finder.find_spec("their_module", None)
    assert spec is not None
    assert spec.origin == str(tmp_path / "their_module.py")
    assert finder.find_spec("their_module", ["elsewhere"]) is None
