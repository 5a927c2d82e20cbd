"""The pipeline of a run: features, training, scoring, searches, evaluation and tracking.

Finished work is never repeated, so the same call resumes an interrupted run.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from asdbench.data.sets.catalog import DataSet
from asdbench.driver.board import record_judged
from asdbench.driver.board_models import exporter
from asdbench.driver.executor import ExecutionOptions, Executor
from asdbench.driver.fresh_seeds import fresh_seeds, untuned_jobs
from asdbench.driver.fusion import fuse_ensembles, note_unfused
from asdbench.driver.fusion_search import FusionResult
from asdbench.driver.judging import Judged, judge
from asdbench.driver.plan import plan
from asdbench.driver.recording import show_recorded
from asdbench.driver.request import RunRequest, resolve_jobs
from asdbench.driver.run_result import RunResult, TunedSystem, TuneResult
from asdbench.driver.study_results import (
    StudyResult,
    fresh_seeds_tables,
    left_out_tables,
    record_trial,
    studies_for_run,
)
from asdbench.engine.evaluation import labeled_clips
from asdbench.engine.events import Failure
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, TrainingTask, by_training
from asdbench.engine.result_metrics import machine_type_metrics
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.report.chance_notes import low_auc_notes, low_aucs
from asdbench.report.formatting import format_amount, format_duration, print_message, print_note
from asdbench.report.leaderboard_view import load_leaderboard
from asdbench.search.plan import NoSteeringLabels, Search
from asdbench.search.studies import Study

UNTUNED = Search(trials=0)

logger = logging.getLogger(__name__)


def run(
    request: RunRequest,
    execution: ExecutionOptions,
    workspace: Workspace,
    *,
    console: Console,
    search: Search = UNTUNED,
    mlflow_uri: str | None = None,
) -> RunResult:
    """Run a request, tune its systems if a search has trials, and record the results.

    Parameters
    ----------
    request, execution, workspace
        What to run, how, and with which data and store.
    console
        Where to show the plan, the progress and where results are recorded.
    search
        The search; the result is a `TuneResult` if it has trials.
    mlflow_uri
        The MLflow store that records, by default that of the environment or of the data home.
    """
    from asdbench.tracking.address import Address
    from asdbench.tracking.recorder import Recorder

    start_s = time.perf_counter()
    jobs = resolve_jobs(request, workspace)
    logger.info("running %d jobs: %s", len(jobs), request.command())
    store, data = JobStore.from_workspace(workspace).retrying(), jobs[0].data
    studies = _studies(jobs, request, execution, search, console)
    if studies:
        note_unfused(jobs, console=console)
    recorder = Recorder(workspace, Address.from_workspace(workspace, mlflow_uri), export=exporter(workspace))
    executor = Executor(
        execution,
        store,
        workspace,
        console=console,
        on_trial=lambda study, trial: record_trial(recorder, store, study, trial, trials=search.trials),
    )
    with executor:
        failures, study_results = _train(jobs, studies, search, executor, store, console)
        fused = (
            fuse_ensembles(jobs, studies, study_results, request, search, executor, console=console)
            if studies
            else []
        )
    again = untuned_jobs(jobs, studies, fresh_seeds(jobs, search.fresh_seeds))
    judged, not_evaluated, notes = _evaluate([*jobs, *again], study_results, fused, store)
    record_judged(judged, data, store, recorder)
    show_recorded(recorder, console=console)
    subsets = sorted({item.subset for item in judged})
    leaderboards = tuple(load_leaderboard(data.name, workspace, subset=subset) for subset in subsets)
    notes += [note for found in fused for note in found.notes]
    notes += [note for leaderboard in leaderboards for note in leaderboard.notes]
    for subset in subsets:
        notes += _notes_on_labels([item for item in judged if item.subset == subset], data)
    duration_s = time.perf_counter() - start_s
    result = RunResult(
        data.name, leaderboards, tuple(failures + not_evaluated), tuple(dict.fromkeys(notes)), duration_s
    )
    print_message(console, f"finished in {format_duration(duration_s)}")
    return _tuned(result, study_results, fused, store) if studies else result


def show_plan(
    request: RunRequest, execution: ExecutionOptions, workspace: Workspace, *, console: Console
) -> None:
    """Print what a request will cost here, and run nothing.

    The time is not known where a system has never been trained; a note gives the command that measures it.
    """
    jobs = resolve_jobs(request, workspace)
    store, tasks = JobStore.from_workspace(workspace), by_training(jobs)
    to_do = _undone(tasks, store)
    plan(jobs[0].data, tasks, to_do, store, console=console, options=execution)
    speeds = store.training_speeds()
    unknown = dict.fromkeys(
        name for task in to_do if (name := task.first.configured.trainer.name) not in speeds
    )
    if unknown:
        first = jobs[0].machine_type
        measured = replace(request, systems=list(unknown), seeds=request.seeds[:1], machines=[first])
        print_note(
            console,
            f"the time is not known, since the store has no training of {', '.join(unknown)}; "
            f"{measured.command()!r} measures it on one machine type, and its results count",
        )
    n_workers = execution.n_workers
    where = "" if n_workers is None else f"; there would be {format_amount(n_workers, 'worker')}"
    print_message(console, f"nothing was run{where}")


def _tuned(
    result: RunResult,
    study_results: Sequence[StudyResult],
    fused: Sequence[FusionResult],
    store: JobStore,
) -> TuneResult:
    """Return the result of a run with what its searches found."""
    return TuneResult(
        **vars(result),
        tuned=tuple(map(TunedSystem.from_study_result, study_results)),
        fused={found.ensemble.name: found.report for found in fused},
        left_out_tables=tuple(left_out_tables(study_results, store)),
        fresh_seeds_tables=tuple(fresh_seeds_tables(study_results, store)),
    )


def _studies(
    jobs: Sequence[ResolvedJob],
    request: RunRequest,
    execution: ExecutionOptions,
    search: Search,
    console: Console,
) -> list[Study]:
    """Return the studies of a run's search; none without a search."""
    if not search.trials:
        return []
    if execution.local:
        raise InputError("a search needs Ray; drop --local")
    try:
        return studies_for_run(
            jobs,
            search,
            preset=request.preset,
            settings=request.settings,
            subset=request.subset,
            console=console,
        )
    except NoSteeringLabels as error:
        raise InputError(f"{error}; to run without a search use {request.command()!r}") from None


