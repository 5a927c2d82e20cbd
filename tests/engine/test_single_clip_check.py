"""What the other test clips tell is not for a clip's score, unless the system declares it."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, by_training
from asdbench.engine.local import run_local
from asdbench.engine.scoring import join_members
from asdbench.engine.single_clip_check import check_component
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.registry import SystemSource
from asdbench.report.leaderboard import rows
from asdbench.report.leaderboard_table import render
from asdbench.system import Fusion, MemberScores, System
from asdbench.testing import write_tiny
from tests.plugins import CONFIG, UNTRAINED

PLUGIN = (
    CONFIG
    + """

SEEN = []


class Mine(System[Config]):
"""
    + UNTRAINED
    + """
    def components(self, batch):
        level = batch.mean_over_clips(batch.windows.mean(dim=(1, 2)))
        return {"level": LEVEL}
"""
)
OF_BATCH = "level - level.mean()"
OF_BATCHES_BEFORE = "(SEEN.append(level), level - torch.cat(SEEN).mean())[1]"
MakeJob = Callable[..., ResolvedJob]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace.from_home(tmp_path / "home")
    catalog.add(workspace, "tiny", write_tiny(tmp_path / "clips", machine_types=("fan",)))
    return workspace


@pytest.fixture
def job(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeJob]:
    """A function that returns the job of a system with that score."""
    monkeypatch.syspath_prepend(str(tmp_path))
    source = SystemSource("their_levels", None, "systems/mine.py")
    monkeypatch.setattr(registry, "_sources", lambda: {"mine": [source]})

    def function(level: str, declared: str = "") -> ResolvedJob:
        code = PLUGIN.replace("LEVEL", level).replace(
            "    @classmethod", f"    {declared}\n    @classmethod", 1
        )
        (tmp_path / "their_levels.py").write_text(code)
        importlib.invalidate_caches()
        return ResolvedJob.from_workspace(Job("mine", {}, "tiny", "fan", 0), workspace)

    yield function
    sys.modules.pop("their_levels", None)
    registry.get.cache_clear()
    registry.source_hash.cache_clear()


def scored(resolved: ResolvedJob, store: JobStore) -> list[str]:
    """Return the messages of failures."""
    failures = run_local(by_training([resolved]), store, checkpoint_epochs=1, on_event=lambda event: None)
    assert all(failure.bad_input for failure in failures)
    return [failure.message for failure in failures]


def test_statistics_of_a_batch_fail_the_job(job: MakeJob, workspace: Workspace) -> None:
    store, resolved = JobStore.from_workspace(workspace), job(OF_BATCH)
    (message,) = scored(resolved, store)
    assert message.startswith("Mine: component 'level' of ")
    assert " of 8 clips that were scored again one by one, in another order, differs" in message
    assert "set transductive = True on the class" in message
    assert not store.snapshot().is_scored(resolved)


def test_statistics_of_the_batches_before_fail_the_job(job: MakeJob, workspace: Workspace) -> None:
    (message,) = scored(job(OF_BATCHES_BEFORE), JobStore.from_workspace(workspace))
    assert "take no statistics over a batch or over earlier batches" in message


def test_a_score_of_the_clip_alone_passes(job: MakeJob, workspace: Workspace) -> None:
    store, resolved = JobStore.from_workspace(workspace), job("level")
    assert scored(resolved, store) == []
    record = evaluate(resolved, store).record
    assert not record.transductive
    assert not rows([record], machine_types=["fan"])[0]["transductive"]


def test_results_of_a_declared_system_are_marked(job: MakeJob, workspace: Workspace) -> None:
    store, resolved = JobStore.from_workspace(workspace), job(OF_BATCH, "transductive = True")
    assert scored(resolved, store) == []
    record = evaluate(resolved, store).record
    assert record.transductive
    for by_type in (False, True):
        table = rows([record], machine_types=["fan"], by_type=by_type)
        assert table[0]["transductive"]
        markdown = str(render(table, format="markdown", title="tiny"))
        assert "mine (transductive)" in markdown
        assert "transductive: the score of a clip depends on the other test clips" in markdown


class Ranks(System[None]):
    """The rank of a clip among all clips."""

    @classmethod
    def combine(cls, config: None, scores: dict[str, MemberScores]) -> dict[str, torch.Tensor]:
        return {"rank": scores["one"].score.argsort().argsort().double()}


def test_an_ensemble_combines_each_clip_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    score = np.random.default_rng(0).normal(size=20)
    table = pl.DataFrame(
        {"clip_id": range(20), "use": ["hold-out"] * 10 + ["test"] * 10, "score": score},
        schema_overrides={"clip_id": pl.Int64},
    )
    with pytest.raises(InputError, match=r"Ranks: component 'rank' of . of 8 clips that were scored again"):
        join_members(Ranks, None, {"one": (table, Fusion())})
    monkeypatch.setattr(Ranks, "transductive", True)
    assert join_members(Ranks, None, {"one": (table, Fusion())}).height == 20


def test_rounding_passes_where_all_scores_are_nearly_equal() -> None:
    every = 100 + 1e-6 * np.random.default_rng(0).normal(size=50)
    check_component(System, "constant", np.float64(np.float32(every[:8])), every[:8], every)
    with pytest.raises(InputError, match="component 'constant' of 1 of 8 clips"):
        check_component(System, "constant", every[:8] + 1e-3 * np.eye(8)[0], every[:8], every)


def test_an_extreme_score_does_not_widen_what_is_allowed() -> None:
    every = np.append(np.random.default_rng(0).normal(size=50), 1e6)
    with pytest.raises(InputError, match="of 8 of 8 clips"):
        check_component(System, "distance", every[:8] + 0.1, every[:8], every)


def test_a_constant_that_is_added_to_all_scores_does_not_widen_what_is_allowed() -> None:
    every = 1e12 + np.linspace(0, 1e4, 100)
    with pytest.raises(InputError, match="differs"):
        check_component(System, "distance", every[:8] + 1e6, every[:8], every)
