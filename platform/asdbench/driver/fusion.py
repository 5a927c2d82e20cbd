"""Search for the fusion weights of a run's ensembles, or of systems that have run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.console import Console

from asdbench import registry
from asdbench.config import Simplex, settings_of
from asdbench.data.sets import catalog
from asdbench.driver.board import record_judged
from asdbench.driver.board_models import exporter
from asdbench.driver.executor import Executor
from asdbench.driver.fresh_seeds import fresh_seeds
from asdbench.driver.fusion_search import (
    FusionResult,
    MemberTuning,
    search_fusion_weights,
    searches_of_members,
)
from asdbench.driver.judging import judge
from asdbench.driver.nested_fusion import nested_ensembles, tuned_members, with_members
from asdbench.driver.progress import progress
from asdbench.driver.recording import show_recorded
from asdbench.driver.request import RunRequest
from asdbench.driver.run_result import FuseResult
from asdbench.driver.study_results import StudyResult, stored_studies
from asdbench.engine.commands import run_command, tune_command
from asdbench.engine.evaluation import labeled_types
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError, unknown_name
from asdbench.io.workspace import Workspace
from asdbench.report.formatting import print_note
from asdbench.report.leaderboard_view import load_leaderboard
from asdbench.report.stored_runs import StoredRunOptions
from asdbench.search.plan import Search
from asdbench.search.studies import Study


def fuse_ensembles(
    jobs: Sequence[ResolvedJob],
    studies: Sequence[Study],
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
    found = {result.study.system: result for result in study_results if result.study.held_out is None}
    ensembles = {resolved.job.system: resolved for resolved in jobs if resolved.members}
    fused = []
    for resolved in ensembles.values():
        store = JobStore.from_workspace(resolved.data.workspace).retrying()
        ensemble = with_members(resolved.configured, found)
        try:
            fused.append(
                search_fusion_weights(
                    ensemble,
                    resolved.data,
                    store,
                    seeds=request.seeds,
                    pseudo_anomaly_data=request.pseudo_anomaly_data,
                    seed=search.seed,
                    tuning=_tuning(resolved, ensemble, jobs, studies, found, request, search),
                    scored_seeds=fresh_seeds(jobs, search.fresh_seeds),
                    run_studies=executor.run_weight_studies,
                )
            )
        except InputError as error:
            print_note(console, f"{resolved.job.system} was not fused: {error}")
    return fused


def _tuning(
    resolved: ResolvedJob,
    ensemble: registry.Configured,
    jobs: Sequence[ResolvedJob],
    studies: Sequence[Study],
    found: Mapping[str, StudyResult],
    request: RunRequest,
    search: Search,
) -> MemberTuning:
    """Return how the searches of a run, and stored ones, have chosen the settings of an ensemble's members.

    Parameters
    ----------
    resolved, ensemble : a job of the ensemble as the run has it, and the ensemble with tuned members
    jobs, studies, request, search : of the run
    found : what the searches over all machine types have found, by system
    """
    data = resolved.data
    trials = searches_of_members(ensemble, data, JobStore.from_workspace(data.workspace))
    for name in tuned_members(ensemble, found):
        trials[found[name].tuned.search] = found[name].tuned.trials
    by_system = {study.system: study for study in studies}
    members = tuned_members(ensemble, by_system)
    if not members:
        return _without_searches(trials)
    without_type = replace(search, protocol="leave-one-type-out")
    leaving_out = (
        [study for study in studies if study.held_out is not None]
        if search.protocol == without_type.protocol
        else stored_studies(
            jobs, without_type, preset=request.preset, settings=request.settings, subset=request.subset
        )
    )
    nested = nested_ensembles(
        resolved.configured,
        leaving_out,
        tuned=members,
        types=labeled_types(data, subset="dev"),
        trials=search.trials,
    )
    if nested:
        return MemberTuning(trials, nested)
    return _without_searches(trials, _tune_command(request, without_type))


def _without_searches(trials: Mapping[str, int], command: str | None = None) -> MemberTuning:
    """Return the tuning of members for which there is no search that leaves a machine type out."""
    if not trials:
        return MemberTuning()
    cure = (
        f"{command!r} tunes and fuses without one machine type at a time, and estimates what the ensemble is "
        f"worth on an unseen one"
        if command
        else "what the ensemble is worth on an unseen machine type is estimated by 'asdbench tune' of these "
        "members and the ensemble, with --protocol leave-one-type-out"
    )
    return MemberTuning(
        trials,
        without_estimate=(
            "There is no estimate for an unseen machine type, and no comparison with equal weights, since "
            "the members' settings were chosen with the labels of all machine types."
        ),
        cure=cure,
    )


def _tune_command(request: RunRequest, search: Search) -> str:
    """Return the command of a search; options that have their default are left out."""
    usual = Search(search.trials)
    options: dict[str, tuple[object, object]] = {
        "max-cost": (search.max_cost, usual.max_cost),
        "only-settings": (list(search.only_settings), []),
        "search-seed": (search.seed, usual.seed),
        "fresh-seeds": (search.fresh_seeds, usual.fresh_seeds),
    }
    return tune_command(
        request.systems,
        request.data,
        trials=search.trials,
        protocol=search.protocol,
        search={name: value for name, (value, default) in options.items() if value != default},
        seeds=request.seeds,
        machines=request.machines,
        settings=request.settings,
        preset=request.preset,
        pseudo_anomaly_data=request.pseudo_anomaly_data,
    )


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
    fused_ensemble = registry.configure(
        chosen, {"members": tuple(members), **requested}, preset=settings.preset
    )
    with progress(console) as bars:
        task = bars.add_task("weights", total=None, detail="")
        fused = search_fusion_weights(
            fused_ensemble,
            registered,
            store,
            seeds=seeds,
            pseudo_anomaly_data=settings.pseudo_anomaly_data,
            evaluations=EVALUATIONS if evaluations is None else evaluations,
            seed=seed,
            tuning=_without_searches(searches_of_members(fused_ensemble, registered, store)),
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
    notes = [*fused.notes, *notes, *leaderboard.notes]
    return FuseResult(chosen, fused.report, command, leaderboard, tuple(notes))


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
