"""The plan of a run: what it counts, what it estimates, and which task comes first."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from asdbench.cluster.placement import Placement
from asdbench.data.sets.catalog import DataSet
from asdbench.driver.executor import ExecutionOptions
from asdbench.driver.features import build_features
from asdbench.driver.fresh_seeds import fresh_seeds, untuned_jobs
from asdbench.driver.plan import plan
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, by_training
from asdbench.engine.local import run_local
from asdbench.search.plan import Search, studies_for_system

Jobs = Callable[..., list[ResolvedJob]]
LOCAL = ExecutionOptions(local=True)
TWO = ExecutionOptions(placement=Placement(workers=2))


def test_a_plan_counts_jobs_trainings_and_steps(
    tiny_data: DataSet, store: JobStore, small_jobs: Jobs, output: Any
) -> None:
    jobs = [*small_jobs(), *small_jobs("baseline-maha")]
    build_features(jobs, console=output)
    tasks = by_training(jobs)
    plan(tiny_data, tasks, tasks, store, console=output, options=LOCAL)
    n_clips = tiny_data.clips.height
    assert (
        f"tiny: 2 machine types, {n_clips} clips; 4 jobs, 2 trainings (0 already stored);" in output.lines[-1]
    )
    assert output.lines[-1].endswith(" steps to train")  # nothing is known about the speed
    plan(tiny_data, tasks[:1], tasks[:1], store, console=output, options=LOCAL)
    assert "; 2 jobs, 1 training (0 already stored)" in output.lines[-1]


def test_the_longest_task_comes_first(
    tiny_data: DataSet, store: JobStore, small_jobs: Jobs, output: Any
) -> None:
    short, long = small_jobs()[0], small_jobs(epochs=3)[0]
    build_features([short], console=output)
    tasks = by_training([short, long])
    ordered = plan(tiny_data, tasks, tasks, store, console=output, options=LOCAL)
    assert [task.first.job.settings["epochs"] for task in ordered] == [3, 1]


def test_stored_trainings_cost_nothing_and_tell_the_speed(
    tiny_data: DataSet, store: JobStore, small_jobs: Jobs, output: Any
) -> None:
    fan, valve = small_jobs()
    build_features([fan, valve], console=output)
    tasks = by_training([fan, valve])
    assert run_local(tasks[:1], store, checkpoint_epochs=1, on_event=lambda _: None) == []
    assert plan(tiny_data, tasks, tasks[1:], store, console=output, options=LOCAL) == tasks[1:]
    assert "2 jobs, 2 trainings (1 already stored)" in output.lines[-1]
    assert "on 1 worker with start-up and scoring, at the speed of earlier trainings" in output.lines[-1]
    assert plan(tiny_data, tasks[:1], [], store, console=output, options=LOCAL) == []
    assert output.lines[-1].endswith("1 job, 1 training (1 already stored)")


@pytest.fixture
def paced(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> JobStore:
    """A store by which a step takes 0.1 s, and scoring 10 s for each job."""
    monkeypatch.setattr(JobStore, "training_speeds", lambda _: {"baseline-mse": 10.0})
    monkeypatch.setattr(JobStore, "scoring_seconds", lambda _: {"baseline-mse": 10.0})
    return store


def estimate_s(line: str) -> float:
    """Return the estimated time of a plan, in seconds."""
    ((number, unit),) = re.findall(r"about ([\d.]+) (s|min|h) on", line)
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def n_steps(line: str) -> int:
    return int(re.findall(r"([\d,]+) steps? to train", line)[0].replace(",", ""))


def test_an_estimate_counts_scoring_start_up_and_workers(
    tiny_data: DataSet, paced: JobStore, small_jobs: Jobs, output: Any
) -> None:
    jobs = small_jobs(epochs=20)
    build_features(jobs, console=output)
    tasks = by_training(jobs)
    plan(tiny_data, tasks, tasks, paced, console=output, options=LOCAL)
    alone_s = n_steps(output.lines[-1]) / 10 + 20
    assert estimate_s(output.lines[-1]) == pytest.approx(alone_s, abs=1)
    plan(tiny_data, tasks, tasks, paced, console=output, options=TWO)
    assert " on 2 workers with start-up and scoring" in output.lines[-1]
    assert estimate_s(output.lines[-1]) == pytest.approx(9 + alone_s / 2, abs=1)
    plan(tiny_data, tasks[:1], tasks[:1], paced, console=output, options=TWO)  # on one of the workers
    assert estimate_s(output.lines[-1]) == pytest.approx(9 + alone_s / 2, abs=1)


@pytest.mark.parametrize("trains", [True, False])
def test_an_estimate_counts_all_trials(
    tiny_data: DataSet, paced: JobStore, small_jobs: Jobs, output: Any, trains: bool
) -> None:
    jobs = small_jobs(epochs=20)
    build_features(jobs, console=output)
    tasks = by_training(jobs)
    studies = studies_for_system(jobs, Search(4, only_settings=("hidden",)), fixed=[])
    if not trains:
        settings = tuple(replace(setting, affects="scoring") for setting in studies[0].space.settings)
        studies = [replace(studies[0], space=replace(studies[0].space, settings=settings))]
    plan(tiny_data, tasks, tasks, paced, console=output, options=LOCAL, studies=studies, trials=4)
    line = output.lines[-1]
    steps = n_steps(line)
    assert ("; 4 trials to run" + (f", up to {3 * steps:,} steps;" if trains else ";")) in line
    assert estimate_s(line) == pytest.approx((4 if trains else 1) * steps / 10 + 4 * 20, rel=0.1)


def test_an_estimate_counts_trainings_with_fresh_seeds(
    tiny_data: DataSet, paced: JobStore, small_jobs: Jobs, output: Any
) -> None:
    jobs = small_jobs(epochs=20)
    build_features(jobs, console=output)
    tasks = by_training(jobs)
    for protocol, n_choices in (("dev", 4), ("leave-one-type-out", 2)):
        search = Search(9, only_settings=("hidden",), protocol=protocol)
        studies = studies_for_system(jobs, search, fixed=[])
        again = untuned_jobs(jobs, studies, fresh_seeds(jobs, 3))
        plan(
            tiny_data,
            tasks,
            tasks,
            paced,
            console=output,
            options=LOCAL,
            studies=studies,
            trials=9,
            again=again,
        )
        line = output.lines[-1]
        n_trainings = n_choices * 2 * 3  # on two machine types, with three seeds
        assert f"; up to {n_trainings} trainings with 3 fresh seeds, " in line
        assert f"up to {n_trainings * n_steps(line) // 2:,} steps;" in line


def test_workers_are_counted_on_this_machine_and_unknown_on_a_cluster() -> None:
    assert TWO.n_workers == 2
    assert LOCAL.n_workers == 1
    assert ExecutionOptions().n_workers == (torch.cuda.device_count() or len(os.sched_getaffinity(0)))
    assert ExecutionOptions(address="host:6379").n_workers is None
