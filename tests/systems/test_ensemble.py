"""The ensemble's presets: members that need no other machine types, cheap or at full length."""

from pathlib import Path

import numpy as np
import pytest

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny
from asdbench.testing.conformance import run_job

ROBUST = ("baseline-mse", "spectra-gauss", "spectra-knn")


def test_the_default_is_the_reports_and_no_label_chose_it() -> None:
    default = registry.configure("ensemble")
    assert [member.name for member in default.members] == [
        "multitask-mel", "multitask-combined", "adversarial",
    ]  # fmt: skip
    assert default.chosen_on() == set()


def test_robust_goes_together_with_fast() -> None:
    robust = registry.configure("ensemble", preset="robust")
    assert tuple(member.member_name for member in robust.members) == ROBUST
    assert robust.config.weights is None
    assert robust.chosen_on() == {"shop", "demo"}
    assert not robust.takes_pseudo_anomalies()
    cheap = registry.configure("ensemble", preset="demo,robust")
    assert cheap.members[0] == registry.configure("baseline-mse", preset="demo")
    assert cheap.members[0].config.epochs < robust.members[0].config.epochs


def test_robust_scores_a_data_set_with_a_single_machine_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    workspace = Workspace.from_environment()
    catalog.add(workspace, "tiny", write_tiny(tmp_path / "clips", machine_types=("fan",)))
    settings = {"members": ROBUST, "epochs": 1, "hidden": 8}
    store = JobStore.from_workspace(workspace)
    done = run_job(Job("ensemble", settings, "tiny", "fan", 0), workspace, store)
    tested = done.fused.filter(done.fused["use"] == "test")["score"].to_numpy()
    assert len(tested) > 0
    assert np.isfinite(tested).all()
    assert len(np.unique(tested)) > 1
