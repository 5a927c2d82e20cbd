"""What a user asks of a run, and the jobs that it makes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from asdbench import registry
from asdbench.data import feature_store
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError, unknown_name
from asdbench.io.workspace import Workspace

if TYPE_CHECKING:
    pass


Wanted = TypeVar("Wanted")


PRESETS = ("report", "fast", "demo")


@dataclass(frozen=True)
class RunRequest:
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
    pseudo_anomaly_data : data set whose machine types serve as pseudo-anomalies, for the systems that take some
    """

    systems: Sequence[str]
    data: str
    seeds: Sequence[int] = (0,)
    machines: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    pseudo_anomaly_data: str | None = None
    subset: str | None = None


def resolve_jobs(request: RunRequest, workspace: Workspace) -> list[ResolvedJob]:
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
    data = catalog.load(workspace, request.data)
    machines = _machine_types(data, request)
    if request.pseudo_anomaly_data is not None:
        catalog.load(workspace, request.pseudo_anomaly_data)
    jobs = []
    each = registry.configure_each(request.systems, request.settings, preset=request.preset)
    for configured in each.values():
        for seed in dict.fromkeys(request.seeds):
            for machine in machines:
                jobs.append(
                    ResolvedJob.from_configured(
                        configured, data, machine, seed=seed, pseudo_anomaly_data=request.pseudo_anomaly_data
                    )
                )
    if request.pseudo_anomaly_data is not None and not any(
        resolved.job.pseudo_anomaly_data for resolved in jobs
    ):
        raise InputError(
            f"--pseudo-anomalies-from {request.pseudo_anomaly_data}: no system of this run takes pseudo-anomalies from other machine "
            f"types; leave the option out"
        )
    parts = {(p.job.machine_type, p.configured.trainer.name): p for resolved in jobs for p in resolved.parts}
    for resolved in parts.values():
        _ = resolved.clips  # too few clips or machine types are found before any work is done
    for of, wanted in by_data_set(
        source for resolved in parts.values() for source in resolved.machine_types_read
    ):
        feature_store.check_unchanged(of, of.clips.filter(pl.col("machine_type").is_in(wanted)))
    return jobs


def _machine_types(data: DataSet, request: RunRequest) -> list[str]:
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


def by_data_set(sources: Iterable[tuple[DataSet, Wanted]]) -> list[tuple[DataSet, list[Wanted]]]:
    """Group what is wanted by its data set, each thing once."""
    grouped: dict[str, tuple[DataSet, dict[Wanted, None]]] = {}
    for data, wanted in sources:
        grouped.setdefault(data.name, (data, {}))[1][wanted] = None
    return [(data, list(wanted)) for data, wanted in grouped.values()]
