"""What a user asks for is checked as a whole before anything runs."""

from pathlib import Path

import pytest

from asdbench.data.sets import catalog
from asdbench.driver.request import RunRequest, resolve_jobs
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace.from_home(tmp_path / "home")
    catalog.add(workspace, "tiny", write_tiny(tmp_path / "recordings"))
    return workspace


def test_seeds_that_are_no_list_are_named() -> None:
    request = RunRequest(["baseline-mse"], "tiny", seeds=0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"seeds=0 is no list; give one, such as seeds=\[0\]"):
        resolve_jobs(request, Workspace.from_environment())


def test_every_system_seed_and_machine_type_is_a_job(workspace: Workspace) -> None:
    request = RunRequest(["baseline-mse", "baseline-maha"], "tiny", seeds=[1, 0, 1], settings={"epochs": "3"})
    jobs = [resolved.job for resolved in resolve_jobs(request, workspace)]
    assert [(job.system, job.seed, job.machine_type) for job in jobs] == [
        (system, seed, machine)
        for system in ("baseline-mse", "baseline-maha")
        for seed in (1, 0)
        for machine in ("fan", "valve")
    ]
    assert {job.settings["epochs"] for job in jobs} == {3}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (RunRequest([], "tiny"), "name at least one system; available: .*baseline-mse"),
        (RunRequest(["baseline-mse"], "tiny", seeds=[]), "no seed is given"),
        (RunRequest(["baseline-mse"], "tiny", seeds=[-1]), "seed -1"),
        (RunRequest(["baseline-mse"], "tiny", preset="fsat"), "no preset 'fsat'; did you mean 'fast'"),
        (RunRequest(["baseline-mse"], "tiny", machines=["fam"]), "machine type .*'fam'; did you mean 'fan'"),
        (RunRequest(["baseline-mse"], "tiny", subset="eval"), "eval"),
        (RunRequest(["baseline-mse"], "tinny"), "no data set 'tinny'; did you mean 'tiny'"),
    ],
)
def test_what_cannot_be_run_is_named(workspace: Workspace, request_: RunRequest, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_jobs(request_, workspace)


def test_pseudo_anomalies_that_nobody_takes_are_refused_with_the_command_without_them(
    workspace: Workspace,
) -> None:
    request = RunRequest(
        ["baseline-mse"], "tiny", seeds=[4], settings={"epochs": 2}, pseudo_anomaly_data="tiny"
    )
    with pytest.raises(InputError, match="drop the option: 'asdbench run baseline-mse --data tiny --seeds 4"):
        resolve_jobs(request, workspace)
