"""Search for the fusion weights of a run's ensembles, or of systems that have run."""

from collections.abc import Sequence

from rich.console import Console

from asdbench import registry
from asdbench.config import Simplex, settings_of
from asdbench.data.sets import catalog
from asdbench.driver.board import record_judged
from asdbench.driver.board_models import exporter
from asdbench.driver.executor import Executor
from asdbench.driver.fusion_search import FusionResult, search_fusion_weights
from asdbench.driver.judging import judge
from asdbench.driver.progress import progress
from asdbench.driver.recording import show_recorded
from asdbench.driver.request import RunRequest
from asdbench.driver.run_result import FuseResult
from asdbench.driver.study_results import StudyResult
from asdbench.engine.commands import run_command
from asdbench.engine.evaluation import labeled_types
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError, unknown_name
from asdbench.io.workspace import Workspace
from asdbench.report.formatting import print_note
from asdbench.report.leaderboard_view import load_leaderboard
from asdbench.report.stored_runs import StoredRunOptions
from asdbench.search.plan import Search


def fuse_ensembles(
    jobs: Sequence[ResolvedJob],
    study_results: Sequence[StudyResult],
    request: RunRequest,
    search: Search,
    executor: Executor,
    *,
    console: Console,
) -> list[FusionResult]:
    """Search the weights of a run's ensembles; members that were tuned have the settings found for them.

    An ensemble that cannot be fused is noted and skipped.
    """
    tuned = {result.study.system: result for result in study_results if result.study.held_out is None}
    ensembles = {resolved.job.system: resolved for resolved in jobs if resolved.members}
    fused = []
    for name, resolved in ensembles.items():
        settings = dict(resolved.configured.changed())
        for member in resolved.configured.members:
            if member.name in tuned and member.variant is None:
                changed = tuned[member.name].jobs[0].configured.changed()
                settings |= {f"{member.name}.{setting}": value for setting, value in changed.items()}
        try:
            fused.append(
                search_fusion_weights(
                    registry.configure(name, settings),
                    resolved.data,
                    JobStore.from_workspace(resolved.data.workspace).retrying(),
                    seeds=request.seeds,
                    pseudo_anomaly_data=request.pseudo_anomaly_data,
                    seed=search.seed,
                    member_trials=sum(
                        tuned[member.name].tuned.trials
                        for member in resolved.configured.members
                        if member.name in tuned and member.variant is None
                    ),
                    run_studies=executor.run_weight_studies,
                )
            )
        except InputError as error:
            print_note(console, f"{name} was not fused: {error}")
    return fused


def note_unfused(jobs: Sequence[ResolvedJob], *, console: Console) -> None:
    """Note, before anything runs, which ensembles cannot be fused since the run leaves out machine types."""
    ensembles = sorted({resolved.job.system for resolved in jobs if resolved.members})
    data = jobs[0].data
    left_out = sorted(set(labeled_types(data, subset="dev")) - {resolved.machine_type for resolved in jobs})
    if ensembles and left_out:
        print_note(
            console,
            f"{', '.join(ensembles)} cannot be fused unless there are scores on all machine types of "
            f"{data.name}, and this run leaves out {', '.join(left_out)}; drop --machines and --subset to "
            f"include them",
        )


def fuse_systems(
    members: Sequence[str],
    data: str,
    workspace: Workspace,
    *,
    seeds: Sequence[int],
    into: str | None,
    evaluations: int | None,
    seed: int,
    settings: StoredRunOptions,
    console: Console,
    mlflow_uri: str | None = None,
) -> FuseResult:
    """Search the fusion weights of systems that have run, and record the ensemble with the best ones.

    Parameters
    ----------
    members, data, seeds, settings
        The runs whose scores to fuse.
    workspace
        The data sets and stored results.
    into
        Name of the ensemble; by default the only one whose weights can be searched.
    evaluations, seed
        Number of weight vectors to evaluate, and seed of the search.
    console
        Where to show the progress and where results are recorded.
    mlflow_uri
        The MLflow store that records, by default that of the environment or of the data home.

    Raises
    ------
    InputError
        A name or setting does not exist, there are fewer than two members, or scores are not stored.
    """
    from asdbench.driver.fusion_search import EVALUATIONS
    from asdbench.tracking.address import Address
    from asdbench.tracking.recorder import Recorder

    chosen = into or _only_ensemble()
    ensemble = registry.configure(chosen, {"members": tuple(members)})
    requested = {key: value for key, value in settings.values.items() if ensemble.accepts(key)}
    unknown = sorted(settings.values.keys() - requested.keys())
    if unknown:
        raise unknown_name(f"setting of {chosen} or its members:", unknown[0], ensemble.values())
    registered, store = catalog.load(workspace, data), JobStore.from_workspace(workspace).retrying()
    with progress(console) as bars:
        task = bars.add_task("weights", total=None, detail="")
        fused = search_fusion_weights(
            registry.configure(chosen, {"members": tuple(members), **requested}, preset=settings.preset),
            registered,
            store,
            seeds=seeds,
            pseudo_anomaly_data=settings.pseudo_anomaly_data,
            evaluations=EVALUATIONS if evaluations is None else evaluations,
            seed=seed,
            on_progress=lambda n_done, n_total: bars.update(task, completed=n_done, total=n_total),
        )
    judged, _, notes = judge(fused.jobs, store, tuned=fused.tuned)
    recorder = Recorder(workspace, Address.from_workspace(workspace, mlflow_uri), export=exporter(workspace))
    record_judged(judged, registered, store, recorder)
    show_recorded(recorder, console=console)
    command = run_command(
        [chosen],
        data,
        seeds=seeds,
        settings=fused.ensemble.changed(),
        pseudo_anomaly_data=fused.jobs[0].job.pseudo_anomaly_data,
    )
    leaderboard = load_leaderboard(data, workspace, subset="dev")
    return FuseResult(chosen, fused.report, command, leaderboard, (*notes, *leaderboard.notes))


def _only_ensemble() -> str:
    """Return the only system whose fusion weights can be searched."""
    names = []
    for name in registry.names():
        settings = settings_of(registry.get(name).Config).values()
        if any(isinstance(setting.domain, Simplex) for setting in settings):
            names.append(name)
    if len(names) != 1:
        known = ", ".join(names) or "none"
        raise InputError(f"name the ensemble to find weights for with --ensemble; there are: {known}")
    return names[0]
