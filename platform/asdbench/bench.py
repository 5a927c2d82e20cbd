"""A run of the bench from start to end: features, training, scoring, judging, tracking, leaderboard.

What is stored is not done again, so the same call after an interruption goes on where it stopped.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from asdbench import registry
from asdbench.cluster.placement import Placement
from asdbench.data import catalogue, store
from asdbench.data.catalogue import DataSet
from asdbench.engine.events import Event, Failure
from asdbench.engine.jobs import Job, JobStore, Prepared, Work, by_training
from asdbench.errors import InputError, unknown_name
from asdbench.files import read_json
from asdbench.report.leaderboard import Format, render, rows

PRESETS = ("demo",)


@dataclass(frozen=True)
class Request:
    """What is to be run: every system with every seed on every machine type of a data set.

    Attributes
    ----------
    systems : names of systems
    data : name of a registered data set
    seeds : seeds
    machines : machine types; empty for all
    settings : settings by name; each goes to those systems that have it
    preset : named settings of the systems, under ``settings``; systems without it keep their defaults
    """

    systems: Sequence[str]
    data: str
    seeds: Sequence[int] = (0,)
    machines: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None


@dataclass(frozen=True)
class Execution:
    """How it is run.

    Attributes
    ----------
    local : in this process, without Ray
    placement : how the works are spread over the cluster
    address : Ray cluster; ``"local"`` starts one for this run and ends it
    checkpoint_epochs : epochs between checkpoints
    """

    local: bool = False
    placement: Placement = field(default_factory=Placement)
    address: str = "local"
    checkpoint_epochs: int = 5

    def __post_init__(self) -> None:
        if self.checkpoint_epochs < 1:
            raise InputError(f"--checkpoint-epochs {self.checkpoint_epochs} must be at least 1")
        if self.local and self.placement != Placement():
            raise InputError("--local runs in one process; leave the options that place workers out")


def prepare(request: Request) -> list[Prepared]:
    """Look up all jobs of a request; every name, setting and data set is checked here.

    Raises :class:`InputError` for what does not exist, is not allowed or cannot be trained on.
    """
    if not request.systems:
        raise InputError(f"no system is named; there are: {', '.join(registry.names())}")
    if not request.seeds:
        raise InputError("no seed is given; --seeds takes one or more whole numbers")
    for seed in request.seeds:
        if seed < 0:
            raise InputError(f"seed {seed} is negative; seeds are whole numbers from 0")
    if request.preset is not None and request.preset not in PRESETS:
        raise unknown_name("preset", request.preset, PRESETS)
    data = catalogue.load(request.data)
    for machine in request.machines:
        if machine not in data.machine_types:
            raise unknown_name(f"machine type in data set {data.name!r}:", machine, data.machine_types)
    machines = list(dict.fromkeys(request.machines)) or list(data.machine_types)
    jobs = []
    for name in dict.fromkeys(request.systems):
        configured = registry.configure(name, _settings_for(name, request), preset=request.preset)
        for seed in dict.fromkeys(request.seeds):
            for machine in machines:
                job = Job(name, configured.changed(), data.name, machine, seed)
                jobs.append(Prepared(job, configured, data))
    store.check_unchanged(data, data.clips.filter(pl.col("machine_type").is_in(machines)))
    for prepared in {(p.job.machine_type, p.configured.trainer.name): p for p in jobs}.values():
        _ = prepared.clips  # too few clips or machine types are found before any work is done
    return jobs


def run(request: Request, execution: Execution, *, console: Console) -> int:
    """Run a request; returns the exit code: 0, or 1 if a part of it failed, 2 if bad input is why."""
    began = time.perf_counter()
    jobs = prepare(request)
    jobs_store = JobStore()
    data = jobs[0].data
    build_features(jobs, console=console)
    works = by_training(jobs)
    to_do = [work for work in works if not jobs_store.is_done(work)]
    do = _starting(execution) if to_do else None  # it goes on while the plan is made
    console.print(_plan(data, works, to_do, jobs_store))
    failures: list[Failure] = []
    if do is not None:
        with Watch(to_do, console) as watch:
            failures = do(to_do, jobs_store, on_event=watch.tell)
    failed = {id(prepared) for failure in failures for prepared in to_do[failure.work].jobs}
    judged = judge([prepared for prepared in jobs if id(prepared) not in failed], jobs_store, console=console)
    if judged:
        from asdbench.tracking.mlflow_runs import record, runs_page, tracking_uri, ui_command

        with console.status(f"recording in MLflow at {tracking_uri()}"):
            experiments = record(judged)
        show_leaderboard(data.name, console=console)
        console.print(f"MLflow UI: {ui_command()}", soft_wrap=True, highlight=False)
        console.print(f"  then open {runs_page(experiments[data.name])}", soft_wrap=True, highlight=False)
    console.print(f"{time.perf_counter() - began:.0f} s in all")
    for failure in failures:
        for prepared in to_do[failure.work].jobs:
            console.print(
                f"failed: {_label(prepared)}: {failure.message}", style="red", soft_wrap=True, markup=False
            )
    return max((2 if failure.bad_input else 1 for failure in failures), default=0)


def build_features(jobs: Sequence[Prepared], *, console: Console) -> None:
    """Build what the jobs' systems read and the store does not hold yet, with progress and its cost."""
    data = jobs[0].data
    wanted = list(
        dict.fromkeys(
            (machine, prepared.needs.mel, prepared.needs.window_frames)
            for prepared in jobs
            for machine in prepared.machine_types_read
        )
    )
    missing = store.missing(data, wanted)
    if not missing:
        return
    size = store.bytes_to_build(data, wanted)
    _check_disk(size)
    for note in catalogue.describe(data).notes:
        console.print(f"note: {note}", markup=False)
    console.print(f"features: {len(missing)} to build, {size / 1e6:,.0f} MB")
    with _progress(console) as progress:
        for machine, spec, least in missing:
            clips = data.clips.filter(pl.col("machine_type") == machine).height
            task = progress.add_task(f"{machine} waveforms", total=clips, detail="")
            store.waveforms(data, machine, progress=partial(progress.advance, task))
            progress.update(task, completed=clips)  # they may have been there
            task = progress.add_task(f"{machine} log-mel", total=clips, detail="")
            store.mels(data, machine, spec, min_frames=least, progress=partial(progress.advance, task))


