"""Running, tuning and fusing systems."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from asdbench.api.reports import names_of
from asdbench.api.surroundings import Progress, console_of, results_of, workspace_of
from asdbench.cluster.placement import Placement
from asdbench.config import Affects, Compile
from asdbench.driver import pipeline
from asdbench.driver.executor import ExecutionOptions
from asdbench.driver.fusion import fuse_systems
from asdbench.driver.reproduction import ReproductionRequest, show_cost
from asdbench.driver.reproduction import reproduce as reproduce_table
from asdbench.driver.request import RunRequest
from asdbench.driver.run_result import FuseResult, RunResult, TuneResult
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.report.reproduction import Counterpart, Reproduction
from asdbench.report.stored_runs import StoredRunOptions
from asdbench.search.plan import Search


@dataclass(frozen=True)
class Cluster:
    """The workers of a run on a Ray cluster.

    Attributes
    ----------
    workers : largest number of worker processes; by default one per GPU, or as many as share it, and one per
        CPU without GPUs
    workers_per_type : number of worker processes that share the training of one machine type; by default 1,
        or more if there are more GPUs than trainings
    jobs_per_gpu : number of trainings that share a GPU, as one stacked model where their architecture is the
        same, else in processes of their own; ``"auto"`` chooses it from the GPU's memory and how busy it is
    address : address of the cluster; by default ``RAY_ADDRESS`` or ``"local"``, which starts one on this
        machine for the run
    checkpoint_epochs : number of epochs between checkpoints
    dashboard : whether a cluster that is started for the run gets Ray's dashboard
    compile : whether training steps are compiled with torch.compile: ``"always"``, ``"never"``, or
        ``"auto"``, on GPUs only

    Examples
    --------
    >>> asdbench.Cluster(workers=2).address is None
    True
    """

    workers: int | None = None
    workers_per_type: int | None = None
    jobs_per_gpu: int | Literal["auto"] = "auto"
    address: str | None = None
    checkpoint_epochs: int = 5
    dashboard: bool = False
    compile: Compile = "auto"

    def to_execution(self, *, local: bool) -> ExecutionOptions:
        """Return how tasks are executed: in this process if ``local``, else on the cluster.

        Raises :class:`InputError` for options that contradict each other or are out of range.
        """
        if local and self.address is not None:
            raise InputError(
                f"--local runs in this process and --address {self.address} on a cluster; drop one of them"
            )
        placement = Placement(self.workers, self.workers_per_type, self.jobs_per_gpu)
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        return ExecutionOptions(
            local, placement, address, self.checkpoint_epochs, self.dashboard, self.compile
        )


DEFAULT_CLUSTER = Cluster()


def run(
    systems: str | Sequence[str],
    *,
    data: str,
    seeds: Sequence[int] = (0,),
    machines: Sequence[str] = (),
    subset: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, object] | None = None,
    pseudo_anomalies_from: str | None = None,
    local: bool = False,
    cluster: Cluster = DEFAULT_CLUSTER,
    home: Path | str | None = None,
    storage: str | None = None,
    mlflow_uri: str | None = None,
    progress: Progress = None,
) -> RunResult:
    """Train, score and evaluate systems on a data set, and record the results in MLflow.

    Finished work is never repeated: after an interruption, the same call resumes the run.

    Parameters
    ----------
    systems
        Name or names of systems.
    data
        Name of a registered data set.
    seeds
        Random seeds; each system runs once per seed.
    machines
        Machine types; all by default.
    subset
        Run only machine types that have clips of this subset: ``"dev"`` or ``"eval"``.
    preset
        Named settings of the systems: ``"report"`` (as published), ``"fast"`` (for two CPU cores), ``"demo"``
        (for the embedded data set) or one that :func:`asdbench.settings` lists; several as
        ``"fast,robust"``; where both have a setting, the later one counts.
    settings
        Settings by name, over those of the preset; each applies to the systems that have it.
    pseudo_anomalies_from
        Data set whose machine types serve as pseudo-anomalies, for a data set with a single machine type.
    local
        Run in this process, without Ray.
    cluster
        The workers of a run on a Ray cluster.
    home, storage
        The data home, and where results go; by default those of the command line.
    mlflow_uri
        MLflow tracking server or database; by default ``MLFLOW_TRACKING_URI``, or a database in the data
        home.
    progress
        Where to show the progress: ``True`` for standard error, or a rich console; by default standard error
        if that is a terminal.

    Returns
    -------
    RunResult
        Printed, the leaderboard. A failed task does not stop the others: ``ok`` says whether all succeeded,
        ``failures`` which did not.

    Raises
    ------
    InputError
        A name does not exist, a setting is not allowed, or the data cannot be trained on.
    InfrastructureError
        The cluster or the storage failed.

    Examples
    --------
    >>> settings = {"epochs": 2, "hidden": 8}
    >>> result = asdbench.run("baseline-mse", data="demo", settings=settings, local=True)
    >>> result.ok
    True
    >>> result.leaderboard.data
    'demo'
    """
    request = RunRequest(
        names_of(systems),
        data,
        seeds=seeds,
        machines=names_of(machines),
        settings=settings or {},
        preset=preset,
        pseudo_anomaly_data=pseudo_anomalies_from,
        subset=subset,
    )
    execution = cluster.to_execution(local=local)
    return pipeline.run(
        request,
        execution,
        _workspace_to_write(home, storage),
        console=console_of(progress),
        mlflow_uri=mlflow_uri,
    )


def tune(
    systems: str | Sequence[str],
    *,
    data: str,
    trials: int,
    seeds: Sequence[int] = (0,),
    machines: Sequence[str] = (),
    subset: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, object] | None = None,
    pseudo_anomalies_from: str | None = None,
    max_cost: Affects = "training",
    only_settings: Sequence[str] = (),
    protocol: str = "dev",
    search_seed: int = 0,
    fresh_seeds: int = 3,
    cluster: Cluster = DEFAULT_CLUSTER,
    home: Path | str | None = None,
    storage: str | None = None,
    mlflow_uri: str | None = None,
    progress: Progress = None,
) -> TuneResult:
    """Search the settings of systems with Ray Tune and Optuna, on development labels.

    A trial runs one choice of settings on all machine types; its score is the official score over these.
    Settings from ``preset`` and ``settings`` stay fixed. The same call resumes an interrupted search; with
    more trials, it extends it. Ensembles among the systems get the fusion weights of a search.

    Parameters
    ----------
    systems
        Name or names of systems that train.
    trials
        Number of trials per system; the first is the untuned system.
    max_cost
        Search only settings whose change requires at most: retraining (``"training"``), rescoring
        (``"scoring"``) or refusion (``"fusion"``).
    only_settings
        Settings to search; by default all that are not fixed.
    protocol
        ``"dev"``: one search over all machine types. ``"leave-one-type-out"``: one search per machine type,
        over all other types and evaluated on the one left out.
    search_seed
        Random seed of the search.
    fresh_seeds
        Number of seeds that the search did not see, with which the best trial, the next two and the untuned
        system are trained and scored again; the leaderboard shows these scores.
    data, seeds, machines, subset, preset, settings, pseudo_anomalies_from
        As in :func:`asdbench.run`.
    cluster, home, storage, mlflow_uri, progress
        As in :func:`asdbench.run`.

    Returns
    -------
    TuneResult
        ``tuned`` has the best settings and all trials of each system, next to what `RunResult` has.

    Raises
    ------
    InputError
        As :func:`asdbench.run`, and if there is nothing to search or no development label to search with.
    InfrastructureError
        The cluster or the storage failed.

    Examples
    --------
    >>> asdbench.tune("baseline-mse", data="demo", trials=0)
    Traceback (most recent call last):
    ...
    asdbench.errors.InputError: --trials 0 must be at least 1; to run systems untuned use 'asdbench run ...'
    """
    request = RunRequest(
        names_of(systems),
        data,
        seeds=seeds,
        machines=names_of(machines),
        settings=settings or {},
        preset=preset,
        pseudo_anomaly_data=pseudo_anomalies_from,
        subset=subset,
    )
    if trials < 1:
        raise InputError(
            f"--trials {trials} must be at least 1; to run systems untuned use {request.command()!r}"
        )
    result = pipeline.run(
        request,
        cluster.to_execution(local=False),
        _workspace_to_write(home, storage),
        console=console_of(progress),
        search=Search(trials, max_cost, names_of(only_settings), protocol, search_seed, fresh_seeds),
        mlflow_uri=mlflow_uri,
    )
    assert isinstance(result, TuneResult)
    return result


def fuse(
    members: Sequence[str],
    *,
    data: str,
    seeds: Sequence[int] = (0,),
    ensemble: str | None = None,
    evaluations: int | None = None,
    search_seed: int = 0,
    preset: str | None = None,
    settings: Mapping[str, object] | None = None,
    pseudo_anomalies_from: str | None = None,
    home: Path | str | None = None,
    storage: str | None = None,
    mlflow_uri: str | None = None,
    progress: Progress = None,
) -> FuseResult:
    """Search the fusion weights of systems from their stored scores, on development labels.

    No model runs.

    Parameters
    ----------
    members
        Two or more members: systems, or variants such as ``"baseline-mse@seed=1"``
        (:class:`asdbench.presets.Variant`).
    data
        Name of a registered data set.
    seeds
        Random seeds with which all members have been run.
    ensemble
        Ensemble to find weights for; by default the only one whose weights can be searched.
    evaluations
        Weight vectors to evaluate; the same number again for each left-out machine type.
    search_seed
        Random seed of the search.
    preset, settings, pseudo_anomalies_from
        Options of the runs.
    home, storage, mlflow_uri, progress
        As in :func:`asdbench.run`.

    Returns
    -------
    FuseResult
        ``weights`` by member, ``report`` with the scores of the search, and the leaderboard.

    Raises
    ------
    InputError
        A name does not exist, scores are not stored, or there are fewer than two members.

    Examples
    --------
    >>> options = {"settings": {"epochs": 2, "hidden": 8}, "evaluations": 20}
    >>> result = asdbench.fuse(["baseline-mse", "baseline-maha"], data="demo", **options)
    >>> round(sum(result.weights.values()), 6)
    1.0
    """
    return fuse_systems(
        names_of(members),
        data,
        results_of(home, storage),
        seeds=seeds,
        into=ensemble,
        evaluations=evaluations,
        seed=search_seed,
        settings=StoredRunOptions(preset, settings or {}, pseudo_anomalies_from),
        console=console_of(progress),
        mlflow_uri=mlflow_uri,
    )


def reproduce(
    counterparts: Sequence[Counterpart],
    *,
    title: str,
    challenge: str,
    data: str | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    machines: Sequence[str] = (),
    preset: str | None = "report",
    settings: Mapping[str, object] | None = None,
    output: Path | str | None = None,
    dry_run: bool = False,
    local: bool = False,
    cluster: Cluster = DEFAULT_CLUSTER,
    home: Path | str | None = None,
    storage: str | None = None,
    mlflow_uri: str | None = None,
    progress: Progress = None,
) -> Reproduction | None:
    """Run the systems of a published table on development data, and show ours next to the printed values.

    There is a table under the rule of the data set, and one within each domain. It is recorded as an MLflow
    run in the experiment ``asdbench/<data>/reproductions``. Finished work is never repeated.

    Parameters
    ----------
    counterparts
        The columns: systems, each with the published result that it is to reproduce.
    title
        Name of the published table.
    challenge
        The challenge whose published results are meant.
    data
        Name of a registered data set; by default that of the challenge.
    output
        Markdown file to write.
    dry_run
        Print what it will cost here (``progress`` says where), and run nothing.
    seeds, machines, preset, settings, local, cluster, home, storage, mlflow_uri, progress
        As in :func:`asdbench.run`.

    Returns
    -------
    Reproduction
        Printed, the tables in percent; ``rows`` and ``frame`` hold fractions. ``None`` with ``dry_run``.

    Raises
    ------
    InputError
        As :func:`asdbench.run`, and if a published result does not exist, the data set has none of its
        machine types, or the file cannot be written.
    InfrastructureError
        The cluster or the storage failed.

    Examples
    --------
    >>> column = asdbench.Counterpart("baseline-mse", "official baseline MSE")
    >>> options = {"settings": {"epochs": 2, "hidden": 8}, "seeds": [0], "preset": None, "local": True}
    >>> table = asdbench.reproduce([column], title="MSE", challenge="dcase2023", data="demo", **options)
    >>> table.frame.filter(machine_type="fan", rule="official")["printed"].to_list()
    [0.8019, 0.3618, 0.5904]
    """
    columns = tuple(counterparts)
    request = ReproductionRequest(
        title,
        challenge,
        columns,
        RunRequest(
            [column.system for column in columns],
            data or challenge,
            seeds=seeds,
            machines=names_of(machines),
            settings=settings or {},
            preset=preset,
            subset="dev",
        ),
        None if output is None else Path(output),
    )
    execution, workspace = cluster.to_execution(local=local), _workspace_to_write(home, storage)
    console = console_of(progress)
    if dry_run:
        show_cost(request, execution, workspace, console=console)
        return None
    return reproduce_table(request, execution, workspace, console=console, mlflow_uri=mlflow_uri)


def _workspace_to_write(home: Path | str | None, storage: str | None) -> Workspace:
    """Return the workspace of a run; :class:`InputError` if it cannot be used."""
    workspace = workspace_of(home, storage)
    workspace.check_home()
    workspace.check_storage()
    return workspace
