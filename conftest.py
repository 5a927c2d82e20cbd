"""How tests are spread over processes, and a data home with a finished run for examples in docstrings.

With pytest-xdist (``make test``), all tests that start clusters, servers or browsers run in one process, one
after another, since they need the machine's CPUs and memory; they begin first because they take longest. Of
the other tests, a module's or class's run in one process, so that their fixtures are made once.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

IS_ONE_OF_SEVERAL = "PYTEST_XDIST_WORKER" in os.environ
if IS_ONE_OF_SEVERAL:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch when it is first imported

FINISHED_SETTINGS = {"epochs": 2, "hidden": 8}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests that start clusters begin, as one group."""
    if IS_ONE_OF_SEVERAL:
        items.sort(key=lambda item: item.get_closest_marker("cluster") is None)
        for item in items:
            if item.get_closest_marker("cluster"):
                item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process modules and classes; a group stays together."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            _, has_group, group = nodeid.rpartition("]")[2].rpartition("@")
            return group if has_group else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def finished_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data home with a small data set ``demo``, on which both baselines have run."""
    import asdbench
    from asdbench.testing import write_tiny

    home = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        recordings = write_tiny(home / "recordings", test_clips_per_cell=4)
        asdbench.add_data("demo", recordings, home=home)
        systems = ["baseline-mse", "baseline-maha"]
        result = asdbench.run(systems, data="demo", settings=FINISHED_SETTINGS, local=True, home=home)
        assert result.ok
    return home


@pytest.fixture(autouse=True)
def _example_home(
    request: pytest.FixtureRequest, doctest_namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give each example of the Python API a copy of that data home, and the folder of its recordings."""
    if isinstance(request.node, pytest.DoctestItem) and "asdbench/api" in request.path.as_posix():
        import asdbench

        finished, home = request.getfixturevalue("finished_home"), request.getfixturevalue("tmp_path")
        shutil.copytree(finished, home, dirs_exist_ok=True)
        monkeypatch.setenv("ASDBENCH_HOME", str(home))
        monkeypatch.delenv("ASDBENCH_STORAGE", raising=False)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        doctest_namespace |= {"asdbench": asdbench, "recordings": finished / "recordings"}