def judge(jobs: Sequence[Prepared], jobs_store: JobStore, *, console: Console) -> list[Any]:
    """Evaluate scored jobs; returns one tracking Run for each system, its settings and seed."""
    from asdbench.engine.evaluation import anomaly_scores, evaluate
    from asdbench.tracking.mlflow_runs import Run

    groups: dict[tuple[str, int], list[Prepared]] = {}
    for prepared in jobs:
        groups.setdefault((prepared.job.system, prepared.job.seed), []).append(prepared)
    runs = []
    for (system, seed), group in groups.items():
        results, scores, curves = {}, {}, {}
        for prepared in group:
            try:
                results[prepared.job.machine_type] = evaluate(prepared, jobs_store)
            except InputError as error:
                console.print(f"note: {error}", markup=False)
                continue
            scores[prepared.job.machine_type] = anomaly_scores(prepared, jobs_store)
            training = read_json(jobs_store.training(prepared.training_key) / "training.json")
            curves[prepared.job.machine_type] = training["curve"]
        if not results:
            continue
        first = group[0]
        runs.append(
            Run(
                system=system,
                settings=first.configured.values(),
                changed_settings=first.configured.changed(),
                data=first.data.name,
                fingerprint=first.data.fingerprint(),
                seed=seed,
                records={machine: result.record for machine, result in results.items()},
                keys={machine: result.key for machine, result in results.items()},
                scores=scores,
                curves=curves,
            )
        )
    return runs


def current_records(data: DataSet, jobs_store: JobStore) -> tuple[list[dict[str, Any]], int]:
    """Return the stored results that hold for the data and systems as they are now, and how many do not."""
    from asdbench.engine.evaluation import stored_results, truth_fingerprint

    truth = truth_fingerprint(catalogue.truth(data.name))
    fingerprints = {machine: data.fingerprint(machine) for machine in data.machine_types}
    current, outdated = [], 0
    for record in stored_results(jobs_store):
        if record["data"] != data.name:
            continue
        try:
            code = registry.source_hash(record["system"])
        except InputError:
            code = None
        holds = (
            record["fingerprint"] == fingerprints.get(record["machine_type"])
            and record["truth"] == truth
            and record["code"] == code
        )
        current += [record] if holds else []
        outdated += not holds
    return current, outdated


