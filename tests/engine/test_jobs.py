"""Jobs: what their keys depend on, and how often their settings are resolved."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import polars as pl
import psutil
import pytest

from asdbench import config, registry
from asdbench.data.sets import catalog
from asdbench.driver.request import RunRequest, resolve_jobs
from asdbench.engine.jobs import Job, ResolvedJob, by_training, key_of
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny

SMALL = {"epochs": 1, "hidden": 8}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    base = tmp_path_factory.mktemp("jobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASDBENCH_HOME", str(base / "home"))
        workspace = Workspace.from_environment()
    catalog.add(workspace, "tiny", write_tiny(base / "clips"))
    return workspace


def resolved(
    workspace: Workspace, system: str = "baseline-mse", seed: int = 0, **settings: Any
) -> ResolvedJob:
    return ResolvedJob.from_workspace(Job(system, settings, "tiny", "fan", seed), workspace)


class Calls:
    """Counts the calls of a function, and the values that it is called with."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.arguments: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.arguments.append((*arguments, *named.values()))
        return self.function(*arguments, **named)


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls(registry.configure)
    monkeypatch.setattr(registry, "configure", calls)
    return calls


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls(config.checked)
    monkeypatch.setattr(registry, "checked", calls)
    monkeypatch.setattr(config, "checked", calls)
    return calls


REQUEST = {
    "members": "baseline-mse,multitask-mel",
    "scale": "log",
    "baseline-mse.epochs": "3",
    "multitask-mel.steps": "9",
}


def test_the_two_jobs_of_an_ensemble_are_configured_at_most_ten_times(
    workspace: Workspace, configured: Calls, validated: Calls
) -> None:
    jobs = resolve_jobs(RunRequest(("ensemble",), "tiny", settings=REQUEST), workspace)
    assert [job.machine_type for job in jobs] == ["fan", "valve"]
    for job in jobs:
        assert job.scoring_key
        assert job.job.settings == job.configured.changed()
        assert [part.job.system for part in job.parts] == ["baseline-mse", "multitask-mel"]
    assert 0 < len(configured.arguments) <= 10
    counts = Counter((name, str(value)) for _, name, value, _ in validated.arguments)
    assert counts == {
        ("members", "baseline-mse,multitask-mel"): 1,
        ("scale", "log"): 1,
        ("epochs", "3"): 1,
        ("steps", "9"): 1,
    }


def test_jobs_that_travel_are_configured_once_per_system(workspace: Workspace, configured: Calls) -> None:
    settings = {"members": ("baseline-mse", "multitask-mel"), "epochs": 3}
    for machine_type in ("fan", "valve"):
        job = Job("ensemble", settings, "tiny", machine_type, 0)
        assert ResolvedJob.from_workspace(job, workspace).job == job
    assert len(configured.arguments) == 2 * (1 + 2)


def test_each_setting_changes_the_keys_that_depend_on_it(workspace: Workspace) -> None:
    default = resolved(workspace, "baseline-maha")
    trained = resolved(workspace, "baseline-maha", epochs=3)
    fused = resolved(workspace, "baseline-maha", maha_mode="per_frame")
    assert trained.training_key != default.training_key
    assert trained.scoring_key != default.scoring_key
    assert fused.keys == default.keys
    assert resolved(workspace, seed=1).training_key != resolved(workspace).training_key


def test_a_member_with_another_seed_holds_out_the_same_clips(workspace: Workspace) -> None:
    members = ("baseline-mse", "baseline-mse@seed=2", "baseline-mse@epochs=3")
    job = resolved(workspace, "ensemble", seed=1, members=members)
    plain, seeded, longer = job.members
    assert [member.seed for member in job.members] == [1, 3, 1]
    assert plain.training_key == resolved(workspace, seed=1).training_key
    assert longer.training_key == resolved(workspace, seed=1, epochs=3).training_key
    assert len({member.training_key for member in job.members}) == 3
    assert seeded.clips.hold_out_ids.tolist() == plain.clips.hold_out_ids.tolist()
    assert seeded.training_key != resolved(workspace, seed=3).training_key  # it holds out other clips
    travelled = ResolvedJob.from_workspace(seeded.job, workspace)
    assert travelled.keys == seeded.keys


def test_jobs_that_share_a_training_are_one_task(workspace: Workspace) -> None:
    jobs = [resolved(workspace, system, **SMALL) for system in ("baseline-mse", "baseline-maha")]
    other = resolved(workspace, seed=1, **SMALL)
    tasks = by_training([*jobs, other, jobs[0]])
    assert [task.systems for task in tasks] == [("baseline-mse", "baseline-maha"), ("baseline-mse",)]
    assert tasks[0].first is jobs[0]


def test_an_unknown_system_or_setting_is_refused(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="no system 'baseline-mso'; did you mean 'baseline-mse'"):
        resolved(workspace, "baseline-mso")
    with pytest.raises(InputError, match="did you mean 'epochs'"):
        resolved(workspace, epoch=3)


def test_a_key_does_not_depend_on_the_order_of_what_it_hashes() -> None:
    assert key_of({"a": 1, "b": (2, 3)}) == key_of({"b": [2, 3], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})


def test_memory_is_flat_over_600_tasks(workspace: Workspace) -> None:
    catalog.add(workspace, "many", catalog.load(workspace, "tiny").root)
    folder = workspace.home / "data" / "many"
    table = folder / json.loads((folder / "dataset.json").read_bytes())["clips"]
    clips = pl.read_parquet(table)
    many = pl.concat([clips] * (8330 // clips.height + 1)).head(8330)
    ids = pl.int_range(many.height, dtype=pl.Int64)
    many.with_columns(clip_id=ids, content_hash=ids.cast(pl.Utf8)).write_parquet(table)
    process = psutil.Process()

    def keys_of(seed: int) -> tuple[str, str]:
        return ResolvedJob.from_workspace(Job("baseline-mse", {}, "many", "fan", seed), workspace).keys

    keys = {keys_of(seed) for seed in range(20)}
    before = process.memory_info().rss
    keys |= {keys_of(seed) for seed in range(20, 600)}
    assert process.memory_info().rss - before < 50e6
    assert len(keys) == 600
