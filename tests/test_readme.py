"""What the README shows works as it stands there."""

import re
from pathlib import Path

import pytest

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job
from asdbench.io.workspace import Workspace
from asdbench.registry import SystemSource
from asdbench.testing import write_tiny
from asdbench.testing.conformance import run_job

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_system_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "my_system.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    sources = {"my-system": [SystemSource("my_system", None, "systems/my_system.py")]}
    monkeypatch.setattr(registry, "_sources", lambda: sources)
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    catalog.add(Workspace.from_environment(), "tiny", write_tiny(tmp_path / "recordings"))
    done = run_job(
        Job("my-system", {"n_mels": 32}, "tiny", "fan", 0),
        JobStore.from_workspace(Workspace.from_environment()),
    )
    result = evaluate(done.resolved, done.store)
    assert result.record["sections"]["00"]["official"]["auc_source"] > 0.5


def test_the_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
