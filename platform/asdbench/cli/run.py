"""The commands that run systems: run, tune, fuse, features and record."""

import sys
from typing import TYPE_CHECKING

from asdbench.cli.exit import exit_code
from asdbench.cli.options import (
    ClusterOptions,
    Flag,
    Integer,
    Integers,
    MlflowUri,
    RunOptions,
    SearchOptions,
    StoredOptions,
    Strings,
)
from asdbench.cli.output import message_console, print_line, print_report
from asdbench.errors import InfrastructureError, InputError
from asdbench.io.workspace import Workspace

if TYPE_CHECKING:
    from asdbench.driver.run_result import RunResult

NO_SEARCH = SearchOptions()
ANY_CLUSTER = ClusterOptions()
DEFAULT_RUN = RunOptions()
DEFAULT_STORED = StoredOptions()


def run(
    *systems: str,
    data: str,
    local: Flag = False,
    json: Flag = False,
    mlflow_uri: MlflowUri = None,
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
    json
        Print the leaderboard as JSON on standard output, and everything else on standard error.
    """
    from asdbench.api import runs

    result = runs.run(
        systems,
        data=data,
        **options.to_arguments(),
        local=local,
        cluster=cluster.to_cluster(),
        storage=cluster.storage,
        mlflow_uri=mlflow_uri,
        progress=message_console(stderr=json),
    )
    return print_result_of_run(result, json=json)


def tune(
    *systems: str,
    data: str,
    trials: Integer,
    json: Flag = False,
    search: SearchOptions = NO_SEARCH,
    mlflow_uri: MlflowUri = None,
    options: RunOptions = DEFAULT_RUN,
    cluster: ClusterOptions = ANY_CLUSTER,
) -> int:
    """Search the settings of systems with Ray Tune and Optuna, and show the best next to the untuned system.

    A trial runs one choice of settings on all machine types. Its score is the official score over these
    types on development labels, so its results are marked dev-tuned. What the search found is scored again
    with fresh seeds. Settings from --preset and --set stay fixed. After an interruption, the same command
    resumes the search; with more trials, it extends it.

    Parameters
    ----------
    systems
        Names of systems that train; for ensembles use 'asdbench fuse'.
    data
        Name of a registered data set.
    trials
        Number of trials per system; the first is the untuned system.
    json
        Print the leaderboard as JSON on standard output, and everything else on standard error.
    """
    from asdbench.api import runs

    result = runs.tune(
        systems,
        data=data,
        trials=trials,
        **options.to_arguments(),
        max_cost=search.max_cost,
        only_settings=search.only_settings,
        protocol=search.protocol,
        search_seed=search.search_seed,
        fresh_seeds=search.fresh_seeds,
        cluster=cluster.to_cluster(),
        storage=cluster.storage,
        mlflow_uri=mlflow_uri,
        progress=message_console(stderr=json),
    )
    return print_result_of_run(result, json=json)


def print_result_of_run(result: "RunResult", *, json: bool = False) -> int:
    """Print the result of a run and return the exit code."""
    from asdbench.driver.failures import failure_messages

    print_report(result, "json" if json else "table", notes=result.notes)
    if json:
        for message in failure_messages(result.failures):
            print(message, file=sys.stderr)
    return exit_code(result.failures)


def fuse(
    *members: str,
    data: str,
    seeds: Integers = (0,),
    ensemble: str | None = None,
    evaluations: Integer | None = None,
    search_seed: Integer = 0,
    mlflow_uri: MlflowUri = None,
    stored: StoredOptions = DEFAULT_STORED,
    json: Flag = False,
) -> None:
    """Search the fusion weights of systems from their stored scores, on development labels; no model runs.

    Parameters
    ----------
    members
        Two or more members: systems, or variants as system@preset, system@setting=value or system@seed=1; a
        variant's words are joined by ':'.
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
    json
        Print the leaderboard as JSON on standard output, and everything else on standard error.
    """
    from asdbench.api import runs

    result = runs.fuse(
        members,
        data=data,
        seeds=seeds,
        ensemble=ensemble,
        evaluations=evaluations,
        search_seed=search_seed,
        **stored.to_arguments(),
        mlflow_uri=mlflow_uri,
        progress=message_console(stderr=json),
    )
    print_report(result, "json" if json else "table", notes=result.notes)


def features(name: str, *, systems: Strings = (), preset: str | None = None) -> None:
    """Build the features that systems read from a data set, before a run.

    Parameters
    ----------
    name
        Name of a registered data set.
    systems
        Names of systems (default: all that can be used).
    preset
        Named settings of the systems, as for 'asdbench run'.
    """
    from asdbench.driver.features import build_features
    from asdbench.driver.request import RunRequest, resolve_jobs

    workspace = Workspace.from_environment()
    workspace.check_home()
    jobs = resolve_jobs(RunRequest(systems or usable_systems(), name, preset=preset), workspace)
    build_features(jobs, console=message_console())
    print_line(f"features of {name} are ready")


def record(*, mlflow_uri: MlflowUri = None) -> None:
    """Bring the leaderboards in MLflow up to date, and record what could not be at the end of a run."""
    from asdbench.driver.board_server import bring_up_to_date
    from asdbench.tracking.address import Address

    workspace = Workspace.from_environment()
    workspace.check_storage()
    address = Address.from_workspace(workspace, mlflow_uri)
    delivered, left = bring_up_to_date(workspace, address)
    print_line(f"{delivered} recorded at {address.shown}")
    if left.not_exported:
        print_line(f"note: {left.not_exported}")
    if left.entries:
        raise InfrastructureError(left.why)


def usable_systems() -> list[str]:
    """Return the names of all systems that can be used, after a message about each that cannot.

    A system whose pretrained weights are missing is one of those.
    """
    from asdbench import registry
    from asdbench.engine.pretrained import check_weights

    workspace, usable = Workspace.from_environment(), []
    broken = registry.broken()
    for error in broken.values():
        print_line(f"skipped: {error}", style="red")
    for name in registry.names():
        if name in broken:
            continue
        try:
            configured = registry.configure(name)
            check_weights(configured.members or (configured,), workspace)
        except InputError as missing:
            print_line(f"skipped: {name}, since {missing}")
        else:
            usable.append(name)
    return usable
