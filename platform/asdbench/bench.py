"""A run of the bench from start to end: features, training, scoring, judging, tracking, leaderboard.

What is stored is not done again, so the same call after an interruption goes on where it stopped.
"""

import dataclasses
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl
from rich.console import Console

from asdbench import registry
from asdbench.config import Simplex, settings_of, typed
from asdbench.data import catalogue, store
from asdbench.data.catalogue import DataSet
from asdbench.doing import Doing, Execution, Failed
from asdbench.engine.jobs import JobStore, Prepared, Work, by_training
from asdbench.errors import InputError, unknown_name
from asdbench.metrics import DEFAULT_THRESHOLD
from asdbench.report.leaderboard import Format, render, rows, with_references
from asdbench.report.reference import references, references_for
from asdbench.search.plan import Search
from asdbench.watch import label_of, progress

if TYPE_CHECKING:
    from asdbench.engine.evaluation import Tuned
    from asdbench.fusing import Fused
    from asdbench.report.stored import Settings
    from asdbench.tracking.recorder import Recorder
    from asdbench.tuned import Found

Wanted = TypeVar("Wanted")

PRESETS = ("report", "fast", "demo")
UNTUNED = Search(trials=0)
_RECORDING_PATIENCE_S = 30.0  # with MLflow at the end of a run; what is left is recorded later


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
    for configured in each.values():
        for seed in dict.fromkeys(request.seeds):
            for machine in machines:
                jobs.append(
                    Prepared.with_settings(configured, data, machine, seed=seed, others=request.others)
                )
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


def run(request: Request, execution: Execution, *, console: Console, search: Search = UNTUNED) -> int:
    """Run a request, tune its systems if a search asks for trials, judge, record and show the leaderboard.

    Returns the exit code: 0, or 1 if a part of it failed, 2 if bad input is why.
    """
    from asdbench.report.searches import fusion_table
    from asdbench.tracking.recorder import Recorder
    from asdbench.tuned import Found, left_out_tables, record_trial, studies_of_run

    began = time.perf_counter()
    jobs = prepare(request)
    jobs_store, data = JobStore(), jobs[0].data
    studies = []
    if search.trials:
        if execution.local:
            raise InputError("a search runs on Ray: leave --local out, or the search with --trials 0")
        studies = studies_of_run(
            jobs,
            search,
            preset=request.preset,
            settings=request.settings,
            subset=request.subset,
            console=console,
        )
    build_features(jobs, console=console)
    works = by_training(jobs)
    to_do = [work for work in works if not jobs_store.is_done(work)]
    recorder = Recorder()
    doing = Doing(
        execution,
        jobs_store,
        console=console,
        prepare_data=partial(build_features, console=console),
        on_trial=lambda study, trial: record_trial(recorder, jobs_store, study, trial, trials=search.trials),
    )
    with doing:
        if to_do or any(len(study.finished) < search.trials for study in studies):
            doing.begin()  # its start goes on while the plan is made
        to_do = plan(data, works, to_do, jobs_store, console=console)
        failures = doing.do(to_do, studies=studies, trials=search.trials)
        found = [of for study in studies if (of := Found.by(study, data.machine_types)) is not None]
        failures += doing.do(by_training(prepared for of in found for prepared in of.jobs))
        fused = _fused(jobs, found, request, search, doing, console=console) if studies else []
    judged, unjudged = judge(jobs, jobs_store, console=console)
    for of in found:
        if of.study.held_out is None:
            runs, not_judged = judge(of.jobs, jobs_store, console=console, tuned=of.tuned)
            judged, unjudged = judged + runs, unjudged + not_judged
    for ensemble in fused:
        runs, not_judged = judge(ensemble.jobs, jobs_store, console=console, tuned=ensemble.tuned)
        judged, unjudged = judged + runs, unjudged + not_judged
        console.print(fusion_table(ensemble.ensemble.name, ensemble.report))
    for judged_run in judged:
        recorder.put(judged_run)
    for table in left_out_tables(found, jobs_store):
        console.print(table)
    for subset in sorted({judged_run.subset for judged_run in judged}):
        show_leaderboard(data.name, console=console, subset=subset)
    for failed in failures + unjudged:
        said = f"failed: {failed.label}: {failed.message}"
        console.print(said, style="red", soft_wrap=True, markup=False, highlight=False)
    show_recorded(recorder, console=console)
    console.print(f"{time.perf_counter() - began:.0f} s in all")
    return max((2 if failed.bad_input else 1 for failed in failures + unjudged), default=0)


def _fused(
    jobs: Sequence[Prepared],
    found: Sequence["Found"],
    request: Request,
    search: Search,
    doing: Doing,
    *,
    console: Console,
) -> list["Fused"]:
    """Search the weights of a run's ensembles, with members as they were tuned where they were."""
    from asdbench.fusing import fuse

    tuned = {of.study.system: of for of in found if of.study.held_out is None}
    ensembles = {prepared.job.system: prepared for prepared in jobs if prepared.members}
    fused = []
    for name, prepared in ensembles.items():
        settings = dict(prepared.configured.changed())
        for member in prepared.configured.members:
            if member.name in tuned:
                changed = tuned[member.name].jobs[0].configured.changed()
                settings |= {f"{member.name}.{setting}": value for setting, value in changed.items()}
        try:
            fused.append(
                fuse(
                    registry.configure(name, settings),
                    prepared.data,
                    JobStore(),
                    seeds=request.seeds,
                    others=request.others,
                    seed=search.seed,
                    connect=doing.conductor,
                )
            )
        except InputError as error:
            console.print(
                f"note: {name} is not fused: {error}", markup=False, highlight=False, soft_wrap=True
            )
    return fused


