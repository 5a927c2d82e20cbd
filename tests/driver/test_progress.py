"""Progress where the console is no terminal: one line per note, finished task and trial."""

import logging
from typing import Any

import pytest

from asdbench.driver.progress import ProgressDisplay
from asdbench.engine.events import (
    Failure,
    FeatureProgress,
    Note,
    TaskFinished,
    TaskReport,
    TasksQueued,
    TaskStarted,
    TrainingProgress,
    Waiting,
)

FAN, VALVE = "fan baseline-mse seed 0", "valve baseline-mse seed 0"


def test_a_finished_task_is_a_line_and_its_progress_is_none(output: Any) -> None:
    with ProgressDisplay(output) as display:
        display.on_event(TasksQueued(2))
        display.on_event(
            TaskReport("a", FAN, TrainingProgress(step=1, steps=2, epoch=1, losses={"mse": 1.0}))
        )
        assert output.lines == []
        display.on_event(TaskFinished("a", FAN))
        display.on_event(TaskFinished("b", VALVE))  # it was scored only, so it never reported progress
    assert output.lines == [f"done 1/2: {FAN}", f"done 2/2: {VALVE}"]


def test_a_task_that_failed_is_not_called_done(output: Any) -> None:
    failure = Failure(FAN, "Traceback ...\nValueError: shapes differ", bad_input=False)
    with ProgressDisplay(output) as display:
        display.on_event(TasksQueued(1))
        display.on_event(TaskFinished("a", FAN, (failure,)))
    assert output.lines == [f"failed 1/1: {FAN}: ValueError: shapes differ"]


def test_tasks_of_a_pruned_trial_are_no_longer_counted(output: Any) -> None:
    with ProgressDisplay(output) as display:
        display.on_event(TasksQueued(3))
        display.on_event(TasksQueued(-1))
        display.on_event(TaskFinished("a", FAN))
    assert output.lines == [f"done 1/2: {FAN}"]


def test_notes_and_waits_are_shown_whether_of_a_task_or_of_a_worker(output: Any) -> None:
    with ProgressDisplay(output) as display:
        display.on_event(Note("a worker was lost [host 3]"))
        display.on_event(TaskReport("a", FAN, Note("no checkpoint")))
        display.on_event(TaskReport("a", FAN, Waiting("the disk is full")))
    assert output.lines == [
        "note: a worker was lost [host 3]",
        "note: no checkpoint",
        "waiting: the disk is full",
    ]


def test_where_a_task_runs_is_logged(output: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "asdbench"), ProgressDisplay(output) as display:
        display.on_event(TaskStarted("a", FAN, "4711", "host2"))
    assert caplog.messages == [f"{FAN} runs on host2"]


def test_features_that_are_built_have_a_bar_until_they_are_finished(output: Any) -> None:
    with ProgressDisplay(output) as display:
        display.on_event(TaskReport("f", "fan features", FeatureProgress(3, 10)))
        assert len(display._progress.tasks) == 2
        display.on_event(TaskReport("f", "fan features", FeatureProgress(10, 10)))
        assert len(display._progress.tasks) == 1


def test_a_search_is_shown_at_the_end_of_each_trial(output: Any) -> None:
    with ProgressDisplay(output) as display:
        state = {"trials": 4, "running": 2}
        display.update_search("mse", done=0, best=None, untuned=None, **state)
        display.update_search("mse", done=1, best=0.612, untuned=0.6, ended_trial="trial 0 complete", **state)
    assert output.lines == ["mse: trial 0 complete; 1/4 trials, 2 running, best 61.20 (untuned 60.00)"]
