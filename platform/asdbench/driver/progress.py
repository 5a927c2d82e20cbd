"""The progress of a run: live bars on a terminal, elsewhere one line per finished task or trial."""

import logging
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from asdbench.engine.events import Event, LogLine, Note, TaskFinished, TaskReport, TrainingProgress, Waiting
from asdbench.engine.jobs import TrainingTask
from asdbench.report.formatting import format_percent, print_message


class ProgressDisplay:
    """The live view of a run: a bar for all trainings, for each running task and for each search.

    Parameters
    ----------
    tasks : tasks by the number that events give; the caller may add to it
    console : where to show the progress
    """

    def __init__(self, tasks: Mapping[int, TrainingTask], console: Console) -> None:
        self._tasks = tasks
        self._console = console
        self._progress = progress(console)
        self._bars: dict[int, TaskID] = {}
        self._searches: dict[str, TaskID] = {}
        self._n_done = 0

    def __enter__(self) -> "ProgressDisplay":
        self._progress.start()
        self._total = self._progress.add_task("trainings", total=len(self._tasks), detail="")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_event(self, event: Event) -> None:
        """Show an event of a task or of the workers."""
        if isinstance(event, LogLine):
            self._show_line(event)
            return
        report = event.report if isinstance(event, TaskReport) else event
        match report:
            case Note():
                print_message(self._console, f"note: {report.message}")
            case Waiting():
                print_message(self._console, f"waiting: {report.reason}")
            case TrainingProgress():
                assert isinstance(event, TaskReport)
                self._show_training(event.task, report)
            case TaskFinished():
                self._show_finished(report.task)

    def _show_line(self, line: LogLine) -> None:
        """Show what a worker's code printed; a log record goes to its logger, which -v shows."""
        if line.printed:
            print_message(self._console, f"[{line.place}] {line.message}")
        else:
            logging.getLogger(line.logger).log(line.level, "[%s] %s", line.place, line.message)

    def _show_training(self, index: int, report: TrainingProgress) -> None:
        if index not in self._bars:
            self._bars[index] = self._progress.add_task(self._label(index), total=None, detail="")
        losses = ", ".join(f"{name} {value:.4g}" for name, value in report.losses.items())
        detail = f"epoch {report.epoch}, {losses}"
        self._progress.update(self._bars[index], total=report.steps, completed=report.step, detail=detail)

    def _show_finished(self, index: int) -> None:
        self._n_done += 1
        self._progress.update(self._total, completed=self._n_done, total=len(self._tasks))
        if index in self._bars:
            self._progress.remove_task(self._bars.pop(index))
        if not self._console.is_terminal:
            print_message(self._console, f"done {self._n_done}/{len(self._tasks)}: {self._label(index)}")

    def _label(self, index: int) -> str:
        task = self._tasks[index]
        return label_of(task, [task.first.configured.trainer.name])

    def update_search(
        self,
        name: str,
        *,
        done: int,
        trials: int,
        running: int,
        best: float | None,
        untuned: float | None,
        ended_trial: str | None = None,
    ) -> None:
        """Show the state of a search.

        Parameters
        ----------
        name : of the search
        done, trials, running : number of trials that have ended, of all and of those that run
        best, untuned : the best score so far and that of the untuned system, if known
        ended_trial : a description of the trial that has just ended, if one has
        """
        if name not in self._searches:
            self._searches[name] = self._progress.add_task(f"search: {name}", total=trials, detail="")
        detail = f"{running} running"
        if best is not None:
            detail += f", best {format_percent(best)}"
        if untuned is not None:
            detail += f" (untuned {format_percent(untuned)})"
        self._progress.update(self._searches[name], completed=done, total=trials, detail=detail)
        if ended_trial is not None and not self._console.is_terminal:
            print_message(self._console, f"{name}: {ended_trial}; {done}/{trials} trials, {detail}")


def progress(console: Console) -> Progress:
    """Return progress bars with times and a detail, which are hidden unless the console is a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
        console=console,
        disable=not console.is_terminal,
    )


def label_of(task: TrainingTask, systems: Sequence[str] = ()) -> str:
    """Return a task's machine type, systems and seed, as a label for people."""
    job = task.first.job
    return f"{job.machine_type} {', '.join(systems or task.systems)} seed {job.seed}"
