"""Progress where the console is no terminal: one line per note, finished task and trial."""

from collections.abc import Callable
from typing import Any

from asdbench.driver.progress import ProgressDisplay, label_of
from asdbench.engine.events import Note, TaskFinished, TaskReport, TrainingProgress, Waiting
from asdbench.engine.jobs import ResolvedJob, by_training


def test_a_finished_task_is_a_line_and_its_progress_is_none(
    output, small_jobs: Callable[..., list[ResolvedJob]]
) -> None:
    tasks = dict(enumerate(by_training(small_jobs())))
    with ProgressDisplay(tasks, output) as display:
        display.on_event(TaskReport(0, TrainingProgress(step=1, steps=2, epoch=1, losses={"mse": 0.5})))
        assert output.lines == []
        display.on_event(TaskFinished(0))
        display.on_event(TaskFinished(1))  # it was scored only, so it never reported progress
    assert output.lines == ["done 1/2: fan baseline-mse seed 0", "done 2/2: valve baseline-mse seed 0"]


def test_notes_and_waits_are_shown_whether_of_a_task_or_of_a_worker(output: Any) -> None:
    with ProgressDisplay({}, output) as display:
        display.on_event(Note("a worker was lost [host 3]"))
        display.on_event(TaskReport(7, Note("no checkpoint")))
        display.on_event(TaskReport(7, Waiting("the disk is full")))
    assert output.lines == [
        "note: a worker was lost [host 3]",
        "note: no checkpoint",
        "waiting: the disk is full",
    ]


def test_a_search_is_shown_at_the_end_of_each_trial(output: Any) -> None:
    with ProgressDisplay({}, output) as display:
        state = {"trials": 4, "running": 2}
        display.update_search("mse", done=0, best=None, untuned=None, **state)
        display.update_search("mse", done=1, best=0.612, untuned=0.6, ended_trial="trial 0 complete", **state)
    assert output.lines == ["mse: trial 0 complete; 1/4 trials, 2 running, best 61.20 (untuned 60.00)"]


def test_a_label_names_the_trained_system_or_those_that_failed(
    small_jobs: Callable[..., list[ResolvedJob]],
) -> None:
    (task,) = by_training([small_jobs()[0], small_jobs("baseline-maha")[0]])
    assert label_of(task) == "fan baseline-mse, baseline-maha seed 0"
    assert label_of(task, ["baseline-maha"]) == "fan baseline-maha seed 0"