def fuse_systems(
    members: Sequence[str],
    data: str,
    *,
    seeds: Sequence[int],
    into: str | None,
    evaluations: int | None,
    seed: int,
    settings: "Settings",
    console: Console,
) -> None:
    """Search the fusion weights of systems that have run, here, and show them and the leaderboard."""
    from asdbench.fusing import EVALUATIONS, fuse
    from asdbench.report.searches import fusion_table
    from asdbench.tracking.recorder import Recorder

    chosen = into or _only_ensemble()
    ensemble = registry.configure(chosen, {"members": tuple(members)})
    wanted = {key: value for key, value in settings.values.items() if ensemble.accepts(key)}
    unknown = sorted(settings.values.keys() - wanted.keys())
    if unknown:
        raise unknown_name(f"setting of {chosen} or its members:", unknown[0], ensemble.values())
    registered, store = catalogue.load(data), JobStore()
    with progress(console) as bars:
        task = bars.add_task("weights", total=None, detail="")
        fused = fuse(
            registry.configure(chosen, {"members": tuple(members), **wanted}, preset=settings.preset),
            registered,
            store,
            seeds=seeds,
            others=settings.others,
            evaluations=EVALUATIONS if evaluations is None else evaluations,
            seed=seed,
            tell=lambda done, of: bars.update(task, completed=done, total=of),
        )
    judged, _ = judge(fused.jobs, store, console=console, tuned=fused.tuned)
    recorder = Recorder()
    for judged_run in judged:
        recorder.put(judged_run)
    console.print(fusion_table(chosen, fused.report))
    changed = " ".join(f"{name}={typed(value)}" for name, value in fused.ensemble.changed().items())
    said = f"the same by hand: asdbench run {chosen} --data {data} --set {changed}"
    console.print(said, markup=False, highlight=False, soft_wrap=True)
    show_leaderboard(data, console=console, subset="dev")
    show_recorded(recorder, console=console)


def _only_ensemble() -> str:
    """Return the only system whose fusion weights can be searched."""
    found = []
    for name in registry.names():
        settings = settings_of(registry.get(name).Config).values()
        if any(isinstance(setting.domain, Simplex) for setting in settings):
            found.append(name)
    if len(found) != 1:
        there = ", ".join(found) or "none"
        raise InputError(f"--into must name the ensemble that takes the weights; there are: {there}")
    return found[0]


def show_recorded(recorder: "Recorder", *, console: Console) -> None:
    """Wait for what is being recorded, and say where it is or why it is not there yet."""
    from asdbench.tracking.mlflow_runs import runs_page, shown_uri, ui_command

    with console.status(f"recording in MLflow at {shown_uri()}"):
        left = recorder.close(patience_s=_RECORDING_PATIENCE_S)
    if left.entries:
        console.print(f"note: {left.why}", markup=False, highlight=False, soft_wrap=True)
    if recorder.experiments:
        console.print(f"MLflow UI: {ui_command()}", soft_wrap=True, highlight=False)
    for name, experiment in recorder.experiments.items():
        metric = "best_score" if name.endswith("/searches") else "official_score"
        page = runs_page(experiment, metric=metric)
        console.print(f"  then open {page}", soft_wrap=True, highlight=False)


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
    with progress(console) as bars:
        for data, machine, spec, least in ((data, *spec) for data, specs in missing for spec in specs):
            clips = data.clips.filter(pl.col("machine_type") == machine).height
            task = bars.add_task(f"{machine} waveforms", total=clips, detail="")
            store.waveforms(data, machine, progress=partial(bars.advance, task))
            bars.update(task, completed=clips)  # they may have been there
            task = bars.add_task(f"{machine} log-mel", total=clips, detail="")
            store.mels(data, machine, spec, min_frames=least, progress=partial(bars.advance, task))


def judge(
    jobs: Sequence[Prepared], jobs_store: JobStore, *, console: Console, tuned: "Tuned | None" = None
) -> tuple[list[Any], list[Failed]]:
    """Evaluate those jobs that are scored; ``tuned`` says how a search has chosen their settings.

    Returns one tracking Run for each system, its settings, seed and subset, over all machine types that are
    scored, and what could not be judged.
    """
    from asdbench.engine.evaluation import (
        NoLabels,
        anomaly_scores,
        evaluate,
        labelled_types,
        training_records,
    )
    from asdbench.tracking.runs import Run
    from asdbench.tuned import curve_of

    groups: dict[tuple[str, int], list[Prepared]] = {}
    for prepared in jobs:
        if jobs_store.is_scored(prepared):
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
                    results[machine] = evaluate(prepared, jobs_store, subset=subset, tuned=tuned)
                except NoLabels as error:
                    notes[str(error)] = None
                    continue
                except InputError as error:
                    failures.append(Failed(label_of(Work((prepared,))), str(error), bad_input=True))
                    continue
                scores[machine] = anomaly_scores(prepared, jobs_store)
                curves[machine] = curve_of(training_records(prepared, jobs_store))
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
                    tuned=dataclasses.asdict(tuned) if tuned else None,
                )
            )
    for note in notes:
        console.print(f"note: {note}", markup=False)
    return runs, failures


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


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
