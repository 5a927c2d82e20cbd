import pytest

from asdbench.data.sets import catalog
from asdbench.engine.job_store import JobStore
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.report.stored_runs import StoredRunOptions, scored_jobs

pytestmark = pytest.mark.usefixtures("at_home")

SETTINGS = StoredRunOptions(values={"epochs": 2, "hidden": 8, "batch_size": 64})


def request(**options):
    workspace = Workspace.from_environment()
    data = catalog.load(workspace, "tiny")
    defaults = {"seeds": [0, 1], "machine_types": ["fan", "valve"], "settings": SETTINGS}
    return scored_jobs(["baseline-mse"], data, JobStore.from_workspace(workspace), **(defaults | options))


def test_jobs_are_found_by_system_seed_and_machine_type() -> None:
    jobs = request()
    assert {
        name: {seed: list(of_seed) for seed, of_seed in of_system.items()} for name, of_system in jobs.items()
    } == {"baseline-mse": {0: ["fan", "valve"], 1: ["fan", "valve"]}}
    assert jobs["baseline-mse"][1]["valve"].job.seed == 1


def test_missing_scores_are_an_error_with_the_command_that_computes_them() -> None:
    with pytest.raises(InputError, match=r"no scores of baseline-mse on fan .* with seed 9") as raised:
        request(seeds=[0, 9])
    command = "asdbench run baseline-mse --data tiny --seeds 0 9 --set epochs=2 hidden=8 batch_size=64"
    assert str(raised.value).endswith(f"run '{command}'")


def test_the_command_carries_preset_settings_and_pseudo_anomalies() -> None:
    settings = StoredRunOptions("fast", {"bf16": True, "members": ("a", "b")}, "other data")
    assert settings.run_command(["x", "y"], "tiny", [3]) == (
        "asdbench run x y --data tiny --seeds 3 --preset fast --pseudo-anomalies-from 'other data' "
        "--set bf16=true members=a,b"
    )


def test_a_request_without_seeds_is_refused() -> None:
    with pytest.raises(InputError, match="no seed is given; --seeds takes"):
        request(seeds=[])
