"""A run of the bench from start to end: features, training, scoring, judging, tracking, leaderboard.

What is stored is not done again, so the same call after an interruption goes on where it stopped.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

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
from asdbench.metrics import DEFAULT_THRESHOLD
from asdbench.report.leaderboard import Format, render, rows, with_references
from asdbench.report.reference import references, references_for

Wanted = TypeVar("Wanted")

PRESETS = ("report", "fast", "demo")


@dataclass(frozen=True)
class Request:
    """What is to be run: every system with every seed on every machine type of a data set.

    Attributes
    ----------
    systems : names of systems
    data : name of a registered data set
    seeds : seeds
    machines : machine types; empty for all
    subset : only machine types with clips of this subset, dev or eval
    settings : settings by name; each goes to those systems that have it
    preset : named settings of the systems, under ``settings``; systems without it keep their defaults
    others : data set whose machine types serve as pseudo-anomalies, for the systems that take some
    """

    systems: Sequence[str]
    data: str
    seeds: Sequence[int] = (0,)
    machines: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    others: str | None = None
    subset: str | None = None


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
    machines = _machine_types(data, request)
    if request.others is not None:
        catalogue.load(request.others)
    jobs = []
    each = registry.configure_each(request.systems, request.settings, preset=request.preset)
    for name, configured in each.items():
        others = request.others if configured.takes_others() else None
        for seed in dict.fromkeys(request.seeds):
            for machine in machines:
                job = Job(name, configured.changed(), data.name, machine, seed, others)
                jobs.append(Prepared(job, configured, data))
    if request.others is not None and not any(prepared.job.others for prepared in jobs):
        raise InputError(
            f"--others {request.others}: no system of this run takes pseudo-anomalies from other machine "
            f"types; leave the option out"
        )
    parts = {(p.job.machine_type, p.configured.trainer.name): p for prepared in jobs for p in prepared.parts}
    for prepared in parts.values():
        _ = prepared.clips  # too few clips or machine types are found before any work is done
    for of, wanted in _by_data(
        source for prepared in parts.values() for source in prepared.machine_types_read
    ):
        store.check_unchanged(of, of.clips.filter(pl.col("machine_type").is_in(wanted)))
    return jobs


def _machine_types(data: DataSet, request: Request) -> list[str]:
    """Return the machine types that a request is of."""
    known, where = data.machine_types, f"data set {data.name!r}"
    if request.subset is not None:
        where = f"the subset {request.subset} of {where}"
        known = tuple(data.clips.filter(pl.col("subset") == request.subset)["machine_type"].unique().sort())
        if not known:
            raise InputError(f"there are no clips in {where}; leave --subset out")
    for machine in request.machines:
        if machine not in known:
            raise unknown_name(f"machine type in {where}:", machine, known)
    return list(dict.fromkeys(request.machines)) or list(known)


def _by_data(sources: Iterable[tuple[DataSet, Wanted]]) -> list[tuple[DataSet, list[Wanted]]]:
    """Group what is wanted by its data set, each thing once."""
    grouped: dict[str, tuple[DataSet, dict[Wanted, None]]] = {}
    for data, wanted in sources:
        grouped.setdefault(data.name, (data, {}))[1][wanted] = None
    return [(data, list(wanted)) for data, wanted in grouped.values()]


def run(request: Request, execution: Execution, *, console: Console) -> int:
    """Run a request; returns the exit code: 0, or 1 if a part of it failed, 2 if bad input is why."""
    began = time.perf_counter()
    jobs = prepare(request)
    jobs_store = JobStore()
    data = jobs[0].data
    build_features(jobs, console=console)
    works = by_training(jobs)
    to_do = [work for work in works if not jobs_store.is_done(work)]
    failures: list[tuple[str, str, bool]] = []
    do = _doer(execution) if to_do else None  # its start goes on while the plan is made
    to_do = plan(data, works, to_do, jobs_store, console=console)
    if do is not None:
        with Watch(to_do, console) as watch:
            failures = [
                (_label(to_do[failure.work], failure.systems), failure.message, failure.bad_input)
                for failure in do(to_do, jobs_store, on_event=watch.tell)
            ]
    scored = [prepared for prepared in jobs if jobs_store.is_scored(prepared)]
    judged, unjudged = judge(scored, jobs_store, console=console)
    failures += unjudged
    for subset in sorted({run.subset for run in judged}):
        show_leaderboard(data.name, console=console, subset=subset)
    for label, message, _ in failures:
        console.print(
            f"failed: {label}: {message}", style="red", soft_wrap=True, markup=False, highlight=False
        )
    if judged:
        from asdbench.tracking.mlflow_runs import record, runs_page, tracking_uri, ui_command

        with console.status(f"recording in MLflow at {tracking_uri()}"):
            experiments = record(judged)
        console.print(f"MLflow UI: {ui_command()}", soft_wrap=True, highlight=False)
        for experiment in experiments.values():
            console.print(f"  then open {runs_page(experiment)}", soft_wrap=True, highlight=False)
    console.print(f"{time.perf_counter() - began:.0f} s in all")
    return max((2 if bad_input else 1 for _, _, bad_input in failures), default=0)


def build_features(jobs: Sequence[Prepared], *, console: Console) -> None:
    """Build what the jobs' systems read and the store does not hold yet, with progress and its cost."""
    wanted = _by_data(
        (data, (machine, part.needs.mel, part.needs.window_frames))
        for prepared in jobs
        for part in prepared.parts
        for data, machine in part.machine_types_read
    )
    missing = [(data, found) for data, specs in wanted if (found := store.missing(data, specs))]
    if not missing:
        return
    size = sum(store.bytes_to_build(data, specs) for data, specs in missing)
    _check_disk(size)
    for data, _ in missing:
        for note in catalogue.describe(data).notes:
            console.print(f"note: {note}", markup=False)
    console.print(f"features: {sum(len(specs) for _, specs in missing)} to build, {size / 1e6:,.0f} MB")
    with _progress(console) as progress:
        for data, machine, spec, least in ((data, *spec) for data, specs in missing for spec in specs):
            clips = data.clips.filter(pl.col("machine_type") == machine).height
            task = progress.add_task(f"{machine} waveforms", total=clips, detail="")
            store.waveforms(data, machine, progress=partial(progress.advance, task))
            progress.update(task, completed=clips)  # they may have been there
            task = progress.add_task(f"{machine} log-mel", total=clips, detail="")
            store.mels(data, machine, spec, min_frames=least, progress=partial(progress.advance, task))


