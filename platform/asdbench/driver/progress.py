"""The progress of a run: live bars on a terminal, elsewhere one line per finished task or trial."""

import logging

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

from asdbench.driver.run_status import RunMonitor
from asdbench.engine.events import (
    Event,
    FeatureProgress,
    LogLine,
    Note,
    Report,
    TaskFinished,
    TaskReport,
    TasksQueued,
    TaskStarted,
    TrainingProgress,
    Waiting,
)
from asdbench.report.formatting import format_percent, print_message

logger = logging.getLogger(__name__)


class ProgressDisplay:
    """The live view of a run: a bar for all trainings, for each running task and for each search.

    Parameters
    ----------
    console : where to show the progress
    monitor : collects what ``asdbench status`` shows, if there is one
    """

    def __init__(self, console: Console, monitor: RunMonitor | None = None) -> None:
        self._console = console
        self._monitor = monitor
        self._progress = progress(console)
        self._bars: dict[str, TaskID] = {}
        self._searches: dict[str, TaskID] = {}
        self._n_done = self._n_tasks = 0

    def __enter__(self) -> "ProgressDisplay":
        self._progress.start()
        self._total = self._progress.add_task("trainings", total=None, detail="")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_event(self, event: Event) -> None:
        """Show an event of a task or of the workers."""
        match event:
            case LogLine():
                self._show_line(event)
            case Note():
                self._show_note(event)
            case TasksQueued():
                self._n_tasks += event.count
                self._progress.update(self._total, total=self._n_tasks)
            case TaskStarted():
                logger.info("%s runs on %s", event.label, event.host)
            case TaskReport():
                self._show_report(event.task, event.label, event.report)
            case TaskFinished():
                self._show_finished(event)

    def _show_line(self, line: LogLine) -> None:
        """Show what a worker's code printed; a log record goes to its logger, which -v shows."""
        if line.printed:
            print_message(self._console, f"[{line.place}] {line.message}")
        else:
            logging.getLogger(line.logger).log(line.level, "[%s] %s", line.place, line.message)

    def _show_report(self, task: str, label: str, report: Report) -> None:
        match report:
            case Note():
                self._show_note(report)
            case Waiting():
                print_message(self._console, f"waiting: {report.reason}")
            case FeatureProgress():
                self._show_bar(task, label, done=report.clips, total=report.total, detail="clips")
                if report.clips == report.total:
                    self._progress.remove_task(self._bars.pop(task))
            case TrainingProgress():
                losses = ", ".join(f"{name} {value:.4g}" for name, value in report.losses.items())
                detail = f"epoch {report.epoch}, {losses}"
                self._show_bar(task, label, done=report.step, total=report.steps, detail=detail)

    def _show_note(self, note: Note) -> None:
        print_message(self._console, f"note: {note.message}")
        if self._monitor is not None:
            self._monitor.add_note(note.message)

    def _show_bar(self, task: str, label: str, *, done: int, total: int, detail: str) -> None:
        if task not in self._bars:
            self._bars[task] = self._progress.add_task(label, total=None, detail="")
        self._progress.update(self._bars[task], total=total, completed=done, detail=detail)

    def _show_finished(self, event: TaskFinished) -> None:
        self._n_done += 1
        self._progress.update(self._total, completed=self._n_done)
        if event.task in self._bars:
            self._progress.remove_task(self._bars.pop(event.task))
        of = f"{self._n_done}/{self._n_tasks}"
        if event.failures:
            reason = event.failures[0].message.splitlines()[-1]
            print_message(self._console, f"failed {of}: {event.label}: {reason}", style="red")
        elif not self._console.is_terminal:
            print_message(self._console, f"done {of}: {event.label}")

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
        if self._monitor is not None:
            self._monitor.update_search(
                name, done=done, trials=trials, running=running, best=best, untuned=untuned
            )
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
