"""The runs under way as ``asdbench status`` shows them: tasks by state, nodes, searches and the time left.

It reads the storage only, and needs neither the run's process nor its cluster.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from asdbench.engine.run_record import NodeStatus, Retry, RunningTask, RunStatus, SearchStatus, load_runs
from asdbench.io.storage import Storage
from asdbench.report.formatting import MISSING, format_duration, format_percent
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, numeric, to_json

N_SHOWN = 20  # running tasks and nodes; JSON has all
WATCH_PERIOD_S = 2.0


def show_status(root: Storage, *, console: Console, format: Literal["table", "json"] = "table") -> None:
    """Print the runs under way in a job store.

    Parameters
    ----------
    root
        The storage of the job store.
    console
        Where tables are printed; JSON goes to standard output.
    format
        ``"table"``, or ``"json"`` for the records with all tasks and nodes, and ``unheard_s``: for how long a
        run was not heard from, if it is longer than usual.
    """
    if format == "json":
        runs, unreadable = load_runs(root)
        for message in unreadable:
            console.print(Text(message, style="red"))
        print(to_json(status_rows(runs, now_unix_s=time.time())), end="")
    else:
        console.print(_status_now(root))


def watch_status(root: Storage, *, console: Console, wait: Callable[[float], object] = time.sleep) -> None:
    """Show the runs under way and refresh them every two seconds, until the user interrupts.

    Parameters
    ----------
    root
        The storage of the job store.
    console
        A terminal.
    wait
        Waits for this many seconds.
    """
    with Live(_status_now(root), console=console, auto_refresh=False) as live:
        try:
            while True:
                wait(WATCH_PERIOD_S)
                live.update(_status_now(root), refresh=True)
        except KeyboardInterrupt:  # how a user ends it
            return


def status_rows(runs: Sequence[RunStatus], *, now_unix_s: float) -> list[dict[str, Any]]:
    """Return the records of runs for programs.

    >>> (row,) = status_rows([RunStatus.from_command("asdbench run mine --data tiny")], now_unix_s=0.0)
    >>> row["command"], row["unheard_s"]
    ('asdbench run mine --data tiny', None)
    """
    return [{**msgspec.to_builtins(run), "unheard_s": run.unheard_s(now_unix_s)} for run in runs]


def run_view(run: RunStatus, *, now_unix_s: float) -> RenderableType:
    """Return the state of a run for people; of one that was not heard from lately only what is still true."""
    is_heard = run.unheard_s(now_unix_s) is None
    parts: list[RenderableType] = [Text(run.command, style="bold"), _origin(run, now_unix_s), _tasks(run)]
    if run.searches:
        parts.append(_searches_table(run.searches))
    nodes = run.nodes if is_heard else [node for node in run.nodes if node.quarantined_unix_s is not None]
    if nodes:
        parts.append(_nodes_table(nodes, now_unix_s))
    if run.running and is_heard:
        parts.append(_running_table(run.running, now_unix_s))
    parts += [_retry_line(retry, now_unix_s) for retry in run.retries]
    parts += [Text(f"note: {note}") for note in run.notes]
    return Group(*parts, "")


def _status_now(root: Storage) -> RenderableType:
    runs, unreadable = load_runs(root)
    now_unix_s = time.time()
    parts: list[RenderableType] = [Text(message, style="red") for message in unreadable]
    if not runs:
        parts.append(Text(f"no run is under way in {root}"))
    return Group(*parts, *(run_view(run, now_unix_s=now_unix_s) for run in runs))


def _origin(run: RunStatus, now_unix_s: float) -> Text:
    """Return whose run it is, how long it has been running and how long it still takes."""
    who = f"run {run.run_id[:8]} of {run.user} on {run.host}, process {run.pid}"
    start = f"{who}: began {_when(run.began_unix_s, now_unix_s)}"
    unheard_s = run.unheard_s(now_unix_s)
    if unheard_s is not None:
        reason = "its process may have been killed; the same command resumes it"
        return Text(f"{start}, not heard from for {format_duration(unheard_s)} ({reason})", style="red")
    is_building = run.features and not run.left_s  # then its tasks are not known by their steps yet
    return Text(f"{start}, {_left(None if is_building else run.left_s)}")


def _left(left_s: float | None) -> str:
    if left_s is None:
        return "time left not known yet"
    return f"about {format_duration(left_s)} left" if left_s else "no tasks left"


def _tasks(run: RunStatus) -> Text:
    counts = f"{run.waiting} waiting, {len(run.running)} running, {run.done} done, {run.failed} failed"
    features = f"; features to build: {run.features}" if run.features else ""
    return Text(f"tasks: {counts}{features}", style="red" if run.failed else "")


def _searches_table(searches: Sequence[SearchStatus]) -> DisplayTable:
    rows = [
        DisplayRow(
            [
                search.name,
                f"{search.done}/{search.trials}",
                str(search.running),
                format_percent(search.best),
                format_percent(search.untuned),
            ]
        )
        for search in searches
    ]
    return DisplayTable([Column("search"), *numeric("trials", "running", "best", "untuned")], rows)


def _nodes_table(nodes: Sequence[NodeStatus], now_unix_s: float) -> DisplayTable:
    """Return the nodes, those that are out first."""
    ordered = sorted(nodes, key=lambda node: (node.quarantined_unix_s is None, node.host))
    rows = [
        DisplayRow([node.host, str(node.running), str(node.done), _node_state(node, now_unix_s)])
        for node in ordered[:N_SHOWN]
    ]
    columns = [Column("host"), *numeric("running", "done"), Column("state")]
    return DisplayTable(columns, rows, caption=_more(len(nodes)))


def _node_state(node: NodeStatus, now_unix_s: float) -> str | Text:
    if node.quarantined_unix_s is None:
        return "in use" if node.running else "idle"
    when = _when(node.quarantined_unix_s, now_unix_s)
    return Text(f"out since {when}: {node.reason or 'no reason given'}", style="red")


def _running_table(running: Sequence[RunningTask], now_unix_s: float) -> DisplayTable:
    """Return the tasks that run, those that have been running for longest first."""
    ordered = sorted(running, key=lambda task: task.since_unix_s)
    rows = [
        DisplayRow(
            [
                task.label,
                task.host,
                format_duration(max(now_unix_s - task.since_unix_s, 0.0)),
                f"{task.step}/{task.steps}" if task.steps else MISSING,
            ]
        )
        for task in ordered[:N_SHOWN]
    ]
    columns = [Column("running task"), Column("host"), *numeric("for", "step")]
    return DisplayTable(columns, rows, caption=_more(len(running)))


def _retry_line(retry: Retry, now_unix_s: float) -> Text:
    when = _when(retry.unix_s, now_unix_s)
    where = f" on {retry.host}" if retry.host else ""
    return Text(f"retried: {retry.label}, failed{where} at {when}: {retry.reason}")


def _more(number: int) -> str:
    return f"and {number - N_SHOWN} more" if number > N_SHOWN else ""


def _when(unix_s: float, now_unix_s: float) -> str:
    """Return a time of this machine's time zone, with how long ago it is."""
    then, now = datetime.fromtimestamp(unix_s), datetime.fromtimestamp(now_unix_s)
    clock = then.strftime("%H:%M:%S" if then.date() == now.date() else "%Y-%m-%d %H:%M:%S")
    return f"{clock} ({format_duration(max(now_unix_s - unix_s, 0.0))} ago)"