def judge(
    jobs: Sequence[Prepared], jobs_store: JobStore, *, console: Console
) -> tuple[list[Any], list[tuple[str, str, bool]]]:
    """Evaluate scored jobs.

    Returns one tracking Run for each system, its settings, seed and subset, over all machine types that are
    scored, and what could not be judged: label, message and whether the input is to blame.
    """
    from asdbench.engine.evaluation import (
        NoLabels,
        anomaly_scores,
        evaluate,
        labelled_types,
        training_records,
    )
    from asdbench.tracking.mlflow_runs import Run

    groups: dict[tuple[str, int], list[Prepared]] = {}
    for prepared in jobs:
        groups.setdefault((prepared.job.system, prepared.job.seed), []).append(prepared)
    runs, failures = [], []
    notes: dict[str, None] = {}  # each once
    for group in groups.values():
        first = group[0]
        scored = _with_earlier_types(group, jobs_store)
        for subset in first.data.subsets():
            results, scores, curves = {}, {}, {}
            for prepared in scored:
                machine = prepared.job.machine_type
                if subset not in first.data.subsets(machine):
                    continue
                try:
                    results[machine] = evaluate(prepared, jobs_store, subset=subset)
                except NoLabels as error:
                    notes[str(error)] = None
                    continue
                except InputError as error:
                    failures.append((_label(Work((prepared,)), ()), str(error), True))
                    continue
                scores[machine] = anomaly_scores(prepared, jobs_store)
                curves[machine] = _curve(training_records(prepared, jobs_store))
            if not results:
                continue
            runs.append(
                Run(
                    system=first.job.system,
                    settings=first.configured.values(),
                    changed_settings=first.configured.changed(),
                    data=first.data.name,
                    fingerprint=first.data.fingerprint(),
                    seed=first.job.seed,
                    complete=results.keys() >= set(labelled_types(first.data, subset=subset)),
                    records={machine: result.record for machine, result in results.items()},
                    keys={machine: result.key for machine, result in results.items()},
                    scores=scores,
                    curves=curves,
                    subset=subset,
                )
            )
    for note in notes:
        console.print(f"note: {note}", markup=False)
    return runs, failures


