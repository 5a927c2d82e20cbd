"""What a person sees of work under way: live bars on a terminal, elsewhere a line for each thing done."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from asdbench.engine.events import Event, Note, TaskFinished, TaskReport, Waiting
from asdbench.engine.jobs import TrainingTask
from asdbench.report.formatting import format_percent, print_message


class ProgressDisplay:
    """The live view of a run: all works, each that is under way, and each search.

    Parameters
    ----------
    works : the works by the number that events give; it may grow
    console : where to show it
    """

    def __init__(self, tasks: Mapping[int, TrainingTask], console: Console) -> None:
        self._works = tasks
        self._console = console
        self._progress = progress(console)
        self._tasks: dict[int, Any] = {}
        self._searches: dict[str, Any] = {}
        self._done = 0

    def __enter__(self) -> "ProgressDisplay":
        self._progress.start()
        self._all = self._progress.add_task("trainings", total=len(self._works), detail="")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, event: Event) -> None:
        """Show one event of a worker."""
        report = event.report if isinstance(event, TaskReport) else event
        if isinstance(report, Note | Waiting):
            kind, text = ("note", report.message) if isinstance(report, Note) else ("waiting", report.reason)
            print_message(self._console, f"{kind}: {text}")
            return
        assert isinstance(event, TaskReport | TaskFinished)
        index = event.task
        label = label_of(self._works[index], [self._works[index].first.configured.trainer.name])
        if index not in self._tasks:
            self._tasks[index] = self._progress.add_task(label, total=None, detail="")
        task = self._tasks[index]
        if isinstance(report, TaskFinished):
            self._done += 1
            self._progress.update(self._all, completed=self._done, total=len(self._works))
            self._progress.remove_task(task)
            del self._tasks[index]
            if not self._console.is_terminal:
                print_message(self._console, f"done {self._done}/{len(self._works)}: {label}")
            return
        losses = ", ".join(f"{name} {value:.4g}" for name, value in report.losses.items())
        detail = f"epoch {report.epoch}, {losses}"
        self._progress.update(task, total=report.steps, completed=report.step, detail=detail)

    def search(
        self,
        name: str,
        *,
        done: int,
        trials: int,
        running: int,
        best: float | None,
        untuned: float | None,
        said: str | None = None,
    ) -> None:
        """Show how a search stands; ``said`` is of a trial that has just ended."""
        if name not in self._searches:
            self._searches[name] = self._progress.add_task(f"search of {name}", total=trials, detail="")
        detail = f"{running} running"
        if best is not None:
            detail += f", best {format_percent(best)}"
        if untuned is not None:
            detail += f" (untuned {format_percent(untuned)})"
        self._progress.update(self._searches[name], completed=done, total=trials, detail=detail)
        if said is not None and not self._console.is_terminal:
            print_message(self._console, f"{name}: {said}; {done}/{trials} trials, {detail}")


def progress(console: Console) -> Progress:
    """Return bars with times and a detail; invisible where the console is no terminal."""
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
    """Return a work's machine type, systems and seed."""
    job = task.first.job
    return f"{job.machine_type} {', '.join(systems or task.systems)} seed {job.seed}"
