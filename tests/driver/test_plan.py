"""The plan of a run: what it counts, what it estimates, and which task comes first."""

from collections.abc import Callable
from typing import Any

from asdbench.data.sets.catalog import DataSet
from asdbench.driver.features import build_features
from asdbench.driver.plan import plan
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, by_training
from asdbench.engine.local import run_local

Jobs = Callable[..., list[ResolvedJob]]


def test_a_plan_counts_jobs_trainings_and_steps(
    tiny_data: DataSet, store: JobStore, small_jobs: Jobs, output: Any
) -> None:
    jobs = [*small_jobs(), *small_jobs("baseline-maha")]
    build_features(jobs, console=output)
    tasks = by_training(jobs)
    plan(tiny_data, tasks, tasks, store, console=output)
    n_clips = tiny_data.clips.height
    assert (
        f"tiny: 2 machine types, {n_clips} clips; 4 jobs, 2 trainings (0 already stored);" in output.lines[-1]
    )
    assert output.lines[-1].endswith(" steps to train")  # nothing is known about the speed
    plan(tiny_data, tasks[:1], tasks[:1], store, console=output)
    assert "; 2 jobs, 1 training (0 already stored)" in output.lines[-1]


def test_the_longest_task_comes_first(
    tiny_data: DataSet, store: JobStore, small_jobs: Jobs, output: Any
) -> None:
    short, long = small_jobs()[0], small_jobs(epochs=3)[0]
    build_features([short], console=output)
    tasks = by_training([short, long])
    ordered = plan(tiny_data, tasks, tasks, store, console=output)
    assert [task.first.job.settings["epochs"] for task in ordered] == [3, 1]


def test_stored_trainings_cost_nothing_and_tell_the_speed(
    tiny_data: DataSet, store: JobStore, small_jobs: Jobs, output: Any
) -> None:
    fan, valve = small_jobs()
    build_features([fan, valve], console=output)
    tasks = by_training([fan, valve])
    assert run_local(tasks[:1], store, checkpoint_epochs=1, on_event=lambda _: None) == []
    assert plan(tiny_data, tasks, tasks[1:], store, console=output) == tasks[1:]
    assert "2 jobs, 2 trainings (1 already stored)" in output.lines[-1]
    assert "on one worker at the speed of earlier trainings" in output.lines[-1]
    assert plan(tiny_data, tasks[:1], [], store, console=output) == []
    assert output.lines[-1].endswith("1 job, 1 training (1 already stored)")
