"""The stored scores that a report needs, selected by system, settings and seeds.

Nothing is trained or scored here; scores that are missing are an error that gives the command to run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from asdbench import registry
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.commands import run_command
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError


@dataclass(frozen=True)
class StoredRunOptions:
    """The settings that the systems were run with, as ``asdbench run`` takes them.

    Attributes
    ----------
    preset, values
        The preset, and settings by name; each is passed to the systems that have it.
    pseudo_anomaly_data
        The data set whose machine types served as pseudo-anomalies, if a different one.
    """

    preset: str | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    pseudo_anomaly_data: str | None = None

    def for_systems(self, systems: Iterable[registry.Configured]) -> "StoredRunOptions":
        """Return these options without the data set of pseudo-anomalies if no system takes any."""
        if any(system.takes_pseudo_anomalies() for system in systems):
            return self
        return replace(self, pseudo_anomaly_data=None)

    def run_command(self, systems: Sequence[str], data: str, seeds: Sequence[int]) -> str:
        """Return the command that runs systems with these settings.

        >>> StoredRunOptions("fast", {"epochs": 30}).run_command(["baseline-mse"], "demo", [0, 1])
        'asdbench run baseline-mse --data demo --seeds 0 1 --preset fast --set epochs=30'
        """
        return run_command(
            systems,
            data,
            seeds=seeds,
            settings=self.values,
            preset=self.preset,
            pseudo_anomaly_data=self.pseudo_anomaly_data,
        )


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

    Raises :class:`InputError` for a system, setting or preset that does not exist, and for a job that has not
    been scored with the current data and code.
    """
    if not seeds:
        raise InputError("no seed is given; --seeds takes one or more whole numbers")
    jobs: dict[str, dict[int, dict[str, ResolvedJob]]] = {}
    each = registry.configure_each(systems, settings.values, preset=settings.preset)
    snapshot = store.snapshot()
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
                if not snapshot.is_scored(resolved):
                    command = settings.for_systems(each.values()).run_command(systems, data.name, seeds)
                    raise InputError(
                        f"there are no scores of {name} on {machine_type} of data set {data.name!r} with "
                        f"seed {seed} and these settings; run {command!r}"
                    )
                jobs.setdefault(name, {}).setdefault(seed, {})[machine_type] = resolved
    return jobs
