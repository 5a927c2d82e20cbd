"""The detection systems on their way from the driver to the workers of a running cluster.

The nodes have the platform, and systems of the time when they were set up. What the driver has now travels
with its job, by content: Ray stores each package once, and each node unpacks it once.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from asdbench import registry


@contextmanager
def plugins_for_workers() -> Iterator[dict[str, Any]]:
    """Yield a runtime environment for ``ray.init`` that brings all systems to the workers.

    It contains `systems`, the top-level modules of installed plugins, and their entry points, without which
    a worker would not find them. What a plugin imports from other packages must be installed on the nodes.

    >>> with plugins_for_workers() as runtime_env:
    ...     [Path(path).name for path in runtime_env["py_modules"]][:1]
    ['systems']
    """
    with tempfile.TemporaryDirectory(prefix="asdbench-") as folder:
        packages = [*registry.plugin_modules(), *_written_metadata(Path(folder))]
        yield {
            "py_modules": [str(path) for path in packages],
            "excludes": ["__pycache__"],
            "worker_process_setup_hook": f"{__name__}.{prefer_driver_plugins.__name__}",
        }


def _written_metadata(folder: Path) -> list[Path]:
    """Write the entry points of installed plugins below ``folder``; return a folder for each package."""
    paths = []
    for name_and_version, text in registry.plugin_metadata().items():
        name, _, version = name_and_version.rpartition("-")
        paths.append(folder / f"{name_and_version}.dist-info")
        paths[-1].mkdir()
        (paths[-1] / "entry_points.txt").write_text(text, encoding="utf-8")
        header = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (paths[-1] / "METADATA").write_text(header, encoding="utf-8")
    return paths


class _FinderIn:
    """Finds top-level modules in some folders, except namespace packages: any folder there looks like one."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = folders

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, self._folders, target) if path is None else None
        return spec if spec is not None and spec.loader is not None else None


def prefer_driver_plugins() -> None:
    """Let this worker import what came from the driver, even if its node has a module of the same name.

    Ray unpacks it on ``PYTHONPATH``, but searches the driver's current folder first, and below the same path
    a node may have older systems.
    """
    folders = list(filter(None, os.getenv("PYTHONPATH", "").split(os.pathsep)))
    sys.meta_path.insert(0, _FinderIn(folders))