def _train(
    jobs: Sequence[ResolvedJob],
    studies: Sequence[Study],
    search: Search,
    executor: Executor,
    store: JobStore,
    console: Console,
) -> tuple[list[Failure], list[StudyResult]]:
    """Train and score all jobs, run the studies, and train and score what they found with fresh seeds."""
    data, fresh = jobs[0].data, fresh_seeds(jobs, search.fresh_seeds)
    again = untuned_jobs(jobs, studies, fresh)
    tasks = by_training(jobs)
    to_do = _undone(tasks, store)
    if to_do or any(len(study.finished) < search.trials for study in studies):
        data.workspace.check_storage(writable=True)
        executor.warm_up()  # in parallel with the plan
    to_do = plan(
        data,
        tasks,
        to_do,
        store,
        console=console,
        options=executor.options,
        studies=studies,
        trials=search.trials,
        again=again,
    )
    expected = None if studies else len(tasks)
    failures = executor.run(to_do, expected=expected, studies=studies, trials=search.trials)
    machine_types = list(dict.fromkeys(resolved.machine_type for resolved in jobs))
    results = [StudyResult.from_study(study, machine_types, fresh_seeds=fresh) for study in studies]
    study_results = [result for result in results if result is not None]
    found = [resolved for result in study_results for resolved in result.all_jobs]
    last = by_training([*found, *again])
    return failures + executor.run(_undone(last, store)), study_results


def _notes_on_labels(judged: Sequence[Judged], data: DataSet) -> list[str]:
    """Return notes on AUCs of results on one subset that suggest swapped labels."""
    if not judged:
        return []
    results = (
        (machine_type, item.system, machine_type_metrics(record))
        for item in judged
        for machine_type, record in item.records.items()
    )
    return low_auc_notes(low_aucs(results, labeled_clips(data, subset=judged[0].subset), rule=data.rule))


def _undone(tasks: Sequence[TrainingTask], store: JobStore) -> list[TrainingTask]:
    """Return the tasks that are not stored, or not readable; damaged files are set aside."""
    snapshot = store.snapshot()
    return [task for task in tasks if not (snapshot.is_done(task) and store.is_readable(task))]


def _evaluate(
    jobs: Sequence[ResolvedJob],
    study_results: Sequence[StudyResult],
    fused: Sequence[FusionResult],
    store: JobStore,
) -> tuple[list[Judged], list[Failure], list[str]]:
    """Evaluate the untuned systems, the tuned ones and the fused ensembles, as `judge` does."""
    judged, failures, notes = judge(jobs, store)
    tuned = [result for result in study_results if result.study.held_out is None]
    searched: list[StudyResult | FusionResult] = [*tuned, *fused]
    for result in searched:
        more, more_failures, more_notes = judge(result.jobs, store, tuned=result.tuned)
        judged, failures, notes = judged + more, failures + more_failures, notes + more_notes
    logger.info("evaluated %d seeds; %d jobs could not be evaluated", len(judged), len(failures))
    return judged, failures, notes
