"""A data home, a tiny data set in it, and a plugin that cannot be imported."""

from pathlib import Path

import pytest

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.io.workspace import Workspace
from asdbench.registry import SystemSource
from asdbench.testing import write_tiny

QUICK = ("--local", "--set", "epochs=2", "hidden=8")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


@pytest.fixture
def tiny(home: Path, tmp_path: Path) -> str:
    catalog.add(Workspace.from_environment(), "tiny", write_tiny(tmp_path / "recordings"))
    return "tiny"


@pytest.fixture
def broken_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_plugin.py").write_text("raise RuntimeError('[/red] no license')")
    monkeypatch.syspath_prepend(str(tmp_path))
    sources = registry._sources()
    place = SystemSource("their_plugin", None, "their_plugin.py")
    monkeypatch.setattr(registry, "_sources", lambda: {**sources, "theirs": [place]})
