"""A run of the bench from start to end: features, training, scoring, judging, tracking, leaderboard.

What is stored is not done again, so the same call after an interruption goes on where it stopped.
"""

import time
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from asdbench.driver.executor import ExecutionOptions, Executor
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import by_training
from asdbench.errors import InputError
from asdbench.search.plan import Search

if TYPE_CHECKING:
    pass
from asdbench.driver.features import build_features
from asdbench.driver.fusion import fuse_ensembles
from asdbench.driver.judging import judge
from asdbench.driver.plan import plan
from asdbench.driver.recording import show_recorded
from asdbench.driver.request import RunRequest, resolve_jobs
from asdbench.io.workspace import Workspace
from asdbench.report.formatting import format_duration, print_message
from asdbench.report.leaderboard_view import show_leaderboard

UNTUNED = Search(trials=0)


def run(
    request: RunRequest,
    execution: ExecutionOptions,
    workspace: Workspace,
    *,
    console: Console,
    search: Search = UNTUNED,
) -> int:
    """Run a request, tune its systems if a search asks for trials, judge, record and show the leaderboard.

    Returns the exit code: 0, or 1 if a part of it failed, 2 if bad input is why.
    """
    from asdbench.driver.study_results import StudyResult, left_out_tables, record_trial, studies_for_run
    from asdbench.report.searches import fusion_table
    from asdbench.tracking.recorder import Recorder

    began = time.perf_counter()
    jobs = resolve_jobs(request, workspace)
    jobs_store, data = JobStore.from_workspace(workspace), jobs[0].data
    studies = []
    if search.trials:
        if execution.local:
            raise InputError("a search runs on Ray: leave --local out, or the search with --trials 0")
        studies = studies_for_run(
            jobs,
            search,
            preset=request.preset,
            settings=request.settings,
            subset=request.subset,
            console=console,
        )
    build_features(jobs, console=console)
    tasks = by_training(jobs)
    to_do = [task for task in tasks if not jobs_store.is_done(task)]
    recorder = Recorder(workspace)
    doing = Executor(
        execution,
        jobs_store,
        workspace,
        console=console,
        prepare_data=partial(build_features, console=console),
        on_trial=lambda study, trial: record_trial(recorder, jobs_store, study, trial, trials=search.trials),
    )
    with doing:
        if to_do or any(len(study.finished) < search.trials for study in studies):
            doing.begin()  # its start goes on while the plan is made
        to_do = plan(data, tasks, to_do, jobs_store, console=console)
        failures = doing.do(to_do, studies=studies, trials=search.trials)
        found = [
            of for study in studies if (of := StudyResult.from_study(study, data.machine_types)) is not None
        ]
        failures += doing.do(by_training(resolved for of in found for resolved in of.jobs))
        fused = fuse_ensembles(jobs, found, request, search, doing, console=console) if studies else []
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
        show_leaderboard(data.name, workspace, console=console, subset=subset)
    for failed in failures + unjudged:
        said = f"failed: {failed.label}: {failed.message}"
        print_message(console, said, style="red")
    show_recorded(recorder, workspace, console=console)
    print_message(console, f"finished in {format_duration(time.perf_counter() - began)}")
    return max((2 if failed.bad_input else 1 for failed in failures + unjudged), default=0)
