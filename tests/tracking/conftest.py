import shutil
from pathlib import Path

import pytest

from asdbench.tracking import mlflow_runs


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Path:
    shutil.copy(empty_database, tmp_path)
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, value in mlflow_runs.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return tmp_path
