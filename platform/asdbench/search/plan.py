"""The search that a user asks for, and the studies that it consists of."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from asdbench.config import Affects
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import labeled_clips, labeled_types, result_key
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError, unknown_name
from asdbench.search.space import Space
from asdbench.search.studies import Study

PROTOCOLS = ("dev", "leave-one-type-out")


@dataclass(frozen=True)
class Search:
    """How to tune systems.

    Attributes
    ----------
    trials : number of trials per study; the first is the untuned system
    max_cost : the most that changing a setting may require: ``"training"``, ``"scoring"`` or ``"fusion"``
    only_settings : names of the settings to search; if empty, all that neither preset nor user fixes
    protocol : ``"dev"`` for one study over all machine types; ``"leave-one-type-out"`` for one study per
        machine type, over all others, evaluated on the type that it leaves out
    seed : of the search
    fresh_seeds : number of seeds, not seen by the search, with which what it found is scored; 0 for none

    >>> Search(trials=-1)
    Traceback (most recent call last):
    ...
    asdbench.errors.InputError: --trials -1 is negative; give the number of trials, or 0 to run untuned
    """

    trials: int
    max_cost: Affects = "training"
    only_settings: Sequence[str] = ()
    protocol: str = "dev"
    seed: int = 0
    fresh_seeds: int = 3

    def __post_init__(self) -> None:
        if self.trials < 0:
            raise InputError(
                f"--trials {self.trials} is negative; give the number of trials, or 0 to run untuned"
            )
        if self.seed < 0:
            raise InputError(f"--search-seed {self.seed} is negative; give a whole number from 0")
        if self.fresh_seeds < 0:
            raise InputError(
                f"--fresh-seeds {self.fresh_seeds} is negative; give the number of seeds, or 0 for none"
            )
        if self.protocol not in PROTOCOLS:
            raise unknown_name("protocol", self.protocol, PROTOCOLS)


class NoSteeringLabels(InputError):
    """No development label of the requested machine types is known, so that no search is possible."""


def steering_types(data: DataSet, machine_types: Sequence[str], *, subset: str | None) -> tuple[str, ...]:
    """Return those of the machine types whose development labels may steer a search, sorted.

    Raises :class:`NoSteeringLabels` if there is none, and :class:`InputError` if ``subset`` is the
    evaluation subset.
    """
    if subset == "eval":
        raise InputError(
            "--subset eval cannot steer a search, because only development labels may; drop --subset, and "
            "the settings found are run on the evaluation subset too"
        )
    types = tuple(name for name in labeled_types(data, subset="dev") if name in machine_types)
    if not types:
        raise NoSteeringLabels(
            f"data set {data.name!r} has no labeled development test clip of the requested machine types, "
            f"and only those may steer a search"
        )
    return types


def studies_for_system(
    jobs: Sequence[ResolvedJob], search: Search, *, fixed: Sequence[str], subset: str | None = None
) -> list[Study]:
    """Return the studies of one system.

    Parameters
    ----------
    jobs : of the untuned system, one for each machine type and seed
    search : how to tune it
    fixed : names of settings that preset or user fix
    subset : the subset that the user asked for

    Raises
    ------
    InputError
        No development label may steer the search, the system has nothing to search, or its only machine type
        would be left out.
    """
    first = jobs[0]
    data = first.data
    types = steering_types(data, [resolved.job.machine_type for resolved in jobs], subset=subset)
    space = Space.from_configured(
        first.configured, fixed=fixed, max_cost=search.max_cost, only_settings=search.only_settings
    )
    labeled = labeled_clips(data, subset="dev")
    if search.protocol == "dev":
        return [_study(jobs, search, space, types, labeled, held_out=None)]
    if len(types) < 2:
        raise InputError(
            f"--protocol leave-one-type-out needs at least two machine types with development labels, and "
            f"data set {data.name!r} has only {types[0]!r}; use --protocol dev"
        )
    return [_study(jobs, search, space, types, labeled, held_out=held_out) for held_out in types]


def _study(
    jobs: Sequence[ResolvedJob],
    search: Search,
    space: Space,
    types: Sequence[str],
    labeled: pl.DataFrame,
    *,
    held_out: str | None,
) -> Study:
    """Return the study over all machine types but ``held_out``."""
    first = jobs[0]
    steering = tuple(name for name in types if name != held_out)
    by_type = {name: labeled.filter(pl.col("machine_type") == name) for name in steering}
    untuned = sorted(
        result_key(resolved, by_type[resolved.job.machine_type], subset="dev")
        for resolved in jobs
        if resolved.job.machine_type in by_type
    )
    return Study(
        space,
        first.data,
        first.job.pseudo_anomaly_data,
        machine_types=steering,
        seeds=tuple(dict.fromkeys(resolved.job.seed for resolved in jobs)),
        seed=search.seed,
        protocol=search.protocol,
        held_out=held_out,
        description={
            "untuned": untuned,
            "space": space.describe(),
            "seed": search.seed,
            "protocol": search.protocol,
            "held_out": held_out,
        },
    )
