"""The baselines on real recordings: an easy machine is found, held-out recordings stay out of training."""

import os
from pathlib import Path

import polars as pl
import pytest

from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.io.workspace import Workspace
from asdbench.testing.conformance import run_job


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = os.environ.get("ASDBENCH_SHOP")
    if not folder:
        pytest.skip("ASDBENCH_SHOP does not name the recordings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASDBENCH_HOME", str(tmp_path_factory.mktemp("home")))
        yield catalog.add(Workspace.from_environment(), "shop", Path(folder))


def test_a_cut_propeller_is_heard_in_both_domains(shop: DataSet) -> None:
    settings = {"epochs": 15}
    for system in ("baseline-mse", "baseline-maha"):
        done = run_job(
            Job(system, settings, "shop", "UAVPropeller", 0),
            Workspace.from_environment(),
            JobStore.from_workspace(Workspace.from_environment()),
        )
        metrics = evaluate(done.resolved, done.store).record.sections["00"].official
        assert metrics["auc_source"] > 0.95
        assert metrics["auc_target"] > 0.95


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("machine", ["FanMIMII", "UAVPropeller", "BearingFEMTO"])
def test_no_recording_is_in_training_and_hold_out(shop: DataSet, machine: str, seed: int) -> None:
    clips = ResolvedJob.from_job(Job("baseline-mse", {}, "shop", machine, seed), shop).clips
    table = shop.clips.filter(pl.col("domain") == "source")
    held = set(table.filter(pl.col("clip_id").is_in(clips.hold_out_ids.tolist()))["recording"])
    trained = set(table.filter(pl.col("clip_id").is_in(clips.training_ids.tolist()))["recording"])
    assert held
    assert not held & trained
