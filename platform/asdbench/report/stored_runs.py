"""The stored scores that a report is made of: of named systems, with settings and seeds, or a clear error.

What is asked for here must have been run; nothing is trained or scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asdbench import registry
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError


@dataclass(frozen=True)
class StoredRunOptions:
    """With which settings the systems ran: as ``asdbench run`` takes them.

    Attributes
    ----------
    preset, values
        Named settings, and settings by name; each goes to the systems that have it.
    pseudo_anomaly_data
        The data set whose machine types served as pseudo-anomalies, if another.
    """

    preset: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    pseudo_anomaly_data: str | None = None


def scored_jobs(
    systems: Sequence[str],
    data: DataSet,
    store: JobStore,
    *,
    seeds: Sequence[int],
    machine_types: Sequence[str],
    settings: StoredRunOptions,
) -> dict[str, dict[int, dict[str, ResolvedJob]]]:
    """Return the scored jobs by system, seed and machine type.

    Raises :class:`InputError` for a system, setting or preset that does not exist, and where a job has not
    been scored with data and code of now.
    """
    if not seeds:
        raise InputError("no seed is given; --seeds takes one or more whole numbers")
    found: dict[str, dict[int, dict[str, ResolvedJob]]] = {}
    each = registry.configure_each(systems, settings.values, preset=settings.preset)
    for name, configured in each.items():
        for seed in seeds:
            for machine_type in machine_types:
                resolved = ResolvedJob.from_configured(
                    configured,
                    data,
                    machine_type,
                    seed=seed,
                    pseudo_anomaly_data=settings.pseudo_anomaly_data,
                )
                if not store.is_scored(resolved):
                    raise InputError(
                        f"there are no scores of {name} on {machine_type} of data set {data.name!r} with "
                        f"seed {seed} and these settings; 'asdbench run {name} --data {data.name} "
                        f"--seeds {seed}' makes them"
                    )
                found.setdefault(name, {}).setdefault(seed, {})[machine_type] = resolved
    return found
