"""An executor runs what is not finished, in this process, and says what failed."""

from collections.abc import Callable
from typing import Any

import pytest

from asdbench.cluster.placement import Placement
from asdbench.driver.executor import ExecutionOptions, Executor
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, by_training
from asdbench.errors import InputError

Jobs = Callable[..., list[ResolvedJob]]


def local_executor(store: JobStore, job: ResolvedJob, output: Any) -> Executor:
    def never(*_: object) -> None:
        raise AssertionError("only trials of a search need it")

    return Executor(
        ExecutionOptions(local=True),
        store,
        job.data.workspace,
        console=output,
        on_trial=never,
    )


def test_tasks_run_in_this_process_and_only_once(store: JobStore, small_jobs: Jobs, output: Any) -> None:
    jobs = small_jobs()
    tasks = by_training(jobs)
    with local_executor(store, jobs[0], output) as executor:
        executor.warm_up()  # starts nothing
        assert executor.run(tasks) == []
        assert all(map(store.is_done, tasks))
        assert [line for line in output.lines if line.startswith("done")] == [
            "done 1/2: fan baseline-mse seed 0",
            "done 2/2: valve baseline-mse seed 0",
        ]
        before = list(output.lines)
        assert executor.run(tasks) == []
        assert output.lines == before


def test_a_failed_task_is_named_and_does_not_stop_the_others(
    store: JobStore, small_jobs: Jobs, output: Any
) -> None:
    diverging, (_, good) = small_jobs(learning_rate=1e30)[0], small_jobs()
    with local_executor(store, good, output) as executor:
        (failed,) = executor.run(by_training([diverging, good]))
    assert failed.label == "fan baseline-mse seed 0"
    assert "training diverged" in failed.message
    assert failed.bad_input
    assert store.is_scored(good)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint_epochs": 0}, "--checkpoint-epochs 0 is too small"),
        ({"local": True, "placement": Placement(workers=2)}, "drop --local, or drop --workers"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ExecutionOptions(**options)  # type: ignore[arg-type]