def show_leaderboard(name: str, *, console: Console, by_type: bool = False, format: Format = "table") -> None:
    """Print the leaderboard of a data set; other formats than ``table`` go to standard output bare."""
    data = catalogue.load(name)
    records, outdated = current_records(data, JobStore())
    if outdated:
        console.print(
            f"note: {outdated} stored results are of other recordings, labels or code than now; not shown"
        )
    if not records and format == "table":
        console.print(f"no results on data set {name!r} yet; 'asdbench run SYSTEM --data {name}' makes some")
        return
    table = rows(records, machine_types=data.machine_types, by_type=by_type)
    text = render(table, format=format, title=f"Leaderboard of {name}", console=console)
    if text is not None:
        print(text, end="" if text.endswith("\n") else "\n")


class Watch:
    """The live view of works under way; on what is not a terminal, a line for each work done."""

    def __init__(self, works: Sequence[Work], console: Console) -> None:
        self._works = works
        self._console = console
        self._progress = _progress(console)
        self._tasks: dict[int, Any] = {}
        self._done = 0

    def __enter__(self) -> "Watch":
        self._progress.start()
        self._all = self._progress.add_task("trainings", total=len(self._works), detail="")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, event: Event) -> None:
        """Show one event of a worker."""
        index = event["work"]
        label = _label(self._works[index].first)
        if index not in self._tasks:
            self._tasks[index] = self._progress.add_task(label, total=None, detail="")
        task = self._tasks[index]
        if event.get("done"):
            self._done += 1
            self._progress.update(self._all, completed=self._done)
            self._progress.remove_task(task)
            del self._tasks[index]
            if not self._console.is_terminal:
                self._console.print(f"done {self._done}/{len(self._works)}: {label}", markup=False)
            return
        losses = ", ".join(f"{name} {value:.4g}" for name, value in event["losses"].items())
        detail = f"epoch {event['epoch']}, {losses}"
        self._progress.update(task, total=event["steps"], completed=event["step"], detail=detail)


def _starting(execution: Execution) -> Callable[..., list[Failure]]:
    """Begin to start what will do the works, and return the function that does them."""
    if execution.local:
        from asdbench.engine.local import run_local

        return partial(run_local, checkpoint_epochs=execution.checkpoint_epochs)
    from asdbench.cluster.connection import Connection

    connection = Connection(execution.address)
    from asdbench.cluster.training import run_on_ray

    return partial(
        run_on_ray,
        connection=connection,
        placement=execution.placement,
        checkpoint_epochs=execution.checkpoint_epochs,
    )


def _plan(data: DataSet, works: Sequence[Work], to_do: Sequence[Work], jobs_store: JobStore) -> str:
    """Say what there is to do and what it will cost."""
    from asdbench.engine.training import total_steps

    trainings = [work for work in to_do if not jobs_store.is_trained(work.first)]
    jobs = sum(len(work.jobs) for work in works)
    said = (
        f"{data.name}: {len(data.machine_types)} machine types, {data.clips.height} clips; {jobs} jobs over "
        f"{len(works)} trainings, of which {len(works) - len(trainings)} are stored"
    )
    if not trainings:
        return said
    steps: dict[tuple[str, str, str], int] = {}
    total, seconds, known = 0, 0.0, True
    for work in trainings:
        first = work.first
        trainer = first.configured.trainer
        like = (trainer.name, first.job.machine_type, repr(trainer.values()))
        if like not in steps:
            steps[like] = total_steps(first.build_trained(first.clips.facts), first.clips)
        total += steps[like]
        rate = jobs_store.steps_per_second(trainer.name)
        known = known and rate is not None
        seconds += steps[like] / rate if rate else 0.0
    said += f"; {total:,} steps to train"
    if known:
        said += f", about {_duration(seconds)} of one worker at the speed of earlier trainings"
    return said


def _settings_for(name: str, request: Request) -> dict[str, Any]:
    """Return the request's settings that the system has; one that no system has is an error."""
    known = {system: set(registry.configure(system).values()) for system in request.systems}
    for key in request.settings:
        if not any(key in settings for settings in known.values()):
            raise unknown_name(f"setting of {' or '.join(known)}:", key, set().union(*known.values()))
    return {key: value for key, value in request.settings.items() if key in known[name]}


def _check_disk(needed: int) -> None:
    place: Path = catalogue.home()
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if free < 2.2 * needed:  # the scratch file beside the final one
        raise InputError(
            f"the features need {2.2 * needed / 1e6:,.0f} MB in {str(place)!r} while they are built and "
            f"{free / 1e6:,.0f} MB are free; make room or set ASDBENCH_HOME to another disk"
        )


def _progress(console: Console) -> Progress:
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


def _label(prepared: Prepared) -> str:
    trainer = prepared.configured.trainer
    return f"{prepared.job.machine_type} {trainer.name} seed {prepared.job.seed}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
