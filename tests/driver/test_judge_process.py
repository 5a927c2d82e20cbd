"""Stored results come from a process in which no system has been imported."""

import importlib
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.driver.judge_process import JudgeProcess
from asdbench.driver.judging import judge as judge_jobs
from asdbench.engine import judge as judge_module
from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, by_training
from asdbench.engine.judge import JudgeRequest, NoLabels
from asdbench.engine.local import run_local
from asdbench.io.workspace import Workspace
from asdbench.registry import SystemSource
from asdbench.testing import write_tiny
from tests.plugins import CONFIG, UNTRAINED

PLUGIN = (
    CONFIG
    + """

import sys


def all_right(*args, rule):
    return dict.fromkeys(rule.metrics, 1.0)


for module in ("asdbench.metrics", "asdbench.metrics.official", "asdbench.engine.judge"):
    sys.modules[module].section_metrics = all_right


class Mine(System[Config]):
"""
    + UNTRAINED
    + """
    def components(self, batch):
        return {"constant": 0 * batch.mean_over_clips(batch.windows.mean(dim=(1, 2)))}
"""
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    base = tmp_path_factory.mktemp("judge")
    workspace = Workspace.from_home(base / "home")
    catalog.add(workspace, "tiny", write_tiny(base / "clips", machine_types=("fan",)))
    return workspace


def test_metrics_that_a_system_has_replaced_change_no_stored_result(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("asdbench.metrics", "asdbench.metrics.official", "asdbench.engine.judge"):
        owner = importlib.import_module(module)
        monkeypatch.setattr(owner, "section_metrics", owner.section_metrics)  # set back at the end
    (tmp_path / "replaces_metrics.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    source = SystemSource("replaces_metrics", None, "systems/replaces.py")
    monkeypatch.setattr(registry, "_sources", lambda: {"replaces": [source]})
    resolved = ResolvedJob.from_workspace(Job("replaces", {}, "tiny", "fan", 0), workspace)
    store = JobStore.from_workspace(workspace)
    assert run_local(by_training([resolved]), store, checkpoint_epochs=1, on_event=lambda event: None) == []
    [judged], failures, _ = judge_jobs([resolved], store)
    assert failures == []
    [stored] = judged.records["fan"].official_metrics
    assert stored["auc_source"] == 0.5
    store.root.delete(next(iter(store.root.names("results", ".json"))))
    [replaced] = evaluate(resolved, store).record.official_metrics  # as in the process of the system
    assert set(replaced.values()) == {1.0}
    sys.modules.pop("replaces_metrics", None)
    registry.get.cache_clear()
    registry.source_hash.cache_clear()


def test_errors_come_back_and_the_process_answers_again(workspace: Workspace) -> None:
    judge = JudgeProcess()
    data = catalog.load(workspace, "tiny")
    clips = data.clips.filter(split="test")
    request = JudgeRequest(
        str(workspace.home), "tiny", "fan", "dev", clips["clip_id"].to_list(), [0.1] * clips.height, {}
    )
    with pytest.raises(NoLabels, match="no test clip of machine type 'fan' of data set 'tiny' has a known"):
        judge(msgspec.structs.replace(request, clip_ids=[], scores=[]))
    assert judge(request) == judge_module.judge(request)


def test_the_judge_imports_no_system_and_no_torch() -> None:
    code = (
        "import sys, asdbench.engine.judge; print({'systems', 'torch', 'asdbench.registry'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
