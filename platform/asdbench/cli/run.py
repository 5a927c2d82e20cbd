"""The commands that run systems: run, tune, fuse, features and record."""

from collections.abc import Sequence

from asdbench.cli.options import (
    ClusterOptions,
    Flag,
    Integer,
    Integers,
    RunOptions,
    SearchOptions,
    StoredOptions,
    Strings,
    new_console,
    print_line,
    workspace_of_results,
)
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace

NO_SEARCH = SearchOptions()
ANY_CLUSTER = ClusterOptions()
DEFAULT_RUN = RunOptions()
DEFAULT_STORED = StoredOptions()


def run(
    *systems: str,
    data: str,
    local: Flag = False,
    options: RunOptions = DEFAULT_RUN,
    cluster: ClusterOptions = ANY_CLUSTER,
) -> int:
    """Train, score and evaluate systems on a data set, and show the leaderboard.

    Finished work is never repeated: after an interruption, the same command resumes the run.

    Parameters
    ----------
    systems
        Names of systems; 'asdbench systems' lists them.
    data
        Name of a registered data set.
    local
        Run in this process, without Ray.
    """
    return run_systems(systems, data, options, cluster, local=local)


def tune(
    *systems: str,
    data: str,
    trials: Integer,
    search: SearchOptions = NO_SEARCH,
    options: RunOptions = DEFAULT_RUN,
    cluster: ClusterOptions = ANY_CLUSTER,
) -> int:
    """Search the settings of systems with Ray Tune and Optuna, and show the best next to the untuned system.

    A trial runs one choice of settings on all machine types. Its score is the official score over these
    types on development labels, so its results are marked dev-tuned. Settings from --preset and --set stay
    fixed. After an interruption, the same command resumes the search; with more trials, it extends it.

    Parameters
    ----------
    systems
        Names of systems that train; for ensembles use 'asdbench fuse'.
    data
        Name of a registered data set.
    trials
        Number of trials per system; the first is the untuned system.
    """
    if trials < 1:
        command = options.to_request(systems, data).command()
        raise InputError(f"--trials {trials} must be at least 1; to run systems untuned use {command!r}")
    return run_systems(systems, data, options, cluster, search=search, trials=trials)


def fuse(
    *members: str,
    data: str,
    seeds: Integers = (0,),
    ensemble: str | None = None,
    evaluations: Integer | None = None,
    search_seed: Integer = 0,
    stored: StoredOptions = DEFAULT_STORED,
) -> None:
    """Search the fusion weights of systems from their stored scores, on development labels; no model runs.

    Parameters
    ----------
    members
        Names of two or more systems.
    data
        Name of a registered data set.
    seeds
        Random seeds with which all members have been run.
    ensemble
        Ensemble to find weights for (default: the only ensemble whose weights can be searched).
    evaluations
        Weight vectors to evaluate; the same number again for each left-out machine type.
    search_seed
        Random seed of the search.
    """
    from asdbench.driver.fusion import fuse_systems

    fuse_systems(
        members,
        data,
        workspace_of_results(),
        seeds=seeds,
        into=ensemble,
        evaluations=evaluations,
        seed=search_seed,
        settings=stored.to_stored_runs(),
        console=new_console(),
    )


def features(name: str, *, systems: Strings = (), preset: str | None = None) -> None:
    """Build the features that systems read from a data set, before a run.

    Parameters
    ----------
    name
        Name of a registered data set.
    systems
        Names of systems (default: all that can be used).
    preset
        Named settings of the systems: report, fast or demo.
    """
    from asdbench.driver.features import build_features
    from asdbench.driver.request import RunRequest, resolve_jobs

    workspace = Workspace.from_environment()
    workspace.check_home()
    console = new_console()
    jobs = resolve_jobs(RunRequest(systems or usable_systems(), name, preset=preset), workspace)
    build_features(jobs, console=console)
    print_line(f"features of {name} are ready")


def record() -> None:
    """Record in MLflow the results that could not be recorded at the end of their run."""
    from asdbench.tracking.mlflow_runs import shown_uri
    from asdbench.tracking.recorder import deliver

    workspace = Workspace.from_environment()
    delivered, left = deliver(workspace)
    print_line(f"{delivered} recorded at {shown_uri(workspace)}")
    if left.entries:
        raise InputError(left.why)


def run_systems(
    systems: Sequence[str],
    data: str,
    options: RunOptions,
    cluster: ClusterOptions,
    *,
    local: bool = False,
    search: SearchOptions = NO_SEARCH,
    trials: int = 0,
) -> int:
    """Run systems on a registered data set, tuned if there are trials; returns the exit code."""
    from asdbench.driver.pipeline import run as run_pipeline

    execution = cluster.to_execution(local=local)
    workspace = Workspace.from_environment(storage=cluster.storage)
    workspace.check_home()
    workspace.check_storage()
    request = options.to_request(systems, data)
    return run_pipeline(request, execution, workspace, search=search.to_search(trials), console=new_console())


def usable_systems() -> list[str]:
    """Return the names of all systems that can be used, after a message about each that cannot."""
    from asdbench import registry

    broken = registry.broken()
    for error in broken.values():
        print_line(f"skipped: {error}", style="red")
    return [name for name in registry.names() if name not in broken]
