"""What a user asks of a search, and the studies that it makes."""

from collections.abc import Sequence
from dataclasses import dataclass

from asdbench.config import Affects
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import labeled_clips, labeled_types, result_key
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError, unknown_name
from asdbench.search.space import space_of
from asdbench.search.studies import Study

PROTOCOLS = ("dev", "leave-one-type-out")


@dataclass(frozen=True)
class Search:
    """How systems are tuned.

    Attributes
    ----------
    trials : of each study; the first is the system untuned
    affects : the most that a change of a setting may cost: ``"training"``, ``"scoring"`` or ``"fusion"`` anew
    over : names of the settings to search; all that preset and user leave open if empty
    protocol : ``"dev"``: one study over all machine types; ``"leave-one-type-out"``: for each machine type
        one over all others, judged on the one left out
    seed : of the search
    """

    trials: int
    affects: Affects = "training"
    over: Sequence[str] = ()
    protocol: str = "dev"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trials < 0:
            raise InputError(f"--trials {self.trials} must be at least 0; 0 means untuned")
        if self.seed < 0:
            raise InputError(f"--search-seed {self.seed} must be at least 0")
        if self.protocol not in PROTOCOLS:
            raise unknown_name("protocol", self.protocol, PROTOCOLS)


def steering_types(data: DataSet, machine_types: Sequence[str], *, subset: str | None) -> tuple[str, ...]:
    """Return those of the machine types whose development labels may steer a search, sorted.

    Raises :class:`InputError` where there is none, or where ``subset`` asks for the evaluation subset.
    """
    if subset == "eval":
        raise InputError(
            "--subset eval cannot steer a search: only development labels may; leave --subset out, and what "
            "was found is run on the evaluation subset too"
        )
    found = tuple(m for m in labeled_types(data, subset="dev") if m in machine_types)
    if not found:
        raise InputError(
            f"no machine type of data set {data.name!r} that is asked for has a development test clip with a "
            f"known label, and only those may steer a search; 'asdbench data labels' adds labels, --trials 0 "
            f"leaves the search out"
        )
    return found


def studies_of(
    jobs: Sequence[ResolvedJob], search: Search, *, fixed: Sequence[str], subset: str | None = None
) -> list[Study]:
    """Return the studies of one system.

    Parameters
    ----------
    jobs : of the system untuned: one for each machine type and seed
    search : how it is tuned
    fixed : names of settings that preset or user have fixed
    subset : the subset that the user asked for

    Raises
    ------
    InputError
        No development label may steer it, the system has nothing to search, or a single machine type is to be
        left out.
    """
    first = jobs[0]
    data = first.data
    types = steering_types(data, [resolved.job.machine_type for resolved in jobs], subset=subset)
    space = space_of(first.configured, fixed=fixed, affects=search.affects, over=search.over)
    leave_out = search.protocol == "leave-one-type-out"
    if leave_out and len(types) < 2:
        raise InputError(
            f"--protocol leave-one-type-out needs two machine types with development labels; data set "
            f"{data.name!r} has {types[0]!r} alone"
        )
    labeled = labeled_clips(data, subset="dev")
    studies = []
    for held_out in types if leave_out else (None,):
        own = [p for p in jobs if p.job.machine_type in types and p.job.machine_type != held_out]
        truths = {m: labeled.filter(labeled["machine_type"] == m) for m in types}
        untuned = sorted(result_key(p, truths[p.job.machine_type], subset="dev") for p in own)
        studies.append(
            Study(
                space,
                data,
                first.job.pseudo_anomaly_data,
                machine_types=tuple(m for m in types if m != held_out),
                seeds=tuple(dict.fromkeys(p.job.seed for p in jobs)),
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
        )
    return studies
