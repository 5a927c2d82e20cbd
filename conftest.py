"""How tests are spread over processes, and a data home with a finished run for examples in docstrings.

With pytest-xdist (``make test``), a module's or a class's tests run in one process, so that their fixtures
are made once. The tests that start clusters begin first, because they take longest.
"""

import functools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

IS_ONE_OF_SEVERAL = "PYTEST_XDIST_WORKER" in os.environ
if IS_ONE_OF_SEVERAL:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch when it is first imported

FINISHED_SETTINGS = {"epochs": 2, "hidden": 8}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the slow tests begin."""
    if IS_ONE_OF_SEVERAL:
        items.sort(key=lambda item: item.get_closest_marker("cluster") is None)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Name each failure when it happens: a run that is ended from outside tells nothing at its end."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not IS_ONE_OF_SEVERAL:
        config.pluginmanager.register(_Failures(reporter))


class _Failures:
    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            lines = (crash.message if crash else report.longreprtext).splitlines() or [""]
            cause = lines[0 if crash else -1]
            self._reporter.write_line(f"\n{report.nodeid}: {cause[:300]}", red=True)


@pytest.fixture(scope="session", autouse=True)
def _copied_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let new MLflow databases be copies of one: creating one takes seconds, copying it does not."""
    from asdbench.io.files import replacing
    from asdbench.tracking import database

    make, first = database._make_database, tmp_path_factory.mktemp("mlflow") / "mlflow.db"

    @functools.wraps(make)
    def copy(path: Path) -> None:
        if not first.exists():
            make(first)
        with replacing(path) as temporary:
            shutil.copyfile(first, temporary)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_make_database", copy)
        yield


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs."""
    from asdbench.tracking import database
    from asdbench.tracking.mlflow_runs import ENVIRONMENT

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        database._make_database(path)
    return path


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
