"""A data home with a finished run, for the tests of the Python API and the examples in its docstrings."""

import shutil
from pathlib import Path
from typing import Any

import pytest

FINISHED_SETTINGS = {"epochs": 2, "hidden": 8}


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