def _curve(trainings: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a job's training curve; of several trainings with the trained system in the stage's name."""
    if len(trainings) == 1:
        return next(iter(trainings.values()))["curve"]  # type: ignore[no-any-return]
    return [
        {**point, "stage": f"{name} {point['stage']}"}
        for name, record in trainings.items()
        for point in record["curve"]
    ]


def _with_earlier_types(group: Sequence[Prepared], jobs_store: JobStore) -> list[Prepared]:
    """Return the jobs of a system and seed, with those of machine types that earlier runs have scored."""
    first = group[0]
    own = {prepared.job.machine_type: prepared for prepared in group}
    for machine in first.data.machine_types:
        if machine not in own:
            other = Prepared(
                dataclasses.replace(first.job, machine_type=machine), first.configured, first.data
            )
            if jobs_store.is_scored(other):
                own[machine] = other
    return [own[machine] for machine in sorted(own)]


def show_leaderboard(
    name: str,
    *,
    console: Console,
    by_type: bool = False,
    format: Format = "table",
    reference: bool = False,
    intervals: bool = False,
    subset: str | None = None,
    threshold: str = DEFAULT_THRESHOLD,
) -> None:
    """Print the leaderboard of a data set; other formats than ``table`` go to standard output bare.

    ``reference`` shows published results too, ``intervals`` a bootstrap interval of each score. It is of one
    subset: dev if any of its test clips has a known label, else eval, where none is named.
    """
    from asdbench.engine.evaluation import current_results, first_subset, labelled_clips, labelled_types
    from asdbench.report.compare import with_intervals

    data = catalogue.load(name)
    if subset is None:
        known = labelled_clips(data)
        subset = first_subset(known)
        if known["subset"].n_unique() > 1:
            console.print(f"note: of the {subset} subset; --subset eval shows the other")
    records, outdated = current_results(data, JobStore(), subset=subset)
    if outdated:
        console.print(
            f"note: {outdated} stored results are of other recordings, labels or code than now; not shown"
        )
    labelled = labelled_types(data, subset=subset)
    published = references_for(name, labelled, subset=subset) if reference else []
    part = data.suffix(subset)
    if reference and not published:
        there = sorted({f"{found.data} ({found.subset})" for found in references()})
        console.print(f"note: no published results on {name}{part}; there are some on {', '.join(there)}")
    if not records and not published and format == "table":
        console.print(
            f"no results on data set {name!r}{part} yet; 'asdbench run SYSTEM --data {name}' makes some"
        )
        return
    for machine in sorted(set(data.machine_types) - set(labelled)):
        if subset in data.subsets(machine):
            console.print(f"note: no test clip of {machine} has a known label; it is not on the leaderboard")
    table = rows(records, machine_types=labelled, by_type=by_type, threshold=threshold)
    if intervals:
        table = with_intervals(table, data, JobStore(), subset=subset)
    if reference:
        table = with_references(table, published, machine_types=labelled, by_type=by_type)
    title = f"Leaderboard of {name}{part}"
    text = render(table, format=format, title=title, rule=data.rule, console=console)
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
        label = _label(self._works[index], [self._works[index].first.configured.trainer.name])
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


def _doer(execution: Execution) -> Callable[..., list[Failure]]:
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


def plan(
    data: DataSet, works: Sequence[Work], to_do: Sequence[Work], jobs_store: JobStore, *, console: Console
) -> list[Work]:
    """Say what there is to do and what it will cost; returns ``to_do`` with the longest work first."""
    from asdbench.engine.training import total_steps

    jobs = sum(len(work.jobs) for work in works)
    stored = sum(jobs_store.is_trained(work.first) for work in works)
    said = (
        f"{data.name}: {len(data.machine_types)} machine types, {data.clips.height} clips; {jobs} jobs over "
        f"{len(works)} trainings, of which {stored} are stored"
    )
    steps: dict[tuple[str, str, str], int] = {}
    rates: dict[str, float | None] = {}
    costs: dict[int, tuple[int, float]] = {}
    for work in to_do:
        first, trainer = work.first, work.first.configured.trainer
        if jobs_store.is_trained(first):
            costs[id(work)] = (0, 0.0)
            continue
        like = (trainer.name, first.job.machine_type, repr(trainer.values()))
        if like not in steps:
            steps[like] = total_steps(first.build_trained(first.clips.facts), first.clips)
        if trainer.name not in rates:
            rates[trainer.name] = jobs_store.steps_per_second(trainer.name)
        costs[id(work)] = (steps[like], steps[like] / (rates[trainer.name] or 1.0))
    if any(count for count, _ in costs.values()):
        said += f"; {sum(count for count, _ in costs.values()):,} steps to train"
        if all(rates.values()):
            seconds = sum(seconds for _, seconds in costs.values())
            said += f", about {_duration(seconds)} of one worker at the speed of earlier trainings"
    console.print(said)
    return sorted(to_do, key=lambda work: -costs[id(work)][1])


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


def _label(work: Work, systems: Sequence[str] = ()) -> str:
    job = work.first.job
    return f"{job.machine_type} {', '.join(systems or work.systems)} seed {job.seed}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
