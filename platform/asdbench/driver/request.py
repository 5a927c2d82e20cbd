"""A user's request for a run, and the jobs that it resolves to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import polars as pl

from asdbench import registry
from asdbench.data import feature_store
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.commands import run_command
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.pretrained import check_weights
from asdbench.errors import InputError, unknown_name
from asdbench.io.workspace import Workspace

Item = TypeVar("Item")


@dataclass(frozen=True)
class RunRequest:
    """A request to run every system with every seed on every machine type of a data set.

    Attributes
    ----------
    systems : names of systems
    data : name of a registered data set
    seeds : random seeds
    machines : machine types; empty for all
    settings : settings by name, over the preset's; each applies to the systems that have it
    preset : named settings of the systems, several as ``fast,robust``; systems without it keep defaults
    pseudo_anomaly_data : data set whose machine types serve as pseudo-anomalies, for systems that take any
    subset : only machine types with clips of this subset, dev or eval

    Examples
    --------
    >>> RunRequest(["baseline-mse"], "demo", seeds=[0, 1], settings={"epochs": "30"}).command()
    'asdbench run baseline-mse --data demo --seeds 0 1 --set epochs=30'
    """

    systems: Sequence[str]
    data: str
    seeds: Sequence[int] = (0,)
    machines: Sequence[str] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    preset: str | None = None
    pseudo_anomaly_data: str | None = None
    subset: str | None = None

    def command(self) -> str:
        """Return the ``asdbench run`` command of this request, quoted for a shell."""
        return run_command(
            self.systems,
            self.data,
            seeds=self.seeds,
            machines=self.machines,
            subset=self.subset,
            settings=self.settings,
            preset=self.preset,
            pseudo_anomaly_data=self.pseudo_anomaly_data,
        )


def resolve_jobs(request: RunRequest, workspace: Workspace) -> list[ResolvedJob]:
    """Return all jobs of a request, with every name, setting and data set checked.

    Raises :class:`InputError` for what does not exist, is not allowed or cannot be trained on.
    """
    _check_names(request)
    data = catalog.load(workspace, request.data)
    machines = _machine_types(data, request)
    if request.pseudo_anomaly_data is not None:
        catalog.load(workspace, request.pseudo_anomaly_data)
    each = registry.configure_each(request.systems, request.settings, preset=request.preset)
    check_weights([part for one in each.values() for part in (one.members or (one,))], workspace)
    jobs = [
        ResolvedJob.from_configured(
            configured, data, machine, seed=seed, pseudo_anomaly_data=request.pseudo_anomaly_data
        )
        for configured in each.values()
        for seed in dict.fromkeys(request.seeds)
        for machine in machines
    ]
    if request.pseudo_anomaly_data is not None and not any(job.job.pseudo_anomaly_data for job in jobs):
        command = replace(request, pseudo_anomaly_data=None).command()
        raise InputError(
            f"--pseudo-anomalies-from {request.pseudo_anomaly_data}: no system of this run takes "
            f"pseudo-anomalies from other machine types; drop the option: {command!r}"
        )
    parts = {(p.job.machine_type, p.configured.trainer.name): p for job in jobs for p in job.parts}
    for part in parts.values():
        _ = part.clips  # too few clips or machine types are reported before anything runs
    sources = by_data_set(source for part in parts.values() for source in part.machine_types_read)
    for source, machine_types in sources:
        feature_store.check_unchanged(
            source, source.clips.filter(pl.col("machine_type").is_in(machine_types))
        )
    return jobs


def _check_names(request: RunRequest) -> None:
    """Raise :class:`InputError` for a request without systems or seeds, or with a bad seed."""
    if not request.systems:
        raise InputError(f"name at least one system; available: {', '.join(registry.names())}")
    if not isinstance(request.seeds, Iterable):  # as from Python
        raise InputError(f"seeds={request.seeds!r} is no list; give one, such as seeds=[{request.seeds!r}]")
    if not request.seeds:
        raise InputError("no seed is given; --seeds takes one or more whole numbers")
    for seed in request.seeds:
        if seed < 0:
            raise InputError(f"seed {seed} is negative; seeds are whole numbers from 0")


def _machine_types(data: DataSet, request: RunRequest) -> list[str]:
    """Return the machine types of a request."""
    known, where = data.machine_types, f"data set {data.name!r}"
    if request.subset is not None:
        where = f"the subset {request.subset} of {where}"
        known = tuple(data.clips.filter(pl.col("subset") == request.subset)["machine_type"].unique().sort())
        if not known:
            command = replace(request, subset=None).command()
            raise InputError(f"there are no clips in {where}; drop --subset: {command!r}")
    for machine in request.machines:
        if machine not in known:
            raise unknown_name(f"machine type in {where}:", machine, known)
    return list(dict.fromkeys(request.machines)) or list(known)


def by_data_set(sources: Iterable[tuple[DataSet, Item]]) -> list[tuple[DataSet, list[Item]]]:
    """Group items by their data set, each item once."""
    grouped: dict[str, tuple[DataSet, dict[Item, None]]] = {}
    for data, item in sources:
        grouped.setdefault(data.name, (data, {}))[1][item] = None
    return [(data, list(items)) for data, items in grouped.values()]
